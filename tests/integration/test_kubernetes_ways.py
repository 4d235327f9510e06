"""The other ways to hear of an attempt than assay-wrap's reports: images that run as they are, the pods' logs, and images that
publish on Redis by themselves. First against the stand-in for the API server, which says what a pod has printed and where the test
plays the image; then on a real node."""

import base64
import contextlib
import gzip
import hashlib
import hmac
import json
import os
import struct
import subprocess
import sys
import time
import uuid

import pytest
import redis as redis_client
import yaml

import servers
from clients import patient_until, wait_why
from kubernetes import client, images
from played import listener_of
from service import BUILD, PATIENCE, follow
from wrapped import ENDED, OUTPUT, STARTED, STEP_ENDED, SUMMARY, Attempt

KEY = "the key of the tests"
GRADER, SEED = "localhost/grader:1", "localhost/event-wrapper:1"
LANGUAGES = {
    "python": {"source": "main.py", "run": ["/usr/bin/python3", "{entrypoint}"], "package": "python3",
               "image": images.image_of("python")},
    "grader": {"source": "main.sh", "image": GRADER, "report": "watch", "run": ["{entrypoint}"], "env": {"GRADE": "strict"}},
    "seed": {"source": "main.py", "image": SEED, "report": "publish"},
}


def execute(service, code, **members):
    return service.call("POST", f"/execute?wait={PATIENCE}", {"code": code, **members}).json


def submit(service, code, **members):
    return service.call("POST", "/execute", {"code": code, **members}).json


@pytest.fixture
def languages(tmp_path):
    path = tmp_path / "languages.yaml"
    path.write_text(yaml.safe_dump(LANGUAGES))
    return str(path)


# ---- against the stand-in ----


@pytest.fixture
def place(standin):
    with standin.namespace() as made:
        yield made


@pytest.fixture
def apart(place, services, languages, tmp_path):
    """apart(*flags, **environment): a service that has the stand-in for its cluster, started."""
    def make(*flags, **environment):
        config = place.kubeconfig(str(tmp_path / "kubeconfig"))
        return services("--executors", "kubernetes", "--kubeconfig", config, "--languages", languages, "--attempt-listen",
                        "127.0.0.1:0", "--kube-grace", "1", *flags, ASSAY_ATTEMPT_KEY=KEY, **environment).start()
    return make


def log_requests(standin):
    return standin.counts().get("get pods/log", 0)


