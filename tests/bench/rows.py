"""One function per row of the table. Each measures the service and its peer in turn, and gives back a Row."""

import collections
import http.client
import json
import os
import re
import signal
import subprocess
import tempfile
import threading
import time

from programs import (BENCH, EventCounter, Followers, Program, Service, bare_launch, bare_sqlite, median, wrk)

MIB = 1 << 20
HEARTBEAT_S = 5

# `figure` is what the limits are about: a ratio, or a quantity in `unit`. `larger` says which way is better.
Row = collections.namedtuple("Row", "name ours peer figure unit larger least aim notes")


class Options(collections.namedtuple("Options", "runs quick")):
    def seconds(self, full):
        return 1 if self.quick else full


def evaluation(size, **members):
    """A submission of so many bytes."""
    body = {"language": "python", **members, "code": ""}
    body["code"] = "print('hello, world')" + "#" * (size - len(json.dumps(body)) - 21)
    return body


def files(directory, **texts):
    for name, text in texts.items():
        with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
            file.write(text)
    return {name: os.path.join(directory, name) for name in texts}


def alternate(options, *measures):
    """Calls each measure in turn, `runs` times, after one round that does not count. A list of results per measure."""
    results = [[] for _ in measures]
    for turn in range(options.runs + (0 if options.quick else 1)):
        for measure, kept in zip(measures, results):
            result = measure()
            if turn > 0 or options.quick:
                kept.append(result)
    return results


def ratios(ours, peers):
    return median([mine / other for mine, other in zip(ours, peers)])


def spread(values):
    return f"{min(values):,.0f}–{max(values):,.0f}"


# ---- the HTTP front ----


def load_of(options, program, path, load):
    """What wrk measured, and what a request costs the server in microseconds of processor time."""
    before = program.cpu_s()
    measured = wrk(program.port, path, 64, options.seconds(3), core=1, **load)
    return measured, (program.cpu_s() - before) / measured.requests * 1e6


def http_row(options, name, service, bare, path, load):
    ours, peers = alternate(options, lambda: load_of(options, service, path, load),
        lambda: load_of(options, bare, path, load))
    rates = [[run.rate for run, _ in runs] for runs in (ours, peers)]
    p99 = [median([run.p99_us for run, _ in runs]) / 1000 for runs in (ours, peers)]
    cpu = [median([cost for _, cost in runs]) for runs in (ours, peers)]
    return Row(name, f"{median(rates[0]):,.0f}/s, p99 {p99[0]:.1f} ms", f"{median(rates[1]):,.0f}/s, p99 {p99[1]:.1f} ms",
        ratios(*rates), "×", True, 0.5, 0.7,
        f"server on core 0, wrk on core 1; a request takes {cpu[0]:.1f} µs of the server's processor, {cpu[1]:.1f} µs of "
        f"the peer's: {cpu[1] / cpu[0]:.2f}×; runs {spread(rates[0])}, peer {spread(rates[1])}")


def status(options):
    jobs = 200 if options.quick else 1000
    with Service("--executors", "noop", core=0) as service, \
            Program([os.path.join(BENCH, "bare_http")], port_on_stdout=True, core=0) as bare, \
            tempfile.TemporaryDirectory() as directory:
        counter = EventCounter(service.port)
        _, names = service.submit([evaluation(600)] * jobs)
        counter.wait_for(jobs)
        counter.close()
        paths = files(directory, paths="\n".join("/status/" + name for name in names))["paths"]
        return http_row(options, "GET /status/{job} of ended tasks, 64 connections", service, bare, "/",
            {"paths": paths})


def execute(options):
    with Program([os.path.join(BENCH, "api_instant")], port_on_stdout=True, core=0) as service, \
            Program([os.path.join(BENCH, "bare_http")], port_on_stdout=True, core=0) as bare, \
            tempfile.TemporaryDirectory() as directory:
        body = files(directory, body=json.dumps(evaluation(600)))["body"]
        return http_row(options, "POST /execute, a store that answers at once, 64 connections", service, bare,
            "/execute", {"method": "POST", "body": body})


# ---- submissions into SQLite ----


def blocked_service(*flags, environment=None):
    """A service whose only slot is taken: what is submitted is due and stays queued."""
    service = Service("--executors", "sandbox", "--sandbox-slots", "1", *flags, environment=environment)
    job = service.request("POST", "/execute", {"language": "bash", "code": "sleep 3600", "timeout": 3600})["job_name"]
    service.wait_until(lambda: service.request("GET", "/status/" + job)["phase"] == "running",
        "a job that takes the only slot")
    return service


def batches(options):
    items = 500
    with tempfile.TemporaryDirectory() as directory:
        body = files(directory, body=json.dumps([evaluation(600)] * items))["body"]

        def ours():
            with blocked_service() as service:
                return wrk(service.port, "/execute/batch", 4, options.seconds(4), "POST", body).rate * items

        mine, peers = alternate(options, ours, lambda: bare_sqlite(items, 10000 if options.quick else 100000)[0])
    return Row("durable submissions into SQLite, /execute/batch of 500", f"{median(mine):,.0f} rows/s",
        f"{median(peers):,.0f} rows/s", ratios(mine, peers), "×", True, 0.6, 0.8,
        f"4 connections; peer in batches of 500; runs {spread(mine)}, peer {spread(peers)}")


