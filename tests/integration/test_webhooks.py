"""Webhooks of a real assayd, to a real receiver: signatures verified with nothing of ours, every way to fail, nothing lost by a kill."""

import base64
import contextlib
import hashlib
import hmac
import http.server
import json
import re
import threading
import time

import pytest

from clients import patient_until
from service import PATIENCE, follow

SECRET = "whsec_" + base64.b64encode(b"first secret of the test").decode()
OTHER = "whsec_" + base64.b64encode(b"second secret of the test").decode()
FAR = "2100-01-01T00:00:00Z"


class Receiver:
    """An HTTP server that says what `answers` holds next: a status, (status, headers, body), "cut" (the connection is closed without
    an answer), "hang" (none comes before release()), "endless" (200, and a body without end). When they run out: 204."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.requests = []  # (path, headers, body, moment)
        self.news = threading.Condition()
        self.released = threading.Event()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                receiver.take(self)

            def do_GET(self):
                receiver.take(self)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass  # the other side goes away in the middle: that is what some tests are about

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def url(self, path="/hook", host="127.0.0.1"):
        return f"http://{host}:{self.port}{path}"

    def take(self, handler):
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        with self.news:
            self.requests.append((handler.command + " " + handler.path, handler.headers, body, time.monotonic()))
            answer = self.answers.pop(0) if self.answers else 204
            self.news.notify_all()
        if answer == "hang":
            self.released.wait(PATIENCE)
            answer = "cut"
        if answer == "cut":
            handler.close_connection = True
            return
        if answer == "endless":
            handler.send_response(200)
            handler.end_headers()
            with contextlib.suppress(OSError):
                while not self.released.is_set():
                    handler.wfile.write(b"x" * 65536)
            handler.close_connection = True
            return
        status, headers, text = answer if isinstance(answer, tuple) else (answer, {}, b"")
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        if status != 204:
            handler.send_header("Content-Length", str(len(text)))
        handler.end_headers()
        handler.wfile.write(text)

    def wait(self, count):
        """Until so many requests have come; they."""
        with self.news:
            assert self.news.wait_for(lambda: len(self.requests) >= count, PATIENCE), self.requests
            return list(self.requests)

    def release(self):
        self.released.set()

    def close(self):
        self.release()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def receivers():
    with contextlib.ExitStack() as stack:
        def make(*answers):
            receiver = Receiver(*answers)
            stack.callback(receiver.close)
            return receiver
        yield make


@pytest.fixture
def service(services):
    """May send to this machine, and is in a hurry."""
    return services("--executors", "noop", "--webhook-allow", "127.0.0.0/8", "--webhook-retry-base", "20ms",
                    ASSAY_WEBHOOK_SECRET=SECRET)


def submit(service, url, **more):
    answer = service.call("POST", "/execute", {"code": "print(1)", "callback_url": url, **more})
    assert answer.status == 201, answer
    return answer.json["task_id"]


def verify(secret, headers, body):
    """As any receiver does it, by the specification and not by our code."""
    signed = b".".join([headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body])
    key = base64.b64decode(secret.removeprefix("whsec_"))
    wanted = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert wanted in headers["webhook-signature"].split(" ")
    assert abs(time.time() - int(headers["webhook-timestamp"])) < 300


def deliveries(service, task):
    answer = service.call("GET", f"/tasks/{task}/deliveries")
    assert answer.status == 200, answer
    return answer.json["deliveries"]


def wait_delivery(service, task, *statuses, attempts=0):
    """The newest delivery of the task, once its status is one of these and it has so many attempts."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = deliveries(service, task)
        if found and found[0]["status"] in statuses and len(found[0]["attempts"]) >= attempts:
            return found[0]
        assert time.monotonic() < deadline, (found, service.text())
        time.sleep(0.01)  # between two questions, so that the service has the processor


def wait_metric(service, words):
    """Until the metrics hold these words: the row is there for who reads it before the service hears that it is, and counts."""
    patient_until(lambda: words in service.call("GET", "/metrics").body.decode(), explain=service.text)