def test_an_image_that_runs_as_it_is(standin, place, apart):
    standin.control("script", {"end": "never", "log": "so far\n"})
    service = apart()
    job = submit(service, "the code", language="grader", args=["a", "$(HOME)"], env={"X": "not for everybody"})["job_name"]
    service.wait_status(job, "running")
    pod = place.api.get("jobs", job)["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert "command" not in container and "initContainers" not in pod
    assert container["args"] == ["/assay/code/main.sh", "a", "$$(HOME)"] and container["image"] == GRADER
    assert {one["name"]: one["valueFrom"]["secretKeyRef"]["name"] for one in container["env"]} == {"GRADE": job, "X": job}
    assert "the code" not in json.dumps(pod) and "not for everybody" not in json.dumps(pod)
    secret = place.api.get("secrets", job)["data"]
    assert sorted(map(base64.b64decode, secret.values())) == [b"not for everybody", b"strict", b"the code"]
    # What it prints is there while it runs.
    patient_until(lambda: service.call("GET", f"/logs/{job}").json["stdout"] == "so far\n", explain=service.text)
    assert service.call("POST", f"/tasks/{job}/cancel").status in (200, 202)
    assert service.wait_status(job, "cancelled", "failed", "succeeded")["phase"] == "cancelled"


@pytest.mark.parametrize("script, members, phase, reason, exit_code, number", [
    ({}, {}, "succeeded", None, 0, None),
    ({"exit_code": 3}, {}, "failed", "exit_code", 3, None),
    ({"exit_code": 139}, {}, "failed", "signal", None, 11),
    ({"end": "oom"}, {}, "out_of_memory", "out_of_memory", None, None),
    ({"end": "never"}, {"timeout": 1}, "timed_out", "timeout", None, None),
], ids=["success", "exit-code", "signal", "memory", "time"])
def test_each_end_of_such_an_image(standin, apart, script, members, phase, reason, exit_code, number):
    standin.control("script", {"log": "printed\n", **script})
    told = execute(apart(), "code", language="grader", **members)
    assert (told["phase"], told["reason"], told["exit_code"], told["signal"]) == (phase, reason, exit_code, number), told
    assert (told["stdout"], told["stderr"], told["truncated"], told["attempts"]) == ("printed\n", "", False, 0)


def test_what_only_the_wrapper_could_bring_is_refused(apart):
    service = apart()
    for members in ({"tests": [{"name": "a", "expected": "1"}]}, {"stdin": "x"}, {"image": "mine"}):
        answer = service.call("POST", "/execute", {"code": "x", "language": "grader", **members})
        assert answer.status == 422 and [error["pointer"] for error in answer.json["errors"]] == ["/" + list(members)[0]], answer
    answer = service.call("POST", "/execute", {"code": "x", "language": "seed"})
    assert answer.status == 422 and "ASSAY_KUBE_PUBLISH_URL" in answer.json["errors"][0]["detail"], answer


def test_a_log_is_cut_at_the_bound_and_where_it_cannot_be_had_that_is_told(standin, apart):
    service = apart("--output-limit", "1024", "--kube-log-streams", "0")
    standin.control("script", {"log": "x" * 5000})
    told = execute(service, "code", language="grader")
    assert (told["phase"], told["stdout"], told["truncated"]) == ("succeeded", "x" * 1024, True)
    assert log_requests(standin) == 1
    standin.fault("get", "pods/log", times=-1, status=404)
    told = execute(service, "code", language="grader")
    assert (told["phase"], told["stdout"], told["truncated"], told["attempts"]) == ("succeeded", "", True, 0)


def test_a_stream_that_is_cut_is_read_once_more_at_the_end(standin, apart):
    standin.control("script", {"log": "all of it\n", "run_ms": 300})
    standin.fault("get", "pods/log", cut_after=4)
    service = apart()
    told = execute(service, "code", language="grader")
    assert (told["stdout"], told["truncated"], log_requests(standin)) == ("all of it\n", False, 2)


def test_streams_have_a_bound_and_who_gets_none_is_read_at_the_end(standin, apart):
    standin.control("script", {"end": "never", "log": "so far\n"})
    standin.fault("get", "pods/log", times=1, delay_ms=1000 * PATIENCE)  # the only stream brings nothing
    service = apart("--kube-log-streams", "1")
    first = submit(service, "code", language="grader", timeout=1000)["job_name"]
    patient_until(lambda: log_requests(standin) == 1, explain=service.text)
    told = execute(service, "code", language="grader", timeout=1)
    assert (told["phase"], told["stdout"], log_requests(standin)) == ("timed_out", "so far\n", 2)
    service.call("POST", f"/tasks/{first}/cancel")
    service.wait_status(first, "cancelled")


def test_pods_are_not_told_an_address_of_loopback(apart):
    """The stand-in is reached over it, and nobody has named another."""
    service = apart("--attempt-listen", "0.0.0.0:0")
    job = submit(service, "code", language="grader")["job_name"]
    wait_why(service, job, "executor_unhealthy", "at 127.0.0.1")
    listener, = (check for check in service.call("GET", "/readyz").json["checks"] if check["name"] == "attempt listener")
    assert listener["state"] == "error" and "ASSAY_ATTEMPT_ADDRESS" in listener["remedy"], listener


@pytest.mark.parametrize("starts, behind", [("before", None), ("meanwhile", None), ("meanwhile", 3600)])
def test_who_adopts_such_an_image_hears_it_to_its_end(standin, place, apart, starts, behind):
    """`behind`: the clocks of the API server and the node, in seconds; None: the node's alone, by months."""
    standin.control("script", {"end": "untouched", "log": "all\n"})
    standin.control("settings", {"clock_offset": -(behind or 0)})
    service = apart()
    job = submit(service, "code", language="grader")["job_name"]
    pod = given_pod(place)
    if starts == "before":
        write_status(place, pod, {"running": {}})
        service.wait_status(job, "running")
    service.kill()
    if starts == "meanwhile":  # none of its time is over for that
        write_status(place, pod, {"running": {}}, behind)
    service.start()
    service.wait_status(job, "running")
    write_status(place, pod, {"terminated": {"exitCode": 4}})
    status = service.wait_status(job, "failed", "succeeded", "retrying")
    assert (status["phase"], status["exit_code"], status["attempt"]) == ("failed", 4, 1), status
    assert service.call("GET", f"/logs/{job}").json["stdout"] == "all\n"


# The test is the kubelet and the wrapper.


def given_pod(place):
    """The only pod, when it has a node."""
    return place.admin.wait("pods", lambda pod: pod["spec"].get("nodeName"))


def write_status(place, pod, state, behind=None):
    """{"running": {}} or {"terminated": {…}}; `behind`: seconds, of the node's clock; None: months."""
    [(kind, fields)] = state.items()
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - behind)) if behind else "2026-01-02T03:04:05Z"
    times = {"startedAt": started} | ({"finishedAt": "2026-01-02T03:04:06Z"} if kind == "terminated" else {})
    phase = "Running" if kind == "running" else "Failed" if fields["exitCode"] else "Succeeded"
    container = pod["spec"]["containers"][0]
    place.admin.patch("pods", pod["metadata"]["name"], {"status": {"phase": phase, "containerStatuses": [{
        "name": container["name"], "image": container["image"], "imageID": "", "restartCount": 0, "ready": False,
        "state": {kind: {**times, **fields}}}]}}, "status", client.MERGE)


