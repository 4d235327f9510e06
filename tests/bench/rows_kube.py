"""The rows of the executor on Kubernetes. The API server is the tests' stand-in (tests/kubernetes/standin.py) over TLS, on a core of its own;
wrappers are played where no pod runs, and the real one runs in a container without a cluster."""

import collections
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

import servers
from kubernetes import client
from kubernetes.cluster import StandIn
from kubernetes.reports import Reporter, task_of
from programs import BENCH, BUILD, PATIENCE_S, ROOT, SOURCE, Program, Service, median, pinned
from rows import MIB, Row, alternate, evaluation, ratios, spread
from rows_postgres import RATE, bare_postgres, fresh, percentile

KEY = "the service's key"
NAMESPACE = "bench"
EVENTS_A_SECOND = 5000
WAVE = 50  # as many as are starting side by side by default
SELECTOR = "app=evaluation,app.kubernetes.io/instance=assay"

World = collections.namedtuple("World", "standin api kubeconfig ca")


# ---- the world ----


def certificate(directory):
    """Files of a certificate for this machine, and of its key."""
    names = [os.path.join(directory, name) for name in ("certificate.pem", "key.pem")]
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
        "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-out", names[0], "-keyout", names[1]], check=True,
        stderr=subprocess.DEVNULL)
    return names


@contextlib.contextmanager
def cluster(end="never"):
    """A stand-in with a namespace; what becomes of its pods says `end`."""
    with tempfile.TemporaryDirectory(prefix="assay-bench-") as directory:
        ca, key = certificate(directory)
        with StandIn("--certificate", ca, "--key", key) as standin:
            if (os.cpu_count() or 1) > 1:
                os.sched_setaffinity(standin.process.pid, {1})
            standin.control("settings", {"events": False})
            standin.control("script", {"end": end})
            standin.admin.create("namespaces", {"metadata": {"name": NAMESPACE}})
            kubeconfig = client.write_kubeconfig(os.path.join(directory, "kubeconfig"), standin.url, ca, "any",
                namespace=NAMESPACE)
            yield World(standin, standin.admin.another(namespace=NAMESPACE), kubeconfig, ca)


def make_polite(standin):
    """It stands for another machine: it takes no processor from those whose time is measured."""
    for thread in os.listdir(f"/proc/{standin.process.pid}/task"):
        os.sched_setscheduler(int(thread), os.SCHED_IDLE, os.sched_param(0))


class Dispatcher(Service):
    """The service on it."""

    def __init__(self, world, slots, *flags, **environment):
        self.reports = servers.free_port()
        super().__init__("--log-level", "warning", "--executors", "kubernetes", "--kubeconfig", world.kubeconfig, "--kube-slots",
            str(slots), "--kube-starting", str(slots), "--attempt-listen", f"127.0.0.1:{self.reports}", "--attempt-address",
            "127.0.0.1", "--kube-reconcile", "0", *flags, core=0, environment={"ASSAY_ATTEMPT_KEY": KEY, **environment})
        self.world = world
        self.wait_until(lambda: self.metric("assay_executor_up") == 1, "the API server")

    def run(self, count):
        """So many evaluations, in waves, until each has its Job and its Secret; their tasks."""
        tasks = []
        while len(tasks) < count:
            _, names = self.submit([evaluation(600)] * min(WAVE, count - len(tasks)))
            tasks += [task_of(name) for name in names]
            self.wait_until(lambda: self.world.standin.counts().get("create secrets", 0) >= len(tasks), "Jobs and Secrets")
        return tasks

    def reporter(self, task):
        return Reporter(KEY.encode(), task)


def settled(count):
    """A number that does not change any more."""
    while True:
        before = count()
        time.sleep(0.5)
        if count() == before:
            return before


# ---- ten thousand Jobs, five thousand events a second ----


def feed(world, count, rate):
    """So many changes of pods to the watches; how long it took."""
    return world.standin.control("feed", {"resource": "pods", "namespace": NAMESPACE, "count": count, "rate": rate})["took"]


def fed_service(service, count):
    """Processor seconds for so many events at the wanted rate, and how long these took. Where the watch began anew meanwhile, as it does
    every two minutes, some went to nobody: once more."""
    events = lambda: service.metric("assay_kubernetes_watch_events_total")
    while True:
        wanted, before = settled(events) + count, service.cpu_s()
        took = feed(service.world, count, EVENTS_A_SECOND)
        if settled(events) >= wanted:
            return service.cpu_s() - before, took


