"""The API of a real assayd, as a client meets it: what the unit tests of the API cannot show, for they have no process."""

import concurrent.futures
import hashlib
import json
import re
import signal
import socket

import pytest

from service import follow

CODE = {"code": "print(1)"}


@pytest.fixture
def noop(services):
    """A service whose jobs end at once."""
    return services("--executors", "noop").start()


def submit(http, body=None, path="/execute"):
    answer = http("POST", path, body or CODE)
    assert answer.status in (200, 201), answer
    return answer.json


def test_openapi_is_served_and_lists_what_answers(noop):
    document = noop.call("GET", "/openapi.json").json
    assert document["openapi"].startswith("3.1")
    with noop.http() as http:
        for path, methods in document["paths"].items():
            for prefix in ("", "/api"):
                answer = http("OPTIONS", prefix + path.replace("{id}", "x"))
                assert answer.status == 204
                for method in methods:
                    assert method.upper() in answer.headers["Allow"]


def required_of(document, schema):
    """The members that a schema requires, those of its parts included."""
    if "$ref" in schema:
        return required_of(document, document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]])
    names = set(schema.get("required", []))
    for part in schema.get("allOf", []):
        names |= required_of(document, part)
    return names


def test_answers_have_what_openapi_promises(noop):
    with noop.http() as http:
        document = http("GET", "/openapi.json").json
        job = submit(http)["job_name"]
        assert http("POST", "/execute?wait=30", CODE).status == 200
        list(follow(noop.url, f"/tasks/{job}/events"))
        answers = {
            ("/status/{id}", "get"): http("GET", f"/status/{job}"),
            ("/logs/{id}", "get"): http("GET", f"/logs/{job}"),
            ("/tasks/{id}", "get"): http("GET", f"/tasks/{job}"),
            ("/tasks/{id}/why", "get"): http("GET", f"/tasks/{job}/why"),
            ("/tasks", "get"): http("GET", "/tasks"),
            ("/health", "get"): http("GET", "/health"),
            ("/readyz", "get"): http("GET", "/readyz"),
            ("/coordinator/health", "get"): http("GET", "/coordinator/health"),
            ("/execute/batch", "post"): http("POST", "/execute/batch", [CODE]),
            ("/tasks/{id}/run", "post"): http("POST", f"/tasks/{job}/run"),
        }
        for (path, method), answer in answers.items():
            assert answer.status == 200, (path, answer)
            schema = document["paths"][path][method]["responses"]["200"]["content"]["application/json"]["schema"]
            missing = required_of(document, schema) - answer.json.keys()
            assert not missing, (path, missing)
        for task in answers["/tasks", "get"].json["tasks"]:
            assert not required_of(document, {"$ref": "#/components/schemas/Task"}) - task.keys()
        for _, _, event in follow(noop.url, f"/tasks/{job}/events"):
            assert not required_of(document, {"$ref": "#/components/schemas/Event"}) - event.keys()


def test_cursors_hold_across_a_restart(noop):
    with noop.http() as http:
        first = submit(http)["task_id"]
        seen = list(follow(noop.url, f"/tasks/{first}/events"))
    assert [kind for _, kind, _ in seen][-1] == "completed"
    noop.kill()
    noop.start()
    again = list(follow(noop.url, f"/tasks/{first}/events", last_event_id=seen[0][0]))
    assert [data["sequence"] for _, _, data in again] == [data["sequence"] for _, _, data in seen[1:]]
    with noop.http() as http:
        second = submit(http)["task_id"]
    stream = follow(noop.url, "/events", last_event_id=seen[-1][0])
    assert next(stream)[2]["task_id"] == second
    stream.close()