class Played(Attempt):
    """The wrapper of that pod."""

    def __init__(self, pod):
        super().__init__()
        labels = pod["metadata"]["labels"]
        self.task, self.number = uuid.UUID(labels["assay.dev/task"]), int(labels["assay.dev/attempt"])
        attempt = b"assay attempt 1\0" + self.task.bytes + struct.pack(">I", self.number)
        self.key = hmac.new(KEY.encode(), attempt, hashlib.sha256).digest()
        self.sequence = 0

    @staticmethod
    def step(exit_code=0, dropped=False):
        return struct.pack(">BBBHIIIII", 8 if dropped else 0, 1 if exit_code else 0, 0, exit_code, 0, 1000, 10, 10, 1)

    def end(self, *steps):
        return struct.pack(">qBBHH", 1_700_000_000_000_000, 1, 0, len(steps), len(steps)) + b"".join(steps)

    def message(self, *steps):
        return "assay1 " + base64.b64encode(self.frame(SUMMARY, 0, self.end(*steps))).decode()

    def line(self, kind, payload, key=None):
        self.sequence += 1
        return "assay1 " + base64.b64encode(self.frame(kind, self.sequence, payload, key)).decode() + "\n"

    def lines(self, exit_code, **outputs):
        """What the wrapper leaves in the log."""
        at = struct.pack(">q", 1_700_000_000_000_000)
        text = self.line(STARTED, at + bytes(8))
        for stream, data in ((1, outputs["out"]), (2, outputs.get("err"))):
            if not data:
                continue
            text += self.line(OUTPUT, struct.pack(">BBIQ", 0, stream, 0, 0) + data.encode())
        return text + self.line(STEP_ENDED, at + self.step(exit_code)) + self.line(ENDED, self.end(self.step(exit_code)))


def played(standin, place, service, log, message, exit_code):
    """An evaluation whose pod ends with this log and message; its status object."""
    standin.control("script", {"end": "untouched"})
    job = submit(service, "code")["job_name"]
    pod = given_pod(place)
    wrapper = Played(pod)
    standin.control("script", {"end": "untouched", "log": log(wrapper)})
    write_status(place, pod, {"terminated": {"exitCode": exit_code, "message": message(wrapper)}})
    return ended(service, job)


def ended(service, job):
    status = service.wait_status(job, "succeeded", "failed", "retrying", "timed_out", "out_of_memory")
    return {**status, **service.call("GET", f"/logs/{job}").json}


def test_frames_that_did_not_arrive_are_looked_for_in_the_log(standin, place, apart):
    def log(wrapper):
        stranger = Played.line(Played({"metadata": {"labels": {
            "assay.dev/task": str(wrapper.task), "assay.dev/attempt": "1"}}}), OUTPUT, bytes(14) + b"forged", key=b"x" * 32)
        return "what the runtime says\n" + stranger + wrapper.lines(3, out="out\n", err="err\n")

    told = played(standin, place, apart(), log, lambda wrapper: wrapper.message(wrapper.step(3)), 3)
    assert (told["phase"], told["exit_code"], told["stdout"], told["stderr"], told["truncated"]) == (
        "failed", 3, "out\n", "err\n", False), told