def singles(options):
    with tempfile.TemporaryDirectory() as directory:
        body = files(directory, body=json.dumps(evaluation(600)))["body"]

        def ours():
            with blocked_service() as service:
                return wrk(service.port, "/execute", 64, options.seconds(4), "POST", body).rate

        mine, peers = alternate(options, ours, lambda: bare_sqlite(64, 6400 if options.quick else 64000)[0])
    return Row("the same, one per request, 64 connections", f"{median(mine):,.0f} rows/s",
        f"{median(peers):,.0f} rows/s", ratios(mine, peers), "×", True, 0.35, 0.5,
        f"peer in batches of 64; runs {spread(mine)}, peer {spread(peers)}")


def latency(options):
    with tempfile.TemporaryDirectory() as directory, blocked_service() as service:
        body = files(directory, body=json.dumps(evaluation(600)))["body"]
        mine, peers = alternate(options,
            lambda: wrk(service.port, "/execute", 1, 1, "POST", body).p50_us / 1000,
            lambda: bare_sqlite(1, 200 if options.quick else 800)[1] / 1000)
    added = median([ours - peer for ours, peer in zip(mine, peers)])
    return Row("latency of one submission, one connection, p50", f"{median(mine):.2f} ms", f"{median(peers):.2f} ms",
        added, "ms more", False, 0.3, 0.15, "peer: one commit of one row by the bare program, p50")


# ---- evaluations ----

LANGUAGE = "nothing:\n  source: main\n  run: [/usr/bin/true]\n  package: coreutils\n"
# Two cores, so that what is measured is the launch and not the waiting for a processor quota; the peer has the same.
NOTHING = {"language": "nothing", "code": "-", "cpu_limit": "2"}


def evaluating_service(directory, executor, slots):
    languages = files(directory, languages=LANGUAGE)["languages"]
    return Service("--executors", executor, "--sandbox-slots", str(slots), "--languages", languages)


def evaluations(options):
    slots, count = 2 * (os.cpu_count() or 1), 80 if options.quick else 400
    with tempfile.TemporaryDirectory() as directory, evaluating_service(directory, "sandbox", slots) as service:

        def ours():
            begin = time.monotonic()
            target = service.metric("assay_tasks_ended_total") + count
            service.submit([NOTHING] * count)
            service.wait_until(lambda: service.metric("assay_tasks_ended_total") >= target, "all ends")
            return count / (time.monotonic() - begin)

        mine, peers = alternate(options, ours, lambda: bare_launch(slots, count)[0])
        if service.metric('assay_tasks_ended_total{reason="completed"}') < count * options.runs:
            service.fail("did not complete all evaluations")
    return Row("evaluations of `true`, submit to settled", f"{median(mine):.0f}/s", f"{median(peers):.0f}/s",
        ratios(mine, peers), "×", True, 0.8, 0.9,
        f"{slots} at a time; {count} submitted as one batch, until the last end is committed; the peer launches "
        f"the same in the same way; runs {spread(mine)}, peer {spread(peers)}")


def around(options):
    with tempfile.TemporaryDirectory() as directory, evaluating_service(directory, "sandbox", 1) as service, \
            evaluating_service(directory, "noop", 1) as noop:
        body = files(directory, body=json.dumps(NOTHING))["body"]
        wait = lambda of: wrk(of.port, "/execute?wait=60", 1, options.seconds(2), "POST", body).p50_us / 1000
        mine, peers, without = alternate(options, lambda: wait(service),
            lambda: bare_launch(1, 20 if options.quick else 100)[1], lambda: wait(noop))
        bad = service.metric("assay_tasks_ended_total") - service.metric('assay_tasks_ended_total{reason="completed"}')
        if bad:
            service.fail(f"did not complete {bad:.0f} evaluations")
    added = median([ours - peer for ours, peer in zip(mine, peers)])
    return Row("p50 latency added around the launch", f"{median(mine):.2f} ms", f"{median(peers):.2f} ms", added,
        "ms more", False, 3, 1, f"POST /execute?wait of `true`, one connection, one at a time, against one bare launch; with "
        f"the noop executor, which launches nothing, the same request takes {median(without):.2f} ms: the commits and the rest")


# ---- memory ----