def test_drain_answers_waiters_and_ends_streams(services):
    """What is in flight when SIGTERM comes is answered, not cut."""
    service = services("--executors", "noop").start()
    with service.http() as http:
        held = submit(http, {**CODE, "run_after": "2100-01-01T00:00:00Z"})["task_id"]
    with concurrent.futures.ThreadPoolExecutor() as pool, service.http() as http:
        stream = follow(service.url, f"/tasks/{held}/events")
        assert next(stream)[1] == "queued"
        later = {**CODE, "run_after": "2100-01-01T00:00:00Z", "eval_id": "waited for"}
        waiting = pool.submit(http, "POST", "/execute?wait=120", later)
        events = follow(service.url, "/events?eval_id=waited%20for&cursor=0")
        assert next(events)[1] == "queued"
        service.terminate()
        assert waiting.result().status == 202
        assert list(stream) == []
        assert list(events) == []
    assert service.wait_end() == 0


def test_tokens_are_read_again_on_sighup(services, tmp_path):
    tokens = tmp_path / "tokens"

    def write(*names):
        tokens.write_text("".join(f"{hashlib.sha256(name.encode()).hexdigest()} {name} submit\n" for name in names))

    write("one")
    service = services("--executors", "noop", "--tokens", str(tokens)).start()

    def status(name):
        return service.call("GET", "/tasks", headers={"Authorization": "Bearer " + name}).status

    assert (status("one"), status("two")) == (200, 401)
    write("two")
    service.process.send_signal(signal.SIGHUP)
    service.wait_line("tokens were read again")
    assert (status("one"), status("two")) == (401, 200)


def test_only_images_that_are_listed_may_be_named(services, noop):
    listed = services("--executors", "noop", "--images", "localhost/*,python:3").start()
    for image, status in (("python:3", 201), ("localhost/a/b@sha256:0", 201), ("python:3x", 422), ("docker.io/x", 422)):
        answer = listed.call("POST", "/execute", {"code": "1", "image": image})
        assert answer.status == status and (status == 201 or answer.json["errors"][0]["pointer"] == "/image"), answer
    assert noop.call("POST", "/execute", {"code": "1", "image": "python:3"}).status == 422


def test_a_batch_of_the_largest_size(noop):
    items = [{"code": f"print({i})", "eval_id": f"batch {i}"} for i in range(10000)]
    with noop.http() as http:
        body = "\n".join(json.dumps(item) for item in items)
        answer = http("POST", "/execute/batch", body, {"Content-Type": "application/x-ndjson"})
        assert answer.status == 200
        results = answer.json["results"]
        assert [result["status"] for result in results] == [201] * len(items)
        assert [result["eval_id"] for result in results] == [item["eval_id"] for item in items]
        again = http("POST", "/execute/batch", items).json["results"]
        assert [result["status"] for result in again] == [200] * len(items)
        assert [result["task_id"] for result in again] == [result["task_id"] for result in results]
        too_many = http("POST", "/execute/batch", items + [CODE])
        assert too_many.status == 413


def test_metrics_can_be_parsed(noop):
    with noop.http() as http:
        submit(http)
        answer = http("GET", "/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    families, buckets = {}, {}
    for line in answer.body.decode().splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            assert name not in families
            families[name] = kind
        elif not line.startswith("#"):
            sample = re.fullmatch(r'([a-z_]+)(\{[a-z]+="[^"]*"(?:,[a-z]+="[^"]*")*\})? (\S+)', line)
            assert sample, line
            name, value = sample[1], float(sample[3])
            family = re.sub("_(bucket|sum|count)$", "", name)
            assert name in families or families.get(family) == "histogram", line
            if name.endswith("_bucket"):
                buckets.setdefault(family, []).append(value)
            if families.get(name) == "counter":
                assert name.endswith("_total")
    for values in buckets.values():
        assert values == sorted(values)
    assert families["assay_oldest_waiting_task_age_seconds"] == "gauge"
    assert families["assay_loop_lag_seconds"] == "histogram"


def test_pipelined_requests_are_answered_in_order(noop):
    host, port = noop.listen.split(":")
    with socket.create_connection((host, int(port))) as connection:
        body = json.dumps(CODE)
        post = (f"POST /execute HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n{body}")
        get = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
        last = "GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        connection.sendall((post + get + post + last).encode())
        answers = b"".join(iter(lambda: connection.recv(65536), b""))
    assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"201", b"200", b"201", b"404"]