def test_where_they_are_not_there_either_it_is_told_that_output_is_missing(standin, place, apart):
    told = played(standin, place, apart(), lambda _: "", lambda wrapper: wrapper.message(wrapper.step()), 0)
    assert (told["phase"], told["exit_code"], told["stdout"], told["truncated"]) == ("succeeded", 0, "", True), told


def test_a_report_that_came_needs_no_log(standin, place, apart):
    service = apart()
    standin.control("script", {"end": "untouched"})
    job = submit(service, "code")["job_name"]
    pod = given_pod(place)
    secret = place.api.wait("secrets", lambda one: one["metadata"]["name"] == job)
    address = listener_of(gzip.decompress(base64.b64decode(secret["data"]["plan"])))
    frames = Played(pod)
    body = b"".join(base64.b64decode(line[7:]) for line in frames.lines(0, out="out").splitlines())
    forged = Played(pod).frame(OUTPUT, 1, bytes(14) + b"forged", key=b"x" * 32)
    with contextlib.closing(client.Api(f"http://{address}")) as wrapper:
        path = f"/attempts/{frames.task}/{frames.number}/frames"
        # Somebody else's comes first: it does not stand in the way of the wrapper's own.
        assert wrapper.ask("POST", path, forged, "application/octet-stream").status == 403
        assert wrapper.ask("POST", path, body, "application/octet-stream").status == 200
    told = ended(service, job)
    assert (told["phase"], told["stdout"], told["truncated"], log_requests(standin)) == ("succeeded", "out", False, 0), told


def test_without_a_listener_the_log_is_the_output(standin, place, apart):
    service = apart("--attempt-listen", "")
    told = played(standin, place, service, lambda _: "both streams\n", lambda wrapper: wrapper.message(wrapper.step(3)), 3)
    assert (told["phase"], told["exit_code"], told["stdout"], told["truncated"]) == ("failed", 3, "both streams\n", False), told
    answer = service.call("POST", "/execute", {"code": "code", "tests": [{"name": "a"}]})
    assert answer.status == 422 and "listener" in answer.json["errors"][0]["detail"], answer


def test_without_a_listener_the_log_is_followed(standin, apart):
    standin.control("script", {"end": "never", "log": "so far\n"})
    service = apart("--attempt-listen", "")
    job = submit(service, "code")["job_name"]
    patient_until(lambda: service.call("GET", f"/logs/{job}").json["stdout"] == "so far\n", explain=service.text)
    assert service.call("POST", f"/tasks/{job}/cancel").status in (200, 202)
    service.wait_status(job, "cancelled")


def test_an_image_that_an_evaluation_names_is_its_pods(place, apart):
    service = apart("--images", "localhost/*")
    job = submit(service, "code", image="localhost/mine:2")["job_name"]
    made = place.api.wait("jobs", lambda made: made["metadata"]["name"] == job)
    assert made["spec"]["template"]["spec"]["containers"][0]["image"] == "localhost/mine:2"


# ---- images that publish ----


@pytest.fixture
def own_redis():
    with servers.Redis() as running:
        yield running


class Hearing:
    """What stands on the channels from now on."""

    def __init__(self, url, *patterns):
        self.pubsub = redis_client.Redis.from_url(url).pubsub()
        self.pubsub.psubscribe(*patterns)
        self.heard = []
        for _ in patterns:
            assert self.pubsub.get_message(timeout=PATIENCE)["type"] == "psubscribe"

    def until(self, channel):
        """Everything that was heard, up to the next message there, as (channel, payload)."""
        while True:
            message = self.pubsub.get_message(timeout=PATIENCE)
            assert message, self.heard
            if message["channel"] != b"evaluation:log":  # which are ours, and of no order with the others
                self.heard.append((message["channel"].decode(), json.loads(message["data"])))
            if self.heard and self.heard[-1][0] == channel:
                return self.heard

    def close(self):
        self.pubsub.close()


def publish(redis, kind, **payload):
    return int(redis.cli("PUBLISH", "evaluation:" + kind, json.dumps(payload)))


def with_redis(redis, url="redis://images@redis.example:6379"):
    return {"REDIS_URL": redis.url, "ASSAY_KUBE_PUBLISH_URL": url}


def hearers(redis):
    """Of what images say. Nobody follows events here, so the service itself hears nothing of them else."""
    return int(redis.cli("PUBSUB", "NUMSUB", "evaluation:failed").split()[-1])