def watch_url(world, resource="pods"):
    path = client.path_of(resource, NAMESPACE)
    version = world.api.list(resource, limit=1)["metadata"]["resourceVersion"]
    return f"{world.standin.url}{path}?" + urllib.parse.urlencode(
        {"watch": 1, "resourceVersion": version, "labelSelector": SELECTOR})


def wait_watches(world, count):
    """Of pods; the service has one."""
    deadline = time.monotonic() + PATIENCE_S
    while world.standin.control("streams", method="GET")["pods"] != count:
        if time.monotonic() > deadline:
            raise SystemExit(f"bench: waited in vain: {count} watches of pods")
        time.sleep(0.01)


def curl_watch(world, resource="pods", stdout=subprocess.DEVNULL):
    return subprocess.Popen(["curl", "-sN", "--cacert", world.ca, watch_url(world, resource)], stdout=stdout)


class Curl(Program):
    """`curl -N` on the pods' watch."""

    def __init__(self, world):
        self.world = world
        self.process = curl_watch(world)
        wait_watches(world, 2)

    def stop(self):
        self.process.kill()
        self.process.wait()
        wait_watches(self.world, 1)


def fed_curl(world, count):
    with Curl(world) as curl:
        feed(world, count, EVENTS_A_SECOND)
        time.sleep(0.2)  # what is in the sockets' buffers
        return curl.cpu_s() / count * 1e6


def fed_python(world, count):
    """Microseconds of the processor per event, and which client it was."""
    with subprocess.Popen([*pinned(0), "/usr/bin/python3", os.path.join(SOURCE, "peers", "kube_watch.py"), world.kubeconfig, world.ca,
            NAMESPACE, SELECTOR, str(count)], stdout=subprocess.PIPE, text=True) as peer:
        wait_watches(world, 2)
        feed(world, count, 0)
        told = json.loads(peer.stdout.readline())
    wait_watches(world, 1)
    return told["cpu_us"], told["client"]