def queue_rows(service, count):
    """Submits `count` small evaluations in batches of 500 over two connections."""
    body = json.dumps([{"language": "bash", "code": "true"}] * 500).encode()
    left = [count // 500]
    lock = threading.Lock()

    def work():
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
        while True:
            with lock:
                if left[0] == 0:
                    break
                left[0] -= 1
            connection.request("POST", "/execute/batch", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                service.fail(f"answered {answer.status} to a batch")
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def idle_memory(options):
    values = []
    for _ in range(options.runs):
        with Service("--executors", "sandbox") as service:
            service.request("GET", "/health")
            values.append(service.memory()[0] / MIB)
    return Row("memory: idle", f"{median(values):.1f} MiB", "", median(values), "MiB", False, 20, 12,
        "resident set of assayd with its defaults, shared libraries included")


def queue_memory(options):
    """The cache is set so small that what grows is not the cache."""
    most = 100_000 if options.quick else 1_000_000
    cache = 1
    with blocked_service("--sqlite-cache", f"{cache}Mi") as service:
        queue_rows(service, 1000)  # fills the cache and the allocator's pools, as any use does
        before = service.memory()[0]
        steps = []
        queued = 1000
        for rows in (10_000, most):
            queue_rows(service, rows - queued)
            queued = rows
            steps.append((rows, (service.memory()[0] - before) / MIB))
    growth = max(grown for _, grown in steps)
    text = ", ".join(f"{rows:,} queued: {grown:+.1f} MiB" for rows, grown in steps)
    return Row("memory: growth with queued tasks", text, f"{before / MIB:.1f} MiB with 1,000", growth, "MiB", False, 2, 2,
        f"resident set; SQLite's page cache set to {cache} MiB a connection and full before; submitted in batches of 500")


def follower_memory(options):
    count = 500 if options.quick else 2000
    values = []
    for _ in range(options.runs):
        with Service("--executors", "noop") as service:
            before = service.memory()[0]
            followers = Followers(service.port, "/events", count)
            service.submit([evaluation(600)] * 5)
            service.wait_until(lambda: service.metric("assay_tasks_ended_total") == 5, "five ends")
            time.sleep(0.2)
            values.append((service.memory()[0] - before) / 1024 / count)
            followers.close()
    return Row("memory of an SSE follower", f"{median(values):.1f} KiB", "", median(values), "KiB", False, 8, 4,
        f"growth of the resident set by {count:,} followers of GET /events that have been sent 15 events each; without the "
        "kernel's sockets")


# ---- idling ----

SLEEP_BEGINS = re.compile(r"^(\d+) +[\d:.]+ (epoll_p?wait|futex)\((.*)$")
SLEEP_ENDS = re.compile(r"^(\d+) +[\d:.]+ <\.\.\. (?:epoll_p?wait|futex) resumed>(.*)$")


def count_wakes(lines, loop):
    """Of a trace by strace -f: how often the loop's thread woke by a timer and by an event, and how often other threads were
    woken. What did not sleep (a time-out of 0, a lock that was free) is no wake-up."""
    timers = events = threads = 0
    begun = {}
    for line in lines:
        starts, ends = SLEEP_BEGINS.match(line), SLEEP_ENDS.match(line)
        if starts and "<unfinished" in line:
            begun[starts.group(1)] = starts.group(3)
            continue
        if not starts and not ends:
            continue
        thread = (starts or ends).group(1)
        call = starts.group(3) if starts else begun.pop(thread, "") + ends.group(2)
        polled = re.search(r"(-?\d+)(?:, NULL, \d+)?\) = (\d+)", call)
        if int(thread) != loop:
            threads += "FUTEX_WAIT_BITSET" in call and call.rstrip().endswith("= 0")
        elif polled and "FUTEX" not in call and polled.group(1) != "0":
            timers += polled.group(2) == "0"
            events += polled.group(2) != "0"
    return timers, events, threads


def wake_ups(options):
    seconds = 20 if options.quick else 60
    with Service("--executors", "sandbox") as service:
        claims = lambda: service.metric('assay_store_batches_total{operation="claim"}')
        time.sleep(2)
        before = claims()
        time.sleep(2)
        trace = os.path.join(service.directory, "trace")
        strace = subprocess.Popen(["strace", "-f", "-tt", "-o", trace, "-p", str(service.process.pid)],
            stderr=subprocess.DEVNULL)
        time.sleep(seconds)
        strace.send_signal(signal.SIGINT)
        strace.wait()
        claimed = claims() - before
        with open(trace, encoding="utf-8", errors="replace") as lines:
            timers, events, threads = count_wakes(lines, service.process.pid)
    expected = seconds / HEARTBEAT_S + claimed + 1  # one more, since a minute may begin just before a heartbeat
    return Row("wake-ups while idle", f"{timers} by timers in {seconds} s",
        f"{seconds // HEARTBEAT_S} heartbeats, {claimed:.0f} net claims", timers, "wake-ups", False, expected, expected,
        f"strace -f: the loop woke {timers} times by a timer, and {events} times because its store's threads had done what it "
        f"asked, for which these were woken {threads} times")


EMBEDDED = {"status": status, "execute": execute, "batches": batches, "singles": singles, "latency": latency,
    "evaluations": evaluations, "around": around, "idle-memory": idle_memory, "queue-memory": queue_memory,
    "follower-memory": follower_memory, "wake-ups": wake_ups}
