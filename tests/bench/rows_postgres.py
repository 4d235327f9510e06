"""The rows of the service on PostgreSQL and Redis: against what PostgreSQL, Redis and the loop can do by themselves, and against
other queues. All servers are private, with their defaults: fsync and synchronous_commit on."""

import contextlib
import json
import os
import re
import signal
import subprocess
import tempfile
import threading
import time

import peers
import servers
from programs import BENCH, PATIENCE_S, SOURCE, Program, Service, median, wrk
from rows import MIB, Row, alternate, blocked_service, evaluation, files, ratios, spread

CALLERS = 64
BATCH = 500
RATE = 50
DURABLE = "synchronous_commit on"


@contextlib.contextmanager
def postgres_database(*config):
    """A fresh database on a fresh server."""
    with servers.PostgreSQL(*config) as server, server.database() as database:
        yield database


@contextlib.contextmanager
def fresh(server):
    """A fresh database on a server that has just written everything down, so that no run pays for another's."""
    with server.database() as database:
        server.sql("CHECKPOINT")
        yield database


def service_on(database, *flags, redis=None, core=None, blocked=False):
    environment = {"ASSAY_DATABASE_URL": database.socket_url}
    if redis:
        environment["REDIS_URL"] = redis.url
    if blocked:
        return blocked_service(*flags, environment=environment)
    return Service("--log-level", "warning", *flags, core=core, environment=environment)


def bodies(directory, **members):
    one = evaluation(600, **members)
    return files(directory, one=json.dumps(one), many=json.dumps([one] * BATCH))


# ---- ceilings ----


def y16(server, seconds):
    """The yardstick: rows/s of single-row durable INSERTs of a 544-byte jsonb row by 16 clients of pgbench."""
    with fresh(server) as database, tempfile.TemporaryDirectory() as directory:
        database.sql("CREATE TABLE yardstick (id bigserial PRIMARY KEY, body jsonb NOT NULL)")
        body = json.dumps({"code": "x" * 532})
        script = files(directory, script=f"INSERT INTO yardstick (body) VALUES ('{body}');\n")["script"]
        done = subprocess.run([os.path.join(servers.postgres_programs(), "pgbench"), "-n", "-c16", "-j2", f"-T{seconds}", "-M",
            "prepared", "-f", script, "-h", server.directory, "-p", str(server.port), "-U", servers.USER, database.name],
            env={**os.environ, "PGPASSWORD": server.password}, stdout=subprocess.PIPE, check=True, text=True)
    return float(re.search(r"tps = ([\d.]+)", done.stdout).group(1))


def bare_postgres(server, mode, rows, connections=2, batch=BATCH):
    """Rows/s, and the 99th percentile of a transaction in milliseconds."""
    with fresh(server) as database:
        done = subprocess.run([os.path.join(BENCH, "bare-postgres"), database.socket_url, mode, str(connections), str(batch),
            str(rows)], stdout=subprocess.PIPE, check=True, text=True)
    found = re.search(r"rows/s=([\d.]+) p50_ms=([\d.]+) p99_ms=([\d.]+)", done.stdout)
    return float(found.group(1)), float(found.group(3))


def bare_redis(redis, messages):
    """Its 99th percentile from publish to subscribe, in milliseconds."""
    done = subprocess.run([os.path.join(BENCH, "bare_redis"), f"127.0.0.1:{redis.port}", redis.password, str(messages),
        str(RATE)], stdout=subprocess.PIPE, check=True, text=True)
    return float(re.search(r"p99_ms=([\d.]+)", done.stdout).group(1))


# ---- what the service does ----


def submitted_singly(server, options, seconds=4):
    """Submissions/s, one evaluation a request, by 64 connections; none is executed meanwhile."""
    with fresh(server) as database, tempfile.TemporaryDirectory() as directory, \
            service_on(database, blocked=True) as service:
        return wrk(service.port, "/execute", CALLERS, options.seconds(seconds), "POST", bodies(directory)["one"]).rate


def submitted_in_batches(server, options):
    with fresh(server) as database, tempfile.TemporaryDirectory() as directory, \
            service_on(database, blocked=True) as service:
        return wrk(service.port, "/execute/batch", 4, options.seconds(4), "POST", bodies(directory)["many"]).rate * BATCH