def tracked(options):
    jobs, events = (300, 5000) if options.quick else (10000, EVENTS_A_SECOND * 10)
    with cluster() as world, Dispatcher(world, jobs) as service:
        service.run(jobs)
        settled(lambda: service.metric("assay_kubernetes_watch_events_total"))
        memory, own = service.memory()
        runs, curls, pythons = alternate(options, lambda: fed_service(service, events), lambda: fed_curl(world, events),
            lambda: fed_python(world, events // 10))
        size = len(json.dumps(world.api.list("pods", limit=1)["items"][0], separators=(",", ":")))
    share = median([cpu / took for cpu, took in runs])
    cost = median([cpu / events * 1e6 for cpu, _ in runs])
    curl, python = median(curls), median([cpu for cpu, _ in pythons])
    rate = median([events / took for _, took in runs])
    notes = f"pods of {size:,} bytes, each an event of one that has not changed for us"
    return [
        Row(f"{jobs:,} active Jobs tracked", f"{memory / MIB:.1f} MiB", "", memory / MIB, "MiB", False, 64, 48,
            f"resident memory of the whole service with SQLite, evaluations of 600 bytes; {own / MIB:.1f} MiB of it its own"),
        Row("5,000 watch events a second, over TLS", f"{share:.2f} cores at {rate:,.0f}/s", f"curl {curl * rate / 1e6:.2f} cores", share,
            "cores", False, 0.5, 0.25, notes),
        Row("a watch event, processor time", f"{cost:.1f} µs", f"{pythons[0][1]} {python:,.0f} µs", cost, "µs", False, 25, 15,
            f"{notes}; the Python client takes {python / cost:.0f} times as much, curl -N, which throws them away, {curl:.1f} µs"),
    ]


# ---- creation ----


def created(standin):
    """Requests/s that create Jobs and Secrets, from the first to the last."""
    times, counts = standin.control("times", method="GET"), standin.counts()
    begin, end = times["create jobs"][0], times["create secrets"][1]
    return (counts["create jobs"] + counts["create secrets"]) / (end - begin)


def created_by_service(count, directory):
    """And leaves the objects of one of them for the peer."""
    with cluster() as world, Dispatcher(world, count) as service:
        service.submit([evaluation(600)] * min(count, 10000))
        service.wait_until(lambda: world.standin.counts().get("create secrets", 0) >= count, "Jobs and Secrets")
        rate = created(world.standin)
        for resource in ("jobs", "secrets"):
            item = world.api.list(resource, limit=1)["items"][0]
            name = item["metadata"]["name"]
            item["metadata"] = {key: value for key, value in item["metadata"].items() if key in ("labels", "annotations", "name")}
            item.pop("status", None)
            item.get("spec", {}).pop("selector", None)
            labels = item.get("spec", {}).get("template", {}).get("metadata", {}).get("labels", {})
            for key in ("controller-uid", "job-name"):
                labels.pop(key, None)
            text = json.dumps(item).replace(name, "NAMEOFTHEOBJECT")
            with open(os.path.join(directory, resource), "w", encoding="utf-8") as file:
                file.write(text)
    return rate


@contextlib.contextmanager
def watched(world):
    """Both watches, as the service has them: the stand-in has as much to do."""
    watches = [curl_watch(world, resource) for resource in ("jobs", "pods")]
    try:
        wait_watches(world, 1)
        yield
    finally:
        for watch in watches:
            watch.kill()
            watch.wait()


def created_by_wrk(count, directory):
    with cluster() as world, watched(world):
        host = urllib.parse.urlsplit(world.standin.url).netloc
        load = subprocess.Popen([*pinned(0), "wrk", "-t1", "-c64", f"-d{PATIENCE_S}s", "--timeout", "30s", "-s",
            os.path.join(SOURCE, "kube_create.lua"), f"https://{host}", "--", directory, client.path_of("jobs", NAMESPACE),
            client.path_of("secrets", NAMESPACE), str(count)], stdout=subprocess.DEVNULL)
        while load.poll() is None and world.standin.counts().get("create secrets", 0) < count:
            time.sleep(0.02)
        load.send_signal(signal.SIGINT)  # it would wait until its time is over
        load.wait()
        return created(world.standin)


def create(options):
    count = 200 if options.quick else 2000
    with tempfile.TemporaryDirectory() as directory:
        mine, peers = alternate(options, lambda: created_by_service(count, directory), lambda: created_by_wrk(count, directory))
    return Row(f"{count:,} evaluations created: Job and Secret", f"{median(mine):,.0f} requests/s", f"{median(peers):,.0f} requests/s",
        ratios(mine, peers), "×", True, 0.9, 1.0, "from the first request to the last, as the stand-in saw them, which bounds both; "
        f"peer: wrk with 64 connections that posts the same objects, two curl that watch; runs {spread(mine)}, peer {spread(peers)}")


def limited(options):
    rate, count = 100, 300
    with cluster() as world, Dispatcher(world, count, "--kube-rate", str(rate)) as service:

        def asked():
            counts = world.standin.counts()
            return counts.get("create jobs", 0) + counts.get("create secrets", 0), time.monotonic()

        def at(wanted):
            service.wait_until(lambda: asked()[0] >= wanted, "requests")
            return asked()

        service.submit([evaluation(600)] * count)
        first, last = at(2 * rate), at(2 * count - rate // 2)
    reached = (last[0] - first[0]) / (last[1] - first[1])
    off = abs(reached / rate - 1) * 100
    return Row("a limit of 100 requests/s", f"{reached:.1f} requests/s", f"{rate} requests/s", off, "% off", False, 5, 2,
        "Jobs and Secrets that are created, counted at the stand-in after the first burst")


def requests(options):
    count = 10 if options.quick else 100
    with cluster() as world, Dispatcher(world, count) as service:
        world.standin.control("reset")
        for task in service.run(count):
            with service.reporter(task) as wrapper:
                wrapper.post(service.reports, wrapper.started() + wrapper.output(b"hello\n") + wrapper.ended())
        service.wait_until(lambda: world.standin.counts().get("delete jobs", 0) >= count, "deletions")
        counts = {what: number for what, number in world.standin.counts().items() if not what.startswith("watch ")}
    each = sum(counts.values()) / count
    told = ", ".join(f"{number / count:g} {what}" for what, number in sorted(counts.items()))
    return Row("requests to the API server per evaluation", f"{each:g}", "", each, "requests", False, 3, 3,
        f"counted at the stand-in beside the shared watches: {told}")


# ---- to the subscriber ----


@contextlib.contextmanager
def subscriber(redis, count):
    """What came at a subscriber of Redis: a dictionary of tasks, filled when the block is left."""
    heard = {}
    with subprocess.Popen([os.path.join(BENCH, "bare_redis"), f"127.0.0.1:{redis.port}", redis.password, str(count)],
            stdout=subprocess.PIPE, text=True) as process:
        if process.stdout.readline() != "ready\n":
            raise SystemExit("bench: the subscriber did not connect")
        patience = threading.Timer(PATIENCE_S, process.kill)
        patience.start()
        yield heard
        for at, payload in (line.split(" ", 1) for line in process.stdout):
            heard[json.loads(payload)["task_id"]] = float(at)
        patience.cancel()
    if len(heard) < count:
        raise SystemExit(f"bench: the subscriber heard of {len(heard)} ends of {count}")


def paced(tasks, rate, one):
    """Calls one(task) so often a second; when each was called."""
    times, begin = {}, time.monotonic()
    for i, task in enumerate(tasks):
        time.sleep(max(0, begin + i / rate - time.monotonic()))
        times[task] = time.time()
        one(task)
    return times


def p99_ms(sent, heard):
    return percentile([(heard[task] - sent[task]) * 1000 for task in sent], 0.99)


def reported(server, redis, options):
    """p99 from before the wrapper's last bytes are sent to the message at a subscriber of Redis."""
    count = int(options.seconds(10) * RATE)
    with fresh(server) as database, cluster() as world, \
            Dispatcher(world, count, ASSAY_DATABASE_URL=database.socket_url, REDIS_URL=redis.url) as service:
        make_polite(world.standin)
        wrappers = {task: service.reporter(task) for task in service.run(count)}
        for wrapper in wrappers.values():
            wrapper.post(service.reports, wrapper.started() + wrapper.output(b"hello\n"))
        with subscriber(redis, count) as heard:
            sent = paced(wrappers, RATE, lambda task: wrappers[task].post(service.reports, wrappers[task].ended()))
        for wrapper in wrappers.values():
            wrapper.close()
    return p99_ms(sent, heard)


def report(options):
    with servers.PostgreSQL() as server, servers.Redis() as redis:
        mine, peers = alternate(options, lambda: reported(server, redis, options),
            lambda: bare_postgres(server, "latency", options.seconds(10) * RATE, 1, 1)[1])
    added = median([ours - peer for ours, peer in zip(mine, peers)])
    return Row("from the wrapper's last bytes to a subscriber of Redis at 50/s, p99", f"{median(mine):.2f} ms", f"{median(peers):.2f} ms",
        added, "ms more", False, 3, 1.5, "peer: p99 of the commit of one row at the same rate; "
        f"runs {min(mine):.1f}–{max(mine):.1f} ms, peer {min(peers):.1f}–{max(peers):.1f} ms")


class TimedCurl(Curl):
    """`curl -N` on the pods' watch, and when it told of the end of each."""

    def __init__(self, world, path):
        self.world, self.path = world, path
        self.process = curl_watch(world, stdout=subprocess.PIPE)
        with open(path, "wb") as file:
            self.reader = subprocess.Popen([sys.executable, os.path.join(SOURCE, "peers", "kube_times.py")],
                stdin=self.process.stdout, stdout=file)
        self.process.stdout.close()
        wait_watches(world, 2)

    def stop(self):
        super().stop()
        self.reader.wait()

    def times(self):
        with open(self.path, encoding="ascii") as lines:
            return {task: float(at) for at, task in (line.split() for line in lines)}


def end_pod(api, name, message):
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    api.patch("pods", name, {"status": {"phase": "Succeeded", "containerStatuses": [{
        "name": "evaluation", "image": "", "imageID": "", "restartCount": 0, "ready": False, "state": {"terminated": {
            "exitCode": 0, "reason": "Completed", "startedAt": now, "finishedAt": now, "message": message}}}]}}, "status")


def seen(server, redis, options):
    """p99 from before a pod's status is written to the message at a subscriber, and to the line that curl prints."""
    count = int(options.seconds(10) * RATE / 2)
    with fresh(server) as database, cluster("untouched") as world, \
            Dispatcher(world, count, ASSAY_DATABASE_URL=database.socket_url, REDIS_URL=redis.url) as service, \
            tempfile.TemporaryDirectory() as directory:
        tasks = service.run(count)
        settled(lambda: service.metric("assay_kubernetes_watch_events_total"))
        pods = {item["metadata"]["labels"]["assay.dev/task"]: item["metadata"]["name"] for item in world.api.list("pods")["items"]}
        with TimedCurl(world, os.path.join(directory, "times")) as curl:
            with subscriber(redis, count) as heard:
                sent = paced(tasks, RATE / 2, lambda task: end_pod(world.api, pods[task], service.reporter(task).message()))
            time.sleep(0.5)  # the last lines on their way from curl
            curl.stop()
            return p99_ms(sent, heard), p99_ms(sent, curl.times())


def pod(options):
    with servers.PostgreSQL() as server, servers.Redis() as redis:
        runs, = alternate(options, lambda: seen(server, redis, options))
    added = median([ours - curl for ours, curl in runs])
    return Row("from a pod's status at the API server to a subscriber of Redis at 25/s, p99", f"{median([ours for ours, _ in runs]):.2f} ms",
        f"{median([curl for _, curl in runs]):.2f} ms", added, "ms more", False, 10, 5,
        "with the report in the status; PostgreSQL with its defaults; peer: `curl -N` on the same watch, its lines timed by a Python "
        "process behind it")


# ---- the wrapper ----


def wrapped_world():
    """The tests' containers, which run the wrapper of the release."""
    os.environ["ASSAY_BUILD"] = BUILD
    sys.path.append(os.path.join(ROOT, "tests", "integration"))
    import wrapped
    return wrapped


def run_wrapped(world):
    """Seconds of a container whose wrapper runs `true`."""
    with world.Wrapped() as one:
        one.lay_out(world.Plan(world.program("true"), flags=world.CONFINE | world.HIDE))
        begin = time.monotonic()
        one.launch()
        if one.finish() != 0:
            raise SystemExit(f"bench: the wrapper failed: {one.err}")
        return time.monotonic() - begin


def run_bare(world):
    """The same container without it."""
    drop = ["/usr/bin/setpriv", f"--reuid={world.UID}", f"--regid={world.UID}", "--clear-groups", "--"]
    begin = time.monotonic()
    subprocess.run([*(drop if os.geteuid() == 0 else ()), "/usr/bin/bwrap", "--unshare-pid", "--as-pid-1", "--die-with-parent", "--dev-bind",
        "/", "/", "--proc", "/proc", "--", "/bin/sh", "-c", "true"], stdin=subprocess.DEVNULL, check=True, cwd="/", capture_output=True)
    return time.monotonic() - begin


def flooded(world, size):
    """The most memory of a wrapper whose code prints so much, and how much of it arrived."""
    code = f"mkfifo gate; head -c {size} /dev/zero; read x <gate"
    plan = world.Plan(world.program(code), output=size, flags=world.CONFINE | world.HIDE)
    with world.Wrapped() as one:
        one.start(plan)
        one.listener.wait(lambda frames: sum(len(frame.payload) - 14 for frame in frames if frame.kind == world.OUTPUT) >= size)
        peak = one.peak()
        world.gate(one)
        one.finish()
        return peak, len(one.listener.output())


def wrapper(options):
    world = wrapped_world()
    size = (10 if options.quick else 100) * 1000000
    mine, peers = [], []
    for _ in range(5 if options.quick else 50):
        mine.append(run_wrapped(world) * 1000)
        peers.append(run_bare(world) * 1000)
    added = median(mine) - median(peers)
    peaks = [flooded(world, size) for _ in range(options.runs)]
    lost = max(size - arrived for _, arrived in peaks)
    memory = max(peak for peak, _ in peaks) / MIB
    return [
        Row("assay-wrap, time added to a run of `true`", f"{median(mine):.1f} ms", f"{median(peers):.1f} ms", added, "ms more", False, 3, 1.5,
            "a container with the wrapper, confined as in a pod, its report taken by a listener in Python; peer: the same container with "
            f"the shell alone; medians of {len(mine)} each, in turn"),
        Row(f"assay-wrap, memory while {size // 1000000} MB are printed", f"{memory:.2f} MiB", "", memory, "MiB", False, 2, 1.5,
            f"the most that was resident; {size:,} bytes within the bound, {lost} of them lost"),
        Row("bytes lost of what was printed", f"{lost:,}", "", lost, "bytes", False, 0, 0, f"of {size:,}"),
    ]


KUBE = {"kube-report": report, "kube-pod": pod, "kube-tracked": tracked, "kube-create": create, "kube-rate": limited,
    "kube-requests": requests, "kube-wrapper": wrapper}