def test_the_terminal_event_is_sent_and_signed(service, receivers):
    receiver = receivers((200, {}, b"thanks"))
    service.start()
    task = submit(service, receiver.url("/a?b=c"), eval_id="mine")
    (path, headers, body, _), = receiver.wait(1)
    assert path == "POST /a?b=c"
    assert headers["Content-Type"] == "application/json"
    assert headers["User-Agent"].startswith("assay/")
    verify(SECRET, headers, body)
    event = json.loads(body)
    assert event["kind"] == "completed" and event["task_id"] == task and event["eval_id"] == "mine"
    assert {"run", "attempt", "sequence", "timestamp", "job_name", "exit_code", "output", "error", "duration_seconds",
            "reason", "fault"} <= event.keys()
    # It is the payload of the stream, but for which machine published it.
    streamed, = [data for _, kind, data in follow(service.url, f"/tasks/{task}/events") if kind == "completed"]
    assert {**streamed, "replica": None} == event
    delivery = wait_delivery(service, task, "delivered")
    assert delivery["webhook_id"] == headers["webhook-id"]
    assert [attempt["http_status"] for attempt in delivery["attempts"]] == [200]
    assert delivery["attempts"][0]["error"] is None
    wait_metric(service, 'assay_webhook_deliveries_total{outcome="delivered"} 1')
    assert "assay_webhook_deliveries_waiting " in service.call("GET", "/metrics").body.decode()


def test_output_is_in_it(services, receivers):
    receiver = receivers()
    service = services("--webhook-allow", "127.0.0.1", ASSAY_WEBHOOK_SECRET=SECRET).start()
    submit(service, receiver.url(), language="bash", code="echo out; echo err >&2; exit 3")
    (_, headers, body, _), = receiver.wait(1)
    verify(SECRET, headers, body)
    event = json.loads(body)
    assert (event["kind"], event["output"], event["error"], event["exit_code"]) == ("failed", "out\n", "err\n", 3)


def test_every_way_to_submit(service, receivers):
    receiver = receivers()
    service.start()
    body = {"code": "print(1)", "callback_url": receiver.url("/tasks")}
    tasks = {"/tasks": service.call("POST", "/tasks", {"type": "evaluation", "params": body}).json["task_id"]}
    batch = [{"code": "print(1)", "callback_url": receiver.url(f"/batch/{i}")} for i in range(3)] + [{"code": "print(1)"}]
    results = service.call("POST", "/execute/batch", batch).json["results"]
    tasks.update({f"/batch/{i}": results[i]["task_id"] for i in range(3)})
    held = submit(service, receiver.url("/cancelled"), run_after=FAR)
    assert service.call("POST", f"/tasks/{held}/cancel").status == 200
    tasks["/cancelled"] = held
    got = {path.removeprefix("POST "): json.loads(body) for path, _, body, _ in receiver.wait(5)}
    assert {path: event["task_id"] for path, event in got.items()} == tasks
    assert got["/cancelled"]["kind"] == "cancelled"
    assert deliveries(service, results[3]["task_id"]) == []
    # A further run is a further delivery.
    assert service.call("POST", f"/tasks/{tasks['/tasks']}/run").status == 200
    again = receiver.wait(6)[5]
    assert json.loads(again[2])["run"] == 2
    assert again[1]["webhook-id"] != next(h for p, h, _, _ in receiver.requests if p == "POST /tasks")["webhook-id"]
    assert [d["run"] for d in deliveries(service, tasks["/tasks"])] == [2, 1]


def test_secrets_rotate(services, receivers):
    receiver = receivers()
    service = services("--executors", "noop", "--webhook-allow", "127.0.0.1", ASSAY_WEBHOOK_SECRET=f"{OTHER},{SECRET}")
    service.start()
    submit(service, receiver.url())
    (_, headers, body, _), = receiver.wait(1)
    assert len(headers["webhook-signature"].split(" ")) == 2
    verify(SECRET, headers, body)
    verify(OTHER, headers, body)