def end_to_end(server, count):
    """Evaluations/s from the first request until all are settled, one evaluation a request by 64 callers."""
    with fresh(server) as database, tempfile.TemporaryDirectory() as directory, \
            service_on(database, "--executors", "noop") as service:
        load = subprocess.Popen(["wrk", "-t1", f"-c{CALLERS}", "-d600s", "-s", os.path.join(SOURCE, "load.lua"),
            f"http://127.0.0.1:{service.port}/execute", "--", "POST", bodies(directory)["one"], "-", str(count)],
            stdout=subprocess.DEVNULL)
        begin = time.monotonic()
        service.wait_until(lambda: service.metric("assay_tasks_ended_total") >= count, "all ends")
        took = time.monotonic() - begin
        load.send_signal(signal.SIGINT)
        load.wait()
        bad = database.sql("SELECT count(*) FROM assay.tasks WHERE finished_at IS NOT NULL AND status <> 'COMPLETED'")
        if bad != "0":
            service.fail(f"did not complete {bad} evaluations")
    return count / took


def submit_batches(service, directory, count, body="many"):
    """Queues so many rows over two connections."""
    wanted = service.metric("assay_tasks_submitted_total") + count
    load = subprocess.Popen(["wrk", "-t1", "-c2", "-d600s", "-s", os.path.join(SOURCE, "load.lua"),
        f"http://127.0.0.1:{service.port}/execute/batch", "--", "POST", bodies(directory)[body], "-", str(count // BATCH)],
        stdout=subprocess.DEVNULL)
    service.wait_until(lambda: service.metric("assay_tasks_submitted_total") >= wanted, "all submissions")
    load.send_signal(signal.SIGINT)
    load.wait()


def burn_down(database, count):
    """Rows/s at which what a service finds queued when it starts is claimed and settled. It is queued by a service whose executor is
    busy; then the rows are made over to the noop executor."""
    with tempfile.TemporaryDirectory() as directory:
        with service_on(database, blocked=True) as service:
            submit_batches(service, directory, count)
    database.sql("""UPDATE assay.tasks SET executor = 'noop' WHERE executor = 'sandbox' AND status = 'QUEUED'""")
    database.sql("VACUUM ANALYZE assay.tasks")
    database.server.sql("CHECKPOINT")
    queued = int(database.sql("SELECT count(*) FROM assay.tasks WHERE executor = 'noop' AND status = 'QUEUED'"))
    with service_on(database, "--executors", "noop") as service:
        ended = lambda: service.metric("assay_tasks_ended_total")
        begin, before = time.monotonic(), ended()
        while not before:  # the clock starts with the first batch that has been settled
            begin, before = time.monotonic(), ended()
        service.wait_until(lambda: ended() >= queued, "all ends")
        return (queued - before) / (time.monotonic() - begin)


def percentile(values, part):
    values = sorted(values)
    return values[max(0, -int(-len(values) * part // 1) - 1)]


def paced(service, seconds, sent):
    """Submits 50 evaluations a second over one connection; sent(task_id, time before the request)."""
    import http.client
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=PATIENCE_S)
    body = evaluation(600)
    service.request("POST", "/execute", body, connection)  # the connection is made
    begin = time.monotonic()
    for i in range(int(seconds * RATE)):
        time.sleep(max(0, begin + i / RATE - time.monotonic()))
        at = time.time()
        sent(service.request("POST", "/execute", body, connection)["task_id"], at)
    connection.close()


def submit_to_start(server, options):
    """p99 from before the request to the executor's start, by the service's clock, which is ours too."""
    with fresh(server) as database, service_on(database, "--executors", "noop") as service:
        times = {}
        paced(service, options.seconds(15), times.__setitem__)
        count = lambda: service.metric("assay_tasks_ended_total")
        service.wait_until(lambda: count() >= len(times) + 1, "all ends")
        started = dict(line.split("|") for line in
            database.sql("SELECT id, extract(epoch FROM started_at) FROM assay.tasks").splitlines())
    return percentile([(float(started[task]) - at) * 1000 for task, at in times.items()], 0.99)


def commit_to_subscriber(server, redis, options):
    """p99 from the commit of a settlement, as PostgreSQL has noted it, to the message at a subscriber of Redis: the peer's, since a
    thread of ours would wait for the interpreter's lock."""
    seconds = options.seconds(15)
    with fresh(server) as database, service_on(database, "--executors", "noop", redis=redis) as service, \
            subprocess.Popen([os.path.join(BENCH, "bare_redis"), f"127.0.0.1:{redis.port}", redis.password,
                str(int(seconds * RATE) + 1)], stdout=subprocess.PIPE, text=True) as subscriber:
        if subscriber.stdout.readline() != "ready\n":
            raise SystemExit("bench: the subscriber did not connect")
        paced(service, seconds, lambda task, at: None)
        patience = threading.Timer(PATIENCE_S, subscriber.kill)
        patience.start()
        heard = {json.loads(payload)["task_id"]: float(at)
            for at, payload in (line.split(" ", 1) for line in subscriber.stdout)}
        patience.cancel()
        if not heard:
            service.fail("did not publish all ends")
        committed = dict(line.split("|") for line in database.sql("""SELECT task_id, extract(epoch FROM
            pg_xact_commit_timestamp(xmin)) FROM assay.events WHERE kind = 5""").splitlines())
    return percentile([(at - float(committed[task])) * 1000 for task, at in heard.items()], 0.99)


# ---- rows against ceilings ----


def versus(name, mine, theirs, unit, least, aim, notes):
    return Row(name, f"{median(mine):,.0f}/s", f"{median(theirs):,.0f}/s", ratios(mine, theirs), unit, True, least, aim,
        f"{notes}; runs {spread(mine)}, peer {spread(theirs)}")


def singles(options):
    with servers.PostgreSQL() as server:
        mine, theirs = alternate(options, lambda: submitted_singly(server, options),
            lambda: y16(server, options.seconds(4)))
    return versus("durable submissions into PostgreSQL, one per request, 64 connections", mine, theirs, "×", 1.5, 2.0,
        f"peer: Y16, pgbench's single-row INSERT of 544 bytes of jsonb by 16 clients; {DURABLE}")


def batches(options):
    rows = 10000 if options.quick else 100000
    with servers.PostgreSQL() as server:
        mine, theirs = alternate(options, lambda: submitted_in_batches(server, options),
            lambda: bare_postgres(server, "submit", rows)[0])
    return versus("the same, /execute/batch of 500, 4 connections", mine, theirs, "×", 0.7, 0.9,
        "peer: bare libpq with the same statement in batches of 500 over 2 connections")


def around(options):
    count = 5000 if options.quick else 50000
    with servers.PostgreSQL() as server:
        mine, theirs = alternate(options, lambda: end_to_end(server, count),
            lambda: bare_postgres(server, "life", count)[0])
    return versus(f"end to end: {count:,} evaluations, one per request by 64 callers, settled with result and event", mine,
        theirs, "×", 0.4, 0.6, "noop executor; peer: bare libpq that submits, claims and settles the same in batches of 500 over "
        "2 connections")


def burn(options):
    count = 10000 if options.quick else 100000

    def ours():
        with fresh(server) as database:
            return burn_down(database, count)

    with servers.PostgreSQL() as server:
        mine, theirs = alternate(options, ours, lambda: bare_postgres(server, "burn", count)[0])
    return versus(f"burn-down of {count:,} that are queued, result and event kept", mine, theirs, "×", 0.5, 0.7,
        "peer: bare libpq that claims and settles the same in batches of 500 over 2 connections")


def latency(options):
    with servers.PostgreSQL() as server:
        mine, theirs = alternate(options, lambda: submit_to_start(server, options),
            lambda: bare_postgres(server, "latency", options.seconds(10) * RATE, 1, 1)[1])
    added = median([ours - peer for ours, peer in zip(mine, theirs)])
    return Row("submit to start at 50/s, p99", f"{median(mine):.2f} ms", f"{median(theirs):.2f} ms", added, "ms more", False, 1.5,
        0.7, "from before the request to the start in the noop executor; peer: p99 of the commit of one such row at the same "
        f"rate; runs {min(mine):.1f}–{max(mine):.1f} ms, peer {min(theirs):.1f}–{max(theirs):.1f} ms")


def events(options):
    # The commit's own time on the disk is not the event's: what PostgreSQL notes as the time of a commit lies before it.
    with servers.PostgreSQL("track_commit_timestamp = on", "synchronous_commit = off") as server, servers.Redis() as redis:
        mine, theirs = alternate(options, lambda: commit_to_subscriber(server, redis, options),
            lambda: bare_redis(redis, options.seconds(10) * RATE))
    added = median([ours - peer for ours, peer in zip(mine, theirs)])
    return Row("settled commit to a Redis subscriber, p99", f"{median(mine):.2f} ms", f"{median(theirs):.2f} ms", added, "ms more",
        False, 2, 0.5, "at 50 evaluations/s, from PostgreSQL's timestamp of the commit (synchronous_commit off in this row alone, "
        "so that it is no disk's) to the arrival at the peer's subscriber; peer: publish to subscribe of Redis at the same rate")


def followed(command, core):
    return subprocess.Popen([*(["taskset", "-c", str(core)] if (os.cpu_count() or 1) > 1 else []), *command],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def follow(port, path, followers, wanted, begin):
    """What the followers say when each has had so much. `begin` is called when all are there."""
    process = followed([os.path.join(BENCH, "followers"), str(port), path, str(followers), wanted], 1)
    if process.stdout.readline() != "ready\n":
        raise SystemExit("bench: the followers did not connect")
    begin()
    done = threading.Timer(PATIENCE_S, process.stdin.close)
    done.start()
    line = process.stdout.readline()
    done.cancel()
    process.stdin.close()
    process.stdout.close()
    process.wait()
    return {key: float(value) for key, value in (word.split("=") for word in line.split())}


def fan_out(options):
    followers, tasks = (500, 100) if options.quick else (5000, 50)
    mine, theirs, memory, peaks, writes = [], [], [], [], []

    def ours():
        with fresh(server) as database, service_on(database, "--executors", "noop", redis=redis, core=0) as service:
            before, state = service.memory()[0], {}

            def begin():
                state["memory"] = service.memory()[0]
                state["writes"] = service.writes()
                service.submit([evaluation(600)] * tasks)

            told = follow(service.port, "/events", followers, str(3 * tasks), begin)
            if told["least"] != 3 * tasks or told["most"] != 3 * tasks:
                service.fail(f"sent its followers {told['least']:.0f} to {told['most']:.0f} of {3 * tasks} events")
            now = service.writes()
            bytes_written, calls = now[0] - state["writes"][0], now[1] - state["writes"][1]
            memory.append((service.memory()[0] - before) / 1024 / followers)
            peaks.append((service.peak_memory() - before) / 1024 / followers)
            writes.append(bytes_written / calls)
            return told["events"] / told["seconds"], told["bytes"] / followers

    def bare(stream):
        size = max(100, int(writes[-1]))
        count = max(1, int(stream / size))
        with Program([os.path.join(BENCH, "bare_fanout"), str(followers), str(count), str(size)], port_on_stdout=True,
                core=0) as program:
            told = follow(program.port, "/", followers, f"{count * size}b", lambda: None)
        return told["bytes"] / told["seconds"] / (stream / (3 * tasks))

    with servers.PostgreSQL() as server, servers.Redis() as redis:
        for turn in range(options.runs + (0 if options.quick else 1)):
            rate, stream = ours()
            other = bare(stream)
            if turn > 0 or options.quick:
                mine.append(rate)
                theirs.append(other)
    return [versus(f"fan-out: {followers:,} followers of GET /events, deliveries", mine, theirs, "×", 0.5, 0.8,
            f"each had all of the {3 * tasks} events; the service has one core, the followers another; peer: bare libuv that writes "
            f"the same bytes to as many, as many at a time as the service did ({median(writes):,.0f} bytes)"),
        Row("memory of a follower of a busy stream", f"{median(memory):.1f} KiB", "", median(memory), "KiB", False, 8, 4,
            f"growth of the resident set after all had everything; at its highest, while that was under way, "
            f"{median(peaks):.1f} KiB")]


def memory(options):
    """One service under everything that the other rows do to it."""
    count = 5000 if options.quick else 50000
    values = []
    for _ in range(min(options.runs, 3)):
        with servers.PostgreSQL() as server, servers.Redis() as redis, fresh(server) as database, \
                tempfile.TemporaryDirectory() as directory, \
                service_on(database, "--executors", "noop", redis=redis) as service:
            body = bodies(directory)
            wrk(service.port, "/execute", CALLERS, options.seconds(5), "POST", body["one"])
            wrk(service.port, "/execute/batch", 4, options.seconds(5), "POST", body["many"])
            submit_batches(service, directory, count)
            submitted = service.metric("assay_tasks_submitted_total")
            service.wait_until(lambda: service.metric("assay_tasks_ended_total") >= submitted, "all ends")
            values.append(service.peak_memory() / MIB)
    return Row("memory of assayd under load", f"{median(values):.1f} MiB", "", median(values), "MiB", False, 64, 40,
        f"highest resident set, shared libraries included, after 64 connections of single submissions, 4 of batches and the "
        f"burn-down of all; runs {min(values):.0f}–{max(values):.0f} MiB")


# ---- rows against other queues ----


@contextlib.contextmanager
def peer_servers():
    with servers.PostgreSQL() as postgres, servers.Redis(*peers.REDIS_CONFIG) as redis:
        yield postgres, redis


def of_peer(own, peer, what, amount, callers=16):
    """One measurement on a database of its own."""
    postgres, redis = own
    if peer in peers.POSTGRES:
        with fresh(postgres) as database:
            return peers.measure(peer, database.url, what, amount, callers)
    redis.cli("FLUSHALL")
    return peers.measure(peer, redis.url, what, amount, callers)


def described(peer, figures, key, unit):
    version, settings = figures[0]["version"], figures[0]["settings"]
    figure = median([each[key] for each in figures])
    return f"{peer} {version} {figure:,.0f}{unit} ({settings})" if unit == "/s" else f"{peer} {version} {figure:.1f} {unit} ({settings})"


def against(options, name, ours, against_peers, what, amounts, unit, larger, least, aim, notes, callers=16, key="rate"):
    """A row against the best of some peers, each measured in turn with us."""
    with peer_servers() as own:
        measures = [lambda: ours(own[0])] + [lambda peer=peer: of_peer(own, peer, what, amounts(peer), callers)
            for peer in against_peers]
        mine, *theirs = alternate(options, *measures)
    best = (max if larger else min)(range(len(theirs)), key=lambda i: median([each[key] for each in theirs[i]]))
    figures = [each[key] for each in theirs[best]]
    shown = (lambda value: f"{value:,.0f}/s") if larger else (lambda value: f"{value:.2f} ms")
    told = "; ".join(described(peer, runs, key, unit) for peer, runs in zip(against_peers, theirs))
    return Row(name, shown(median(mine)), f"{against_peers[best]} {shown(median(figures))}", ratios(mine, figures), "×", larger,
        least, aim, f"{notes}; {told}")


def few(options):
    """Peers are slow: three runs tell enough of them."""
    return options._replace(runs=min(options.runs, 3))


def peer_singles(options):
    return against(few(options), "durable submissions one at a time, against each peer's single call",
        lambda server: submitted_singly(server, options), peers.ALL, "single", lambda _: options.seconds(4), "/s", True, 2, 2,
        "ours over 64 connections; theirs by 16 callers; Redis with appendfsync always")


def peer_batches(options):
    return against(few(options), "durable submissions in batches, against each peer's batch call",
        lambda server: submitted_in_batches(server, options), peers.ALL, "batch", lambda _: options.seconds(4), "/s", True, 1,
        1, "ours 500 a request over 4 connections; theirs 1000 a call by two callers")


def around_count(options):
    """As many as a peer needs some ten seconds for: the rate does not depend on it."""
    scale = 10 if options.quick else 1
    return {"graphile-worker": 10000 // scale, "pg-boss": 20000 // scale, "bullmq": 50000 // scale, "celery": 3000 // scale}


def peer_around(options):
    count = 5000 if options.quick else 50000
    counts = around_count(options)
    return [against(few(options), f"end to end by single submissions, against {title}", lambda server: end_to_end(server, count),
            which, "around", lambda peer: counts[peer], "/s", True, least, aim,
            f"ours {count:,} by 64 callers, theirs {', '.join(f'{counts[peer]:,}' for peer in which)} by 64, a worker running", CALLERS)
        for title, which, least, aim in (
            ("graphile-worker, pg-boss and Celery", ("graphile-worker", "pg-boss", "celery"), 5, 10),
            ("BullMQ durable", ("bullmq",), 1.5, 3))]


def peer_burn(options):
    count = 10000 if options.quick else 100000

    def ours(server):
        with fresh(server) as database:
            return burn_down(database, count)

    return against(few(options), f"burn-down of {count:,}, against workers that keep neither result nor event", ours, peers.POSTGRES,
        "work", lambda _: count, "/s", True, 0.6, 0.9, "ours keeps result and event")


def peer_latency(options):
    return against(few(options), "submit to start at 50/s, p99, against each peer",
        lambda server: submit_to_start(server, options), peers.ALL, "latency", lambda _: options.seconds(10), "ms", False, 1, 1,
        "idle otherwise", key="p99_ms")


# ---- growth ----

# Rows that have ended, as the service leaves them, with their two further events; ids in the order of time, as its own.
HISTORY = """
CREATE FUNCTION pg_temp.time_ordered(at timestamptz) RETURNS uuid LANGUAGE sql VOLATILE AS $$
	SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(replace(gen_random_uuid()::text, '-', ''), 14))::uuid
$$;
WITH added AS (
	INSERT INTO assay.tasks (id, status, place, attempt, locked_at, tenant, type, queue, executor, eval_id, digest, priority,
		max_attempts, run_attempts, turn, params, sequence, started_at, finished_at, result)
	SELECT pg_temp.time_ordered(now() - (%(to)d - n) * interval '1 millisecond' - interval '1 hour'), 'COMPLETED', 0, 1, now(), 'default',
		'evaluation', 'default', 'noop', %(eval_id)s, %(digest)s, 5, 3, 3, n, t.params, 3, now(), now(), t.result
	FROM generate_series(%(from)d, %(to)d - 1) n, (SELECT params, result FROM assay.tasks WHERE result IS NOT NULL LIMIT 1) t
	RETURNING id)
INSERT INTO assay.events (id, size, task_id, kind, sequence, run, attempt, at, publisher, data, began, began_data)
SELECT 2 * row_number() OVER (), CASE WHEN ends THEN 2 ELSE 1 END, id, CASE WHEN ends THEN 5 ELSE 0 END, CASE WHEN ends THEN 3 ELSE 1 END,
	1, ends::integer, now(), 1, CASE WHEN ends THEN '{"exit_code":0,"reason":null}'::json END, CASE WHEN ends THEN now() END,
	CASE WHEN ends THEN '{"executor":"noop"}'::json END
FROM added, unnest(ARRAY[false, true]) ends
"""


def grow(database, present, wanted, random_ids):
    step = 100_000
    for begin in range(present, wanted, step):
        database.sql(HISTORY % {"from": begin, "to": min(begin + step, wanted),
            "eval_id": "replace(gen_random_uuid()::text, '-', '')" if random_ids else "NULL",
            "digest": "sha256(n::text::bytea)" if random_ids else "NULL"})
    database.sql("VACUUM (FREEZE, ANALYZE) assay.tasks; VACUUM (FREEZE, ANALYZE) assay.events")
    database.server.sql("CHECKPOINT")


EVAL_ID = "0123456789abcdef0123456789abcdef"


def submission_rate(database, directory, options, random_ids):
    """Single submissions, since a batch of one body cannot have an id for each."""
    body = bodies(directory, eval_id=EVAL_ID)["one"] if random_ids else bodies(directory)["one"]
    with service_on(database, blocked=True) as service:
        rate = wrk(service.port, "/execute", CALLERS, options.seconds(8), "POST", body,
            more=["0", EVAL_ID] if random_ids else []).rate
    # What was queued is put out of the way of the next measurement.
    database.sql("DELETE FROM assay.events e USING assay.tasks t WHERE t.id = e.task_id AND t.place <> 0")
    database.sql("DELETE FROM assay.tasks WHERE place <> 0")
    database.sql("VACUUM assay.tasks; VACUUM assay.events")
    return rate


def growth(options):
    sizes = (1000, 10_000, 50_000) if options.quick else (10_000, 1_000_000, 5_000_000)
    burned = 5000 if options.quick else 50_000
    rows = []
    shared_buffers = None
    for random_ids in (False, True):
        rates = {"submit": [], "claim": []}
        with servers.PostgreSQL("shared_buffers = '1GB'", "max_wal_size = '8GB'") as server, server.database() as database, \
                tempfile.TemporaryDirectory() as directory:
            shared_buffers = server.sql("SHOW shared_buffers")
            with service_on(database, "--executors", "noop") as service:
                service.submit([evaluation(600)])
                service.wait_until(lambda: service.metric("assay_tasks_ended_total") == 1, "one end")
            present = 1
            for size in sizes:
                grow(database, present, size, random_ids)
                present = size
                for _ in range(min(options.runs, 3)):
                    rates["submit"].append((size, submission_rate(database, directory, options, random_ids)))
                    if not random_ids:
                        rates["claim"].append((size, burn_down(database, burned)))
        least, aim = (0.65, 0.8) if random_ids else (0.8, 0.9)
        for what, measured in rates.items():
            if not measured:
                continue
            at = {size: median([rate for of, rate in measured if of == size]) for size in sizes}
            text = ", ".join(f"{size:,} rows: {at[size]:,.0f}/s" for size in sizes)
            ids = "random client ids" if random_ids else "generated ids"
            rows.append(Row(f"growth: {what}, {ids}", text.split(", ", 1)[1], text.split(", ", 1)[0],
                min(at[size] for size in sizes[1:]) / at[sizes[0]], "×", True, least, aim,
                f"shared_buffers {shared_buffers}, max_wal_size 8GB; the table filled with ended rows and their events; "
                + ("single submissions over 64 connections" if what == "submit" else f"burn-down of {burned:,}")))
    return rows


# ---- soak ----


class Pace:
    """Submits batches at a steady rate until it is stopped."""

    def __init__(self, service, rate):
        self.body = json.dumps([evaluation(600)] * max(1, round(rate / 10)))
        self.service = service
        self.stopped = threading.Event()
        self.late = 0
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        import http.client
        connection = http.client.HTTPConnection("127.0.0.1", self.service.port, timeout=PATIENCE_S)
        due = time.monotonic()
        while not self.stopped.wait(max(0, due - time.monotonic())):
            connection.request("POST", "/execute/batch", self.body, {"Content-Type": "application/json"})
            connection.getresponse().read()
            due += 0.1
            self.late = max(self.late, time.monotonic() - due)
        connection.close()

    def stop(self):
        self.stopped.set()
        self.thread.join()


def soak(options):
    minutes, window = (0.5, 5) if options.quick else (10, 30)
    with servers.PostgreSQL() as server:
        most = end_to_end(server, 5000 if options.quick else 50000)
        with fresh(server) as database, service_on(database, "--executors", "noop") as service:
            ended = lambda: service.metric("assay_tasks_ended_total")

            def windows(count):
                rates = []
                for _ in range(count):
                    before, begin = ended(), time.monotonic()
                    time.sleep(window)
                    rates.append((ended() - before) / (time.monotonic() - begin))
                return rates

            pace = Pace(service, most / 2)
            windows(1)
            first = median(windows(2))
            snapshot = subprocess.Popen([os.path.join(servers.postgres_programs(), "psql"), "-Xq", database.url],
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
            snapshot.stdin.write("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM assay.tasks;\n")
            snapshot.stdin.flush()
            during = windows(max(1, round(minutes * 60 / window)))
            snapshot.stdin.close()
            snapshot.wait()
            after = windows(3)
            pace.stop()
            waiting = service.metric("assay_tasks_waiting")
    return Row("soak at half of the most with an old snapshot held, slowest half minute", f"{min(during):,.0f}/s",
        f"{first:,.0f}/s before", 100 * max(0, 1 - min(during) / first), "% less", False, 25, 10,
        f"{minutes:g} minutes; most {most:,.0f}/s; after the snapshot was let go {median(after):,.0f}/s, and {waiting:,.0f} tasks "
        f"waited at the end; a request was at most {pace.late:.1f} s late")


POSTGRES = {"pg-singles": singles, "pg-batches": batches, "pg-around": around, "pg-burn": burn, "pg-latency": latency,
    "pg-events": events, "fan-out": fan_out, "pg-memory": memory}
PEERS = {"peer-singles": peer_singles, "peer-batches": peer_batches, "peer-around": peer_around, "peer-burn": peer_burn,
    "peer-latency": peer_latency}
GROWTH = {"growth": growth}
SOAK = {"soak": soak}