def test_what_an_image_publishes_is_settled_by_and_not_said_again(standin, place, apart, own_redis):
    standin.control("script", {"end": "never"})
    service = apart(**with_redis(own_redis))
    hearing = Hearing(own_redis.url, "evaluation:*", "assay:*")
    assert hearers(own_redis) == 0
    job = submit(service, "print(6 * 7)", language="seed", eval_id="mine")
    pod = place.admin.wait("pods", lambda pod: pod["status"].get("phase") == "Running")
    assert hearers(own_redis) == 1
    env = {one["name"]: one for one in pod["spec"]["containers"][0]["env"]}
    assert list(env) == ["EVAL_ID", "REDIS_URL", "USER_CODE"] and env["EVAL_ID"]["value"] == "mine"
    secret = place.api.get("secrets", job["job_name"])["data"]
    values = {name: base64.b64decode(secret[env[name]["valueFrom"]["secretKeyRef"]["key"]]) for name in ("REDIS_URL", "USER_CODE")}
    assert values == {"REDIS_URL": b"redis://images@redis.example:6379", "USER_CODE": b"print(6 * 7)"}
    # Its container runs, but it has not said that its code does. What others say is none of it.
    publish(own_redis, "failed", eval_id="another", exit_code=1)
    publish(own_redis, "failed", eval_id="mine", exit_code=1, replica="one of us")
    assert service.call("GET", f"/status/{job['job_name']}").json["phase"] == "starting"
    publish(own_redis, "running", eval_id="mine", timestamp=1.5)
    service.wait_status(job["job_name"], "running")
    hearing.until("assay:aside")
    publish(own_redis, "completed", eval_id="mine", exit_code=0, output="42\n", error="", duration_seconds=.5, timestamp=2)
    told = ended(service, job["job_name"])
    assert (told["phase"], told["exit_code"], told["stdout"]) == ("succeeded", 0, "42\n")
    patient_until(lambda: hearers(own_redis) == 0, explain=service.text)
    # Two of ours went aside: running and completed.
    heard = hearing.until("assay:aside")
    assert [channel for channel, payload in heard if payload["eval_id"] == "mine" and payload.get("replica") != "one of us"] == [
        "evaluation:queued", "evaluation:running", "assay:aside", "evaluation:completed", "assay:aside"]
    assert ["sequence" in payload for channel, payload in heard if channel in ("evaluation:running", "evaluation:completed")] == [
        False, False]
    events = list(follow(service.url, f"/tasks/{job['task_id']}/events?cursor=0"))
    assert [(kind, data["sequence"]) for _, kind, data in events] == [("queued", 1), ("running", 2), ("completed", 3)]
    assert events[-1][2]["output"] == "42\n" and events[-1][2]["usage"]["wall_seconds"] == .5
    hearing.close()


def test_another_replica_is_told_all_the_same(standin, place, apart, own_redis, database):
    standin.control("script", {"end": "never"})
    both = [apart("--replica", name, ASSAY_DATABASE_URL=database.url, **with_redis(own_redis)) for name in ("a", "b")]
    job = submit(both[0], "code", language="seed", eval_id="mine")
    place.admin.wait("pods", lambda pod: pod["status"].get("phase") == "Running")
    stream = follow(both[1].url, f"/tasks/{job['task_id']}/events?cursor=0")
    assert next(stream)[1] == "queued"
    publish(own_redis, "failed", eval_id="mine", exit_code=-9, output="", error="killed", duration_seconds=1)
    kinds = [(kind, data.get("signal"), data.get("error")) for _, kind, data in stream]
    assert kinds[-1] == ("failed", 9, "killed"), kinds


def test_an_image_that_publishes_nothing_is_looked_at(standin, apart, own_redis):
    standin.control("script", {"exit_code": 5, "log": "printed\n"})
    service = apart(**with_redis(own_redis))
    hearing = Hearing(own_redis.url, "evaluation:*")
    told = execute(service, "code", language="seed", eval_id="mine")
    assert (told["phase"], told["exit_code"], told["stdout"]) == ("failed", 5, "printed\n")
    # Then it is the service that says so.
    assert [channel for channel, _ in hearing.until("evaluation:failed")] == [
        "evaluation:queued", "evaluation:running", "evaluation:failed"]
    hearing.close()