def test_failures_are_tried_again(service, receivers):
    elsewhere = receivers()
    receiver = receivers("cut", 500, (302, {"Location": elsewhere.url()}, b""), (404, {}, b"no"), 429, "endless")
    service.start()
    task = submit(service, receiver.url())
    requests = receiver.wait(6)
    delivery = wait_delivery(service, task, "delivered")
    assert [attempt["http_status"] for attempt in delivery["attempts"]] == [None, 500, 302, 404, 429, 200]
    assert all(attempt["error"] for attempt in delivery["attempts"][:-1])
    assert "redirects" in delivery["attempts"][2]["error"]
    assert len({headers["webhook-id"] for _, headers, _, _ in requests}) == 1
    assert len({body for _, _, body, _ in requests}) == 1
    for _, headers, body, _ in requests:
        verify(SECRET, headers, body)
    assert elsewhere.requests == []
    assert "assay_webhook_attempts_failed_total 5" in service.call("GET", "/metrics").body.decode()


def test_a_receiver_that_has_gone_is_left_alone(service, receivers):
    receiver = receivers(410, 200)
    service.start()
    task = submit(service, receiver.url())
    delivery = wait_delivery(service, task, "given_up")
    assert [attempt["http_status"] for attempt in delivery["attempts"]] == [410]
    other = submit(service, receiver.url("/other"))
    wait_delivery(service, other, "delivered")
    assert [path for path, *_ in receiver.requests] == ["POST /hook", "POST /other"]
    wait_metric(service, 'assay_webhook_deliveries_total{outcome="given_up"} 1')


def test_attempts_have_an_end(services, receivers):
    receiver = receivers(*[500] * 10)
    service = services("--executors", "noop", "--webhook-allow", "127.0.0.1", "--webhook-retry-base", "10ms",
                       "--webhook-attempts", "3", ASSAY_WEBHOOK_SECRET=SECRET).start()
    task = submit(service, receiver.url())
    delivery = wait_delivery(service, task, "given_up")
    assert len(delivery["attempts"]) == 3
    assert delivery["next_attempt_at"] is None
    assert len(receiver.requests) == 3


def test_retry_after_is_kept_to(service, receivers):
    receiver = receivers((503, {"Retry-After": "2"}, b""))
    service.start()
    task = submit(service, receiver.url())
    first, second = receiver.wait(2)
    assert second[3] - first[3] >= 2
    wait_delivery(service, task, "delivered")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.0.0.1", "127.1", "[::ffff:127.0.0.1]"])
def test_the_inside_is_not_reached(services, receivers, host):
    """By address, by a name that means one, and by the older ways to write one."""
    receiver = receivers()
    service = services("--executors", "noop", "--webhook-retry-base", "10ms", "--webhook-attempts", "2",
                       ASSAY_WEBHOOK_SECRET=SECRET).start()
    task = submit(service, receiver.url(host=host))
    delivery = wait_delivery(service, task, "given_up")
    assert [attempt["http_status"] for attempt in delivery["attempts"]] == [None, None]
    for attempt in delivery["attempts"]:
        assert "not allowed" in attempt["error"] and "127" not in attempt["error"]
    assert receiver.requests == []


def test_what_is_refused_at_submission(services):
    with services("--executors", "noop") as without:
        answer = without.call("POST", "/execute", {"code": "1", "callback_url": "https://example.org/"})
        assert answer.status == 422
        assert [error["pointer"] for error in answer.json["errors"]] == ["/callback_url"]
        assert "ASSAY_WEBHOOK_SECRET" in answer.json["errors"][0]["detail"]
    with services("--executors", "noop", "--webhook-https-only", ASSAY_WEBHOOK_SECRET=SECRET) as service:
        bad = ["http://example.org/", "ftp://example.org/", "https://user@example.org/", "https://example.org:0/",
               "https://example.org/" + "a" * 2048, "example.org", "", 7, None]
        for url in bad:
            answer = service.call("POST", "/execute", {"code": "1", "callback_url": url})
            assert answer.status == 422, (url, answer)
            assert [error["pointer"] for error in answer.json["errors"]] == ["/callback_url"]
        answer = service.call("POST", "/tasks", {"type": "evaluation", "params": {"code": "1", "callback_url": bad[0]}})
        assert [error["pointer"] for error in answer.json["errors"]] == ["/params/callback_url"]
        answer = service.call("POST", "/execute/batch", [{"code": "1"}, {"code": "1", "callback_url": bad[0]}])
        assert [result["status"] for result in answer.json["results"]] == [201, 422]


