"""The service with a Redis: what a subscriber hears is what SSE tells; Redis killed while evaluations run."""

import json
import pathlib
import subprocess
import threading
import time

import pytest
import redis as redis_client

import servers
from authority import Authority
from clients import patient_until
from service import PATIENCE, follow

KINDS = ("queued", "running", "retrying", "test", "stage", "completed", "failed", "cancelled", "log", "progress")
TERMINAL = ("completed", "failed", "cancelled")
PREFIX = "grading:"
NOOP = ("--executors", "noop,sandbox")
STREAM = ("appendonly yes", "appendfsync always")  # what was published outlives a kill
BIG = "import sys\nsys.stdout.write('ä' * 40000)\nsys.stderr.write('oops')\n"


@pytest.fixture
def redis():
    with servers.Redis(*STREAM) as running:
        yield running


class Subscriber(threading.Thread):
    """Hears all channels of events, from when it has been made on until Redis dies or it is closed."""

    def __init__(self, url, prefix=""):
        super().__init__(daemon=True)
        self.prefix = prefix
        self.heard = []
        self.news = threading.Condition()
        self.pubsub = redis_client.Redis.from_url(url).pubsub()
        self.pubsub.psubscribe(prefix + "evaluation:*")
        while self.pubsub.get_message(timeout=PATIENCE)["type"] != "psubscribe":
            pass
        self.start()

    def run(self):
        try:
            for message in self.pubsub.listen():
                if message["type"] != "pmessage":
                    continue
                with self.news:
                    self.heard.append((message["channel"].decode().removeprefix(self.prefix + "evaluation:"),
                                       json.loads(message["data"])))
                    self.news.notify_all()
        except (redis_client.exceptions.ConnectionError, ValueError, OSError):
            pass  # Redis died, or the test is over

    def of(self, task):
        return [(kind, payload) for kind, payload in self.heard if payload["task_id"] == task]

    def wait_terminal(self, task):
        deadline = time.monotonic() + PATIENCE
        with self.news:
            while not any(kind in TERMINAL for kind, _ in self.of(task)):
                assert self.news.wait(max(0, deadline - time.monotonic())), self.of(task)
        return self.of(task)


def with_redis(services, redis, *flags, **environment):
    return services(*flags, REDIS_URL=redis.url, **environment)


def test_what_a_subscriber_hears_is_what_sse_tells(services, redis):
    service = with_redis(services, redis, ASSAY_REDIS_PREFIX=PREFIX, ASSAY_REDIS_STREAM="evaluation:events").start()
    assert "kind=redis" in service.wait_line("bus chosen.*").group(0)
    assert "by=REDIS_URL" in service.wait_line("bus chosen.*").group(0)
    assert redis.password not in service.text()
    subscriber = Subscriber(redis.url, PREFIX)
    live = []
    ready = threading.Event()

    def read():
        for _, kind, data in follow(service.url, "/events?cursor=0"):
            live.append((kind, data))
            ready.set()
            if data["eval_id"] == "the last" and kind in TERMINAL:
                return

    jobs = [service.call("POST", "/execute?wait=100", body).json for body in (
        {"code": "print(6 * 7)", "eval_id": "small"},
        {"code": BIG, "eval_id": "big"},
        {"code": "raise SystemExit(3)"},
    )]
    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    assert ready.wait(PATIENCE)
    jobs.append(service.call("POST", "/execute?wait=100", {"code": "print('fin')", "eval_id": "the last"}).json)
    reader.join(PATIENCE)
    assert [job["phase"] for job in jobs] == ["succeeded", "succeeded", "failed", "succeeded"]
    for job in jobs:
        heard = subscriber.wait_terminal(job["task_id"])
        durable = [(kind, payload) for kind, payload in heard if "sequence" in payload]
        assert [kind for kind, _ in durable] == ["queued", "running", "failed" if job["exit_code"] else "completed"]
        assert all(kind == payload["kind"] for kind, payload in heard)
        assert [payload["sequence"] for _, payload in durable] == [1, 2, 3]
        assert durable == [(kind, data) for _, kind, data in follow(service.url, f"/tasks/{job['task_id']}/events?cursor=0")]
        assert durable == [(kind, data) for kind, data in live
                           if data["task_id"] == job["task_id"] and "sequence" in data]
    big = subscriber.of(jobs[1]["task_id"])[-1][1]
    assert big["truncated"] and len(big["output"].encode()) <= 3 * 65536 and big["error"] == "oops"
    with redis_client.Redis.from_url(redis.url) as client:
        stream = [(fields[b"kind"].decode(), json.loads(fields[b"payload"]))
                  for _, fields in client.xrange(PREFIX + "evaluation:events")]
    assert stream == [one for one in subscriber.heard if "sequence" in one[1]]
    service.stop()