def test_without_a_redis_its_pod_says_how_it_ended(standin, apart):
    standin.control("script", {"exit_code": 5})
    service = apart(REDIS_URL=f"redis://127.0.0.1:{servers.free_port()}", ASSAY_KUBE_PUBLISH_URL="redis://nowhere")
    told = execute(service, "code", language="seed")
    assert (told["phase"], told["exit_code"]) == ("failed", 5)
    service.wait_line("what images publish is not heard")


# ---- on a real node ----

real = [pytest.mark.slow, pytest.mark.xdist_group("kubernetes")]
# What it gets is a piece of shell.
GRADE = b"""#!/bin/sh
echo "graded by $GRADE: $*"
. "$1"
"""
# Says what the wrapper of seed 003 says, in our words: the seed is a document, not a file of ours.
EVENT_WRAPPER = b"""
import json, os, subprocess, sys, time
import redis

name = os.environ["EVAL_ID"]
connection = redis.from_url(os.environ.get("REDIS_URL", "redis://redis:6379"))
connection.publish("evaluation:running", json.dumps({"eval_id": name, "timestamp": time.time()}))
began = time.time()
done = subprocess.run([sys.executable, "-c", os.environ["USER_CODE"]], capture_output=True, text=True)
now = time.time()
connection.publish("evaluation:failed" if done.returncode else "evaluation:completed", json.dumps({
    "eval_id": name, "exit_code": done.returncode, "output": done.stdout, "error": done.stderr,
    "duration_seconds": now - began, "timestamp": now}))
sys.exit(done.returncode)
"""


@pytest.fixture(scope="session")
def own_images(kubernetes):
    """The wrapper's image, an image that grades, and one that publishes, on our own node."""
    if not kubernetes.private:
        pytest.skip("the images are put onto a node of our own")
    busybox = os.path.join(kubernetes.private.programs, "busybox")
    grader = images.Image(GRADER, entrypoint=["/bin/sh", "/grade.sh"]).add_busybox(busybox).add_bytes("grade.sh", GRADE, 0o755)
    publisher = images.python_image(busybox).add_bytes("event_wrapper.py", EVENT_WRAPPER)
    publisher.name = SEED
    publisher.config["Entrypoint"] = ["/usr/bin/python3", "/event_wrapper.py"]
    told = subprocess.run(["/usr/bin/python3", "-c", "import redis, sys; print(*(module.__file__ for module in sys.modules.values() "
                           "if '-packages/' in (getattr(module, '__file__', None) or '')))"], capture_output=True, check=True, text=True)
    for path in told.stdout.split():
        publisher.add(path)
    with open(os.path.join(BUILD, "assay-wrap"), "rb") as program:
        wrapper = images.Image("localhost/assay-wrap:1").add_bytes("usr/bin/assay-wrap", program.read(), 0o755)
    for image in (grader, publisher, wrapper):
        kubernetes.private.add_image(image)


@pytest.fixture
def on_node(kubernetes, namespace, own_images, services, languages, tmp_path):
    """on_node(*flags, **environment): a service that has the cluster, started."""
    def make(*flags, **environment):
        return services("--executors", "kubernetes", "--kubeconfig", namespace.kubeconfig(str(tmp_path / "kubeconfig")),
                        "--languages", languages, "--kube-wrapper-image", "localhost/assay-wrap:1", "--attempt-listen",
                        f"0.0.0.0:{servers.free_port()}", "--attempt-address", kubernetes.host_address, "--kube-grace", "1",
                        *flags, **environment).start()
    return make


def nothing_is_left(service, admin):
    patient_until(lambda: not any(admin.list(kind)["items"] for kind in ("jobs", "pods")) and
                  not [one for one in admin.list("secrets")["items"] if one["type"] == "Opaque"], explain=service.text)