def test_what_was_written_survives_a_kill(services, receivers):
    """One delivery is being sent, one waits for its turn: killed there, both arrive after the restart."""
    receiver = receivers("hang")
    service = services("--executors", "noop", "--webhook-allow", "127.0.0.1", "--webhook-concurrency", "1",
                       "--webhook-timeout", "300", ASSAY_WEBHOOK_SECRET=SECRET).start()
    first = submit(service, receiver.url("/first"))
    (_, before, _, _), = receiver.wait(1)
    second = submit(service, receiver.url("/second"))
    service.wait_status(second, "succeeded")
    assert deliveries(service, first)[0]["status"] == "sending"
    assert deliveries(service, second)[0]["status"] == "waiting"
    service.kill()
    assert len(receiver.requests) == 1
    service.start()
    after = {path: headers for path, headers, _, _ in receiver.wait(3)[1:]}
    assert after.keys() == {"POST /first", "POST /second"}
    assert after["POST /first"]["webhook-id"] == before["webhook-id"]
    for task in (first, second):
        delivery = wait_delivery(service, task, "delivered")
        assert [attempt["http_status"] for attempt in delivery["attempts"]] == [204]


def test_a_stop_hands_back_what_is_under_way(services, receivers):
    receiver = receivers("hang")
    service = services("--executors", "noop", "--webhook-allow", "127.0.0.1", "--webhook-timeout", "300", "--drain", "1",
                       ASSAY_WEBHOOK_SECRET=SECRET).start()
    task = submit(service, receiver.url())
    receiver.wait(1)
    assert service.stop() == 0
    service.start()
    receiver.wait(2)
    delivery = wait_delivery(service, task, "delivered")
    assert len(delivery["attempts"]) == 1


def test_receivers_that_never_answer(services, receivers):
    """Each is given up after its time, and meanwhile holds nobody else up."""
    silent, quick = receivers(*["hang"] * 100), receivers()
    service = services("--executors", "noop", "--webhook-allow", "127.0.0.1", "--webhook-concurrency", "8",
                       "--webhook-timeout", "300", ASSAY_WEBHOOK_SECRET=SECRET).start()
    for i in range(20):
        submit(service, silent.url(f"/{i}"))
    silent.wait(2)
    for i in range(20):
        submit(service, quick.url(f"/{i}"))
    assert {path for path, *_ in quick.wait(20)} == {f"POST /{i}" for i in range(20)}
    assert len(silent.requests) == 2  # a quarter of the eight
    service.stop()
    impatient = services("--executors", "noop", "--webhook-allow", "127.0.0.1", "--webhook-timeout", "1",
                         "--webhook-attempts", "1", ASSAY_WEBHOOK_SECRET=SECRET).start()
    task = submit(impatient, silent.url())
    delivery = wait_delivery(impatient, task, "given_up")
    assert delivery["attempts"][0]["http_status"] is None
    assert "time" in delivery["attempts"][0]["error"]


def test_deliveries_stay_within_the_tenant(services, receivers, tmp_path):
    receiver = receivers()
    lines = [hashlib.sha256(name.encode()).hexdigest() + f" {name} submit" for name in ("blue", "green")]
    (tmp_path / "tokens").write_text("\n".join(lines) + "\n")
    service = services("--executors", "noop", "--webhook-allow", "127.0.0.1", "--tokens", str(tmp_path / "tokens"),
                       ASSAY_WEBHOOK_SECRET=SECRET).start()
    blue, green = ({"Authorization": f"Bearer {name}"} for name in ("blue", "green"))
    task = service.call("POST", "/execute", {"code": "1", "callback_url": receiver.url()}, headers=blue).json["task_id"]
    receiver.wait(1)
    assert service.call("GET", f"/tasks/{task}/deliveries", headers=blue).status == 200
    assert service.call("GET", f"/tasks/{task}/deliveries", headers=green).status == 404
    assert service.call("GET", f"/tasks/{task}/deliveries").status == 401