@pytest.mark.parametrize("wait", (True, False), ids=("while it is waited for", "while nobody waits"))
def test_redis_is_killed_while_evaluations_run(services, redis, wait):
    service = with_redis(services, redis, *NOOP, ASSAY_REDIS_STREAM="events").start()
    tasks, lock = set(), threading.Lock()
    done, enough = threading.Event(), threading.Event()

    def submit(number):
        count = 0
        with service.http() as http:
            while not done.is_set():
                answer = http("POST", "/execute?wait=60" if wait else "/execute",
                              {"executor": "noop", "code": "", "eval_id": f"{number}-{count}"})
                assert answer.status in (200, 201), answer
                count += 1
                with lock:
                    tasks.add(answer.json["task_id"])
                    if len(tasks) % 100 == 0:
                        enough.set()

    threads = [threading.Thread(target=submit, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()

    def more():
        enough.clear()
        assert enough.wait(PATIENCE), service.text()

    more()
    redis.kill()
    more()
    service.wait_line("Redis is away")
    ready = service.call("GET", "/readyz")
    assert ready.status == 200 and ready.json["status"] == "degraded" and "bus" in str(ready.json), ready
    more()
    redis.restart()
    more()
    done.set()
    for thread in threads:
        thread.join(PATIENCE)
    patient_until(lambda: service.call("GET", "/readyz").json["status"] == "ready", explain=service.text)
    for task in tasks:
        service.wait_status(service.call("GET", f"/tasks/{task}").json["job_name"], "succeeded")
    wait_published(service)
    sequences = {}
    with redis_client.Redis.from_url(redis.url) as client:
        for _, fields in client.xrange("events"):
            payload = json.loads(fields[b"payload"])
            seen = sequences.setdefault(payload["task_id"], [])
            # For the first time each comes behind the one before.
            assert payload["sequence"] <= len(seen) + 1, (payload, seen)
            if payload["sequence"] == len(seen) + 1:
                seen.append(payload["kind"])
    assert tasks <= sequences.keys()
    assert all(sequences[task] == ["queued", "running", "completed"] for task in tasks)
    assert service.stop() == 0


def wait_published(service):
    """Until the bus has nothing left to send."""
    def published():
        metrics = service.call("GET", "/metrics").body.decode()
        return "\nassay_bus_waiting 0\n" in metrics and "\nassay_bus_up 1\n" in metrics

    patient_until(published, explain=service.text)


def test_a_service_that_was_killed_has_its_events_published_by_the_next(services, redis):
    """What was committed while Redis was away, and never published, since the service died first."""
    first = with_redis(services, redis, *NOOP, ASSAY_REDIS_STREAM="events").start()
    first.call("POST", "/execute?wait=60", {"executor": "noop", "code": "", "eval_id": "before"})
    wait_published(first)
    redis.kill()
    task = first.call("POST", "/execute?wait=60", {"executor": "noop", "code": "", "eval_id": "unheard"}).json["task_id"]
    first.kill()
    redis.restart()
    first.start()
    with redis_client.Redis.from_url(redis.url) as client:
        def kinds():
            payloads = (json.loads(fields[b"payload"]) for _, fields in client.xrange("events"))
            return [payload["kind"] for payload in payloads if payload["task_id"] == task]

        patient_until(lambda: len(kinds()) >= 3, explain=first.text)
        assert kinds()[:3] == ["queued", "running", "completed"]


@pytest.mark.parametrize("heard", (True, False), ids=("by Redis", "by the store"))
def test_followers_hear_of_other_replicas(database, services, redis, heard):
    environment = {"REDIS_URL": redis.url} if heard else {}
    first, second = (services(*NOOP, "--replica", name, ASSAY_DATABASE_URL=database.url, **environment).start()
                     for name in ("r1", "r2"))
    seen = []

    def read():
        for _, kind, data in follow(second.url, "/events?cursor=0"):
            seen.append((kind, data))

    def told(task):
        return {data["sequence"]: kind for kind, data in list(seen) if data["task_id"] == task and "sequence" in data}

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    tasks = [first.call("POST", "/execute?wait=60", {"executor": "noop", "code": "", "eval_id": f"e{i}"}).json["task_id"]
             for i in range(50)]
    # Who waits at the other replica hears of the end as well.
    running = first.call("POST", "/execute", {"code": "import time; time.sleep(1); print('done')", "eval_id": "slow"}).json
    waited = second.call("POST", "/execute?wait=60", {"code": "import time; time.sleep(1); print('done')",
                                                      "eval_id": "slow"})
    assert waited.status == 200 and waited.json["task_id"] == running["task_id"] and waited.json["phase"] == "succeeded"
    last = first.call("POST", "/execute?wait=60", {"executor": "noop", "code": "", "eval_id": "last"}).json
    tasks += [running["task_id"], last["task_id"]]
    # In whatever order: what different replicas tell may overtake one another.
    patient_until(lambda: all(told(task) == {1: "queued", 2: "running", 3: "completed"} for task in tasks),
                  explain=lambda: f"{[told(task) for task in tasks]}\n{second.text()}")
    if heard:
        assert any(data["replica"].startswith("r1#") for _, data in seen)
    assert first.stop() == 0 and second.stop() == 0
    reader.join(PATIENCE)


def test_settings(services, redis):
    """Parts instead of a URL; what Kubernetes injects; what is wrong."""
    service = services(*NOOP, REDIS_HOST="127.0.0.1", REDIS_PORT="tcp://10.0.0.1:6379", REDIS_PASSWORD="x").start()
    line = service.wait_line("bus chosen.*").group(0)
    assert "127.0.0.1:6379" in line and "by=REDIS_HOST" in line
    service.stop()
    service = services(*NOOP, REDIS_HOST="127.0.0.1", REDIS_PORT=str(redis.port), REDIS_PASSWORD="wrong").start()
    service.wait_line("Redis is away.*WRONGPASS")
    assert "WRONGPASS" in service.call("GET", "/readyz").body.decode() or \
        "WRONGPASS" in service.call("GET", "/coordinator/health").body.decode()
    service.stop()
    password = services("config").directory + "/password"
    with open(password, "w", encoding="ascii") as file:
        file.write(redis.password + "\n")
    service = services(*NOOP, REDIS_HOST="127.0.0.1", REDIS_PORT=str(redis.port), REDIS_PASSWORD_FILE=password).start()
    service.wait_line("Redis is there")
    service.stop()
    # A port alone is no Redis.
    service = services(*NOOP, REDIS_PORT="6379", REDIS_PASSWORD="x").start()
    assert "kind=local" in service.wait_line("bus chosen.*").group(0)
    service.stop()
    service = services(*NOOP, REDIS_URL="http://:secret@redis").launch()
    assert service.wait_end() == 1
    assert "redis_url: must begin with redis://" in service.text() and "secret" not in service.text()


# ---- TLS ----


class Secured:
    """A Redis that speaks TLS alone, as it does unless told otherwise: with clients that have a certificate."""

    def __init__(self, redis):
        self.redis = redis
        self.directory = pathlib.Path(redis.directory)
        authority = Authority(self.directory, "authority")
        server, client = authority.issue(), authority.issue()
        servers.give(redis.directory, *server.values())
        self.authority, self.certificate, self.key = authority.certificate, client["certificate"], client["key"]
        redis.restart("port 0", f"tls-port {redis.port}", f"tls-ca-cert-file {authority.certificate}",
                      f"tls-cert-file {server['certificate']}", f"tls-key-file {server['key']}")

    def service(self, services, *flags, **environment):
        url = self.redis.url.replace("redis://", "rediss://")
        return services(*NOOP, *flags, REDIS_URL=url, ASSAY_REDIS_TLS_CA=self.authority, **environment)

    def openssl(self, name, *words):
        path = str(self.directory / name)
        subprocess.run(["openssl", *words, "-out", path], check=True, stderr=subprocess.DEVNULL)
        return path


@pytest.fixture
def secured(redis):
    return Secured(redis)


@pytest.mark.parametrize("by_flags", (True, False), ids=("flags", "environment"))
def test_a_server_that_asks_for_a_certificate(services, secured, by_flags):
    flags = ("--redis-tls-cert", secured.certificate, "--redis-tls-key", secured.key)
    environment = {"ASSAY_REDIS_TLS_CERT": secured.certificate, "ASSAY_REDIS_TLS_KEY": secured.key}
    service = secured.service(services, *(flags if by_flags else ()), ASSAY_REDIS_STREAM="events",
                              **({} if by_flags else environment)).start()
    task = service.call("POST", "/execute?wait=60", {"executor": "noop", "code": "", "eval_id": "told"}).json["task_id"]
    wait_published(service)
    kept = secured.redis.cli("XRANGE", "events", "-", "+")
    assert all(f'"kind":"{kind}"' in kept for kind in ("queued", "running", "completed")) and task in kept, kept
    assert service.stop() == 0


def test_a_server_that_asks_in_vain_hangs_up(services, secured):
    service = secured.service(services).start()
    service.wait_line("Redis is away.*the connection was lost")
    assert service.stop() == 0


def test_a_certificate_that_cannot_be_used(services, secured):
    """Said at the start, and which file it is."""
    certificate, key = secured.certificate, secured.key
    absent = str(secured.directory / "absent")
    other = secured.openssl("other.key", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1")
    of_another_kind = secured.openssl("kind.key", "genpkey", "-algorithm", "ED25519")
    locked = secured.openssl("locked.key", "pkey", "-in", key, "-aes256", "-passout", "pass:word")
    unfit = "it is not the key of the certificate"
    for told, why in (
            ({"CERT": certificate}, "one of them is set without the other"),
            ({"KEY": key}, "one of them is set without the other"),
            ({"CERT": absent, "KEY": key}, f"{absent}: No such file or directory"),
            ({"CERT": certificate, "KEY": absent}, f"{absent}: No such file or directory"),
            ({"CERT": certificate, "KEY": other}, f"{other}: {unfit}"),
            ({"CERT": certificate, "KEY": of_another_kind}, f"{of_another_kind}: {unfit}"),
            ({"CERT": certificate, "KEY": locked}, f"{locked}: "),
            ({"CERT": key, "KEY": key}, f"{key}: "),
            ({"CERT": certificate, "KEY": certificate}, f"{certificate}: ")):
        service = secured.service(services, **{f"ASSAY_REDIS_TLS_{name}": path for name, path in told.items()}).launch()
        assert service.wait_end() == 1, (told, service.text())
        assert "redis_tls_cert and redis_tls_key: " + why in service.text(), (told, service.text())