class TestOnANode:
    pytestmark = real

    def test_an_image_that_runs_as_it_is(self, on_node, namespace):
        service = on_node()
        told = execute(service, "echo oops >&2; echo $X; exit 3", language="grader", args=["a", "$(GRADE)"], env={"X": "y"})
        # Streams that are one have no order between them.
        assert (told["phase"], told["exit_code"], sorted(told["stdout"].splitlines())) == (
            "failed", 3, ["graded by strict: /assay/code/main.sh a $(GRADE)", "oops", "y"]), told
        assert told["pod"].startswith(told["job_name"]) and told["node"] and told["truncated"] is False
        told = execute(service, "sh -c 'kill -9 $$'; exit $?", language="grader")
        assert (told["reason"], told["signal"]) == ("signal", 9), told
        told = execute(service, "echo so far; sleep 1000", language="grader", timeout=5)
        assert (told["phase"], told["reason"], told["attempts"]) == ("timed_out", "timeout", 0), told
        assert told["stdout"].endswith("so far\n")
        # It is heard while it runs.
        job = submit(service, "echo so far; sleep 1000", language="grader")["job_name"]
        patient_until(lambda: service.call("GET", f"/logs/{job}").json["stdout"].endswith("so far\n"), explain=service.text)
        assert service.call("POST", f"/tasks/{job}/cancel").status in (200, 202)
        assert service.wait_status(job, "cancelled", "failed")["phase"] == "cancelled"
        nothing_is_left(service, namespace.admin)

    def test_without_a_listener_the_pods_log_is_the_output(self, on_node, namespace):
        service = on_node("--attempt-listen", "")
        told = execute(service, "import sys; print(sys.stdin.read()); sys.exit(4)", stdin="in")
        assert (told["phase"], told["exit_code"], told["stdout"], told["truncated"]) == ("failed", 4, "in\n", False), told
        nothing_is_left(service, namespace.admin)

    def test_reports_over_a_redis(self, kubernetes, on_node, namespace):
        with servers.Redis(f"bind 127.0.0.1 {kubernetes.host_address}") as redis:
            redis.cli("ACL", "SETUSER", "wrappers", "on", ">word", "resetchannels", "&assay:attempt:*", "+publish")
            service = on_node("--progress", "0.2", REDIS_URL=redis.url,
                              ASSAY_KUBE_REPORT_URL=f"redis://wrappers:word@{kubernetes.host_address}:{redis.port}/0")
            told = execute(service, "import sys; print(sys.stdin.read()); sys.stderr.write('oops'); sys.exit(4)", stdin="in")
            assert (told["phase"], told["exit_code"], told["stdout"], told["stderr"], told["truncated"]) == (
                "failed", 4, "in\n", "oops", False), told
            job = submit(service, "print('up', flush=True)\nwhile True: pass")["job_name"]
            walls = []
            for _, kind, event in follow(service.url, f"/tasks/{job}/events"):
                assert kind not in ("completed", "failed"), event
                walls += [event["wall_seconds"]] if kind == "progress" else []
                if len(walls) == 3:
                    break
            assert walls == sorted(walls) and walls[0] >= .2
            patient_until(lambda: service.call("GET", f"/logs/{job}").json["stdout"] == "up\n", explain=service.text)
            assert service.call("POST", f"/tasks/{job}/cancel").status in (200, 202)
            assert service.wait_status(job, "cancelled", "failed")["phase"] == "cancelled"
            nothing_is_left(service, namespace.admin)
            assert redis.cli("PUBSUB", "CHANNELS", "assay:attempt:*") == ""

    def test_the_wrapper_of_seed_003(self, kubernetes, on_node, namespace):
        with servers.Redis(f"bind 127.0.0.1 {kubernetes.host_address}") as redis:
            # As docs/OPERATIONS.md has it: all that the image may do there.
            redis.cli("ACL", "SETUSER", "images", "on", ">pictures", "resetchannels", "&evaluation:running",
                      "&evaluation:completed", "&evaluation:failed", "+publish")
            service = on_node(**with_redis(redis, f"redis://images:pictures@{kubernetes.host_address}:{redis.port}/0"))
            hearing = Hearing(redis.url, "evaluation:*")
            told = execute(service, "import sys; print(6 * 7); sys.stderr.write('oops')", language="seed", eval_id="good")
            assert (told["phase"], told["exit_code"], told["stdout"], told["stderr"]) == ("succeeded", 0, "42\n", "oops"), told
            told = execute(service, "raise SystemExit(3)", language="seed", eval_id="bad")
            assert (told["phase"], told["exit_code"], told["reason"]) == ("failed", 3, "exit_code"), told
            heard = hearing.until("evaluation:failed")
            assert [(channel.split(":")[1], payload["eval_id"]) for channel, payload in heard] == [
                ("queued", "good"), ("running", "good"), ("completed", "good"), ("queued", "bad"), ("running", "bad"), ("failed", "bad")]
            assert heard[2][1]["output"] == "42\n" and "task_id" not in heard[2][1]
            nothing_is_left(service, namespace.admin)
            hearing.close()