@pytest.mark.parametrize("name, value, words", [
    ("ASSAY_WEBHOOK_SECRET", "my-very-own-words", "whsec_"),
    ("ASSAY_WEBHOOK_ALLOW", "10.0.0.0/99", "network"),
])
def test_settings_that_make_no_sense(services, name, value, words):
    service = services("--executors", "noop", **{"ASSAY_WEBHOOK_SECRET": SECRET, name: value}).launch()
    assert service.wait_end() != 0
    assert words in service.text()
    assert "my-very-own-words" not in service.text()


def test_the_secret_may_come_from_a_file(services, receivers, tmp_path):
    receiver = receivers()
    (tmp_path / "secret").write_text(SECRET + "\n")
    service = services("--executors", "noop", "--webhook-allow", "127.0.0.1",
                       ASSAY_WEBHOOK_SECRET_FILE=str(tmp_path / "secret")).start()
    submit(service, receiver.url())
    (_, headers, body, _), = receiver.wait(1)
    verify(SECRET, headers, body)
    assert not re.search(re.escape(SECRET), service.text())


# ---- several replicas ----


def replicas(services, database, *flags, **environment):
    return [services("--executors", "noop", "--replica", f"r{i}", "--heartbeat", "1", "--lease", "3", "--webhook-allow", "127.0.0.1",
                     *flags, ASSAY_WEBHOOK_SECRET=SECRET, ASSAY_DATABASE_URL=database.url, **environment).start()
            for i in range(2)]


def test_replicas_share_the_deliveries(services, receivers, database):
    """Each is sent once, whoever took the submission."""
    receiver = receivers()
    both = replicas(services, database)
    tasks = []
    for i in range(40):
        tasks.append(submit(both[i % 2], receiver.url(f"/{i}")))
    receiver.wait(40)
    for i, task in enumerate(tasks):
        delivery = wait_delivery(both[(i + 1) % 2], task, "delivered")
        assert len(delivery["attempts"]) == 1
    assert sorted(int(path.split("/")[1]) for path, *_ in receiver.requests) == list(range(40))
    for _, headers, body, _ in receiver.requests:
        verify(SECRET, headers, body)


def test_what_a_dead_replica_was_sending_another_sends(services, receivers, database):
    """When its lease is over, which is the time of an attempt and half a minute."""
    receiver = receivers("hang")
    both = replicas(services, database, "--webhook-timeout", "1")
    task = submit(both[0], receiver.url())
    (_, before, _, _), = receiver.wait(1)
    both[0].kill()
    after = receiver.wait(2)[1][1]
    assert after["webhook-id"] == before["webhook-id"]
    delivery = wait_delivery(both[1], task, "delivered")
    statuses = [attempt["http_status"] for attempt in delivery["attempts"]]
    assert statuses[-1] == 204 and set(statuses[:-1]) <= {None}, statuses  # an answer may take more than a second


def test_what_is_to_be_sent_outlives_the_database(services, receivers, database, proxy):
    """The answer comes while the database is away; it is kept when that is back."""
    receiver = receivers("hang", 204)
    way = proxy(database.server.port)
    service = services("--executors", "noop", "--webhook-allow", "127.0.0.1", "--webhook-timeout", "300", "--webhook-retry-base",
                       "20ms", ASSAY_WEBHOOK_SECRET=SECRET,
                       ASSAY_DATABASE_URL=database.server.url_of(database.name, port=way.port)).start()
    task = submit(service, receiver.url())
    receiver.wait(1)
    way.refuse()
    patient_until(lambda: service.call("GET", "/readyz").status == 503, explain=service.text)
    receiver.release()
    way.heal()
    patient_until(lambda: service.call("GET", "/readyz").status == 200, explain=service.text)
    delivery = wait_delivery(service, task, "delivered", attempts=2)
    assert [attempt["http_status"] for attempt in delivery["attempts"]] == [None, 204]


def test_beside_redis(services, receivers, redis):
    """What is to be sent is heard of within the process, whatever the bus: not by the net under lost notices, 30 s apart at least."""
    receiver = receivers()
    service = services("--executors", "noop", "--webhook-allow", "127.0.0.0/8", ASSAY_WEBHOOK_SECRET=SECRET,
                       REDIS_URL=redis.url).start()
    deadline = time.monotonic() + PATIENCE
    for sent in range(1, 21):
        submit(service, receiver.url())
        receiver.wait(sent)
    assert time.monotonic() < deadline
