"""Evaluations as Jobs of a real cluster: the service outside, pods with assay-wrap inside, which report to its attempt listener."""

import base64
import os
import random
import subprocess
import threading

import pytest

import servers
from clients import patient_until
from kubernetes import images
from service import BUILD, PATIENCE, Service, follow

WRAPPER = "localhost/assay-wrap:1"
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("kubernetes")]


@pytest.fixture(scope="session")
def wrapper_image(kubernetes):
    """On the node, by the name that is returned; with another cluster, the one that ASSAY_TEST_WRAPPER_IMAGE names."""
    if not kubernetes.private:
        return os.environ["ASSAY_TEST_WRAPPER_IMAGE"]
    kubernetes.private.add_image(
        images.Image(WRAPPER).add_bytes("usr/bin/assay-wrap", open(os.path.join(BUILD, "assay-wrap"), "rb").read(), 0o755))
    return WRAPPER


@pytest.fixture
def flags(namespace, wrapper_image, tmp_path):
    return ("--executors", "kubernetes", "--kubeconfig", namespace.kubeconfig(str(tmp_path / "kubeconfig")),
            "--kube-wrapper-image", wrapper_image, "--kube-grace", "1", "--kube-image-grace", "2",
            "--progress", "0.5")


@pytest.fixture
def service(kubernetes, namespace, flags, tmp_path):
    where = tmp_path / "service"
    where.mkdir()
    with Service(where, *flags, "--attempt-listen", f"0.0.0.0:{servers.free_port()}",
                 "--attempt-address", kubernetes.host_address) as running:
        running.namespace = namespace
        yield running


def execute(service, code, **members):
    return service.call("POST", f"/execute?wait={PATIENCE}", {"code": code, **members}).json


def nothing_is_left(service):
    """Each Job was deleted, and its Secret and its pod with it."""
    admin = service.namespace.admin
    patient_until(lambda: not any(admin.list(kind)["items"] for kind in ("jobs", "pods")) and
                  not [one for one in admin.list("secrets")["items"] if one["type"] == "Opaque"], explain=service.text)


def test_python_runs_and_everything_it_says_arrives(service):
    told = execute(service, "import sys; print(sys.argv[1:], sys.stdin.read()); print('oops', file=sys.stderr)",
                   args=["a", "ü"], stdin="in", env={"X": "y"}, eval_id="first")
    assert (told["phase"], told["exit_code"], told["stdout"], told["stderr"]) == ("succeeded", 0, "['a', 'ü'] in\n", "oops\n")
    assert told["executor"] == "kubernetes" and told["pod"].startswith(told["job_name"]) and told["node"]
    assert told["attempts"] == 0 and told["attempt"] == 1
    nothing_is_left(service)


@pytest.mark.parametrize("code, members, phase, reason, exit_code", [
    ("raise SystemExit(3)", {}, "failed", "exit_code", 3),
    ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", {}, "failed", "signal", None),
    ("while True: pass", {"timeout": 1}, "timed_out", "timeout", None),
    ("print('x' * (2 << 20))", {}, "failed", "output_limit", None),
    ("import os, signal\nfor _ in range(80):\n if os.fork() == 0: signal.pause()\nsignal.pause()", {}, "failed", "process_limit", None),
])
def test_each_end_is_told_apart(service, code, members, phase, reason, exit_code):
    told = execute(service, code, **members)
    assert (told["phase"], told["reason"], told["exit_code"], told["attempts"]) == (phase, reason, exit_code, 0), told
    nothing_is_left(service)


def test_memory_that_is_not_there(service):
    told = execute(service, "x = bytearray(1 << 30)\nprint(len(x))", memory_limit="64Mi")
    assert (told["phase"], told["reason"], told["attempts"]) == ("out_of_memory", "out_of_memory", 0), told


def test_tests_run_one_after_the_other_and_are_compared_here(service):
    told = execute(service, "print(sum(map(int, input().split())))", fail_fast=True, tests=[
        {"name": "one", "stdin": "1 2", "expected": "3"}, {"name": "two", "stdin": "2 2", "expected": "5"},
        {"name": "three", "stdin": "1 1", "expected": "2"}])
    assert told["reason"] == "tests_failed"
    assert [test["status"] for test in told["tests"]] == ["passed", "failed", "skipped"]
    nothing_is_left(service)


def test_a_running_one_is_cancelled(service):
    job = service.call("POST", "/execute", {"code": "import time; print('there', flush=True); time.sleep(1000)"}).json["job_name"]
    service.wait_status(job, "running")
    assert service.call("POST", f"/tasks/{job}/cancel").status in (200, 202)
    assert service.wait_status(job, "cancelled", "failed", "succeeded")["phase"] == "cancelled"
    nothing_is_left(service)


def test_a_job_that_somebody_deletes_is_tried_again(service):
    job = service.call("POST", "/execute", {"code": "import time; time.sleep(1000)"}).json["job_name"]
    service.wait_status(job, "running")
    service.namespace.admin.delete("jobs", job, {"propagationPolicy": "Background"})
    status = service.wait_status(job, "retrying", "failed", "succeeded")
    assert (status["phase"], status["reason"], status["attempts"]) == ("retrying", "deleted", 1), (
        status["phase"], status["reason"], status["error"])


def test_an_image_that_is_not_there(service, tmp_path):
    job = service.call("POST", "/execute", {"code": "puts 1", "language": "ruby"}).json["job_name"]
    status = service.wait_status(job, "retrying", "failed")
    assert (status["reason"], status["attempts"]) == ("image_pull", 1), status


def test_many_side_by_side(service):
    answers = []
    threads = [threading.Thread(target=lambda i=i: answers.append((i, execute(service, f"print({i})")))) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted((i, told["stdout"]) for i, told in answers) == [(i, f"{i}\n") for i in range(8)]
    nothing_is_left(service)


PRINTS = "import time; print('one', flush=True); time.sleep(8); print('two')"


def wait_event(service, job, kind):
    for _, told, _ in follow(service.url, f"/tasks/{job}/events"):
        if told == kind:
            return
    raise AssertionError(service.text())


def test_progress_is_told_from_the_node(service):
    job = service.call("POST", "/execute", {"code": "held = b'x' * (64 << 20)\nwhile True: pass"}).json["job_name"]
    for _, kind, event in follow(service.url, f"/tasks/{job}/events"):
        assert kind not in ("completed", "failed"), event
        # That the node's pods see their own cgroup is what a cluster gives.
        if kind == "progress" and event["cpu_seconds"] > .5 and event["memory_bytes"] > 64 << 20:
            assert (event["step"], event["run_index"]) == ("run", 0) and event["wall_seconds"] >= .5
            break
    service.call("POST", f"/tasks/{job}/cancel")
    assert service.wait_status(job, "cancelled")["phase"] == "cancelled"
    nothing_is_left(service)


def ended(service, job):
    status = service.wait_status(job, "succeeded", "failed", "retrying", "cancelled")
    assert (status["phase"], status["attempt"]) == ("succeeded", 1), (status["reason"], status["error"], service.text())
    return status | service.call("GET", f"/logs/{job}").json


def test_a_service_that_is_killed_adopts_what_it_started(service):
    job = service.call("POST", "/execute", {"code": PRINTS}).json["job_name"]
    wait_event(service, job, "log")
    service.kill()
    service.start()
    told = ended(service, job)
    assert told["stdout"] == "one\ntwo\n" and not told["truncated"]
    nothing_is_left(service)


def test_tests_that_a_service_was_killed_among_are_judged_by_all_they_print(service):
    tests = [{"stdin": text, "expected": text * 2} for text in ("first", "second", "third")]
    job = service.call("POST", "/execute", {"code": "import time; print(input() * 2); time.sleep(3)", "tests": tests,
                                            "fail_fast": True}).json["job_name"]
    wait_event(service, job, "test")
    service.kill()
    service.start()
    told = ended(service, job)
    assert [test["status"] for test in told["tests"]] == ["passed"] * 3
    nothing_is_left(service)


def test_another_replica_hears_of_what_a_dead_one_began(kubernetes, namespace, services, database, flags):
    ports = [servers.free_port() for _ in range(2)]
    first, second = (
        services(*flags, "--replica", f"r{i}", "--heartbeat", "1", "--lease", "3", "--retry-base", "0.1",
                 "--attempt-listen", f"0.0.0.0:{ports[i]}", "--attempt-address", kubernetes.host_address,
                 "--attempt-fallback", f"{kubernetes.host_address}:{ports[1 - i]}", ASSAY_DATABASE_URL=database.url,
                 ASSAY_ATTEMPT_KEY="the same for both") for i in range(2))
    first.start()
    job = first.call("POST", "/execute", {"code": PRINTS}).json["job_name"]
    wait_event(first, job, "log")
    second.start()
    first.kill()
    second.namespace = namespace
    told = ended(second, job)
    assert told["stdout"] == "one\ntwo\n" and not told["truncated"]
    nothing_is_left(second)


def large(size):
    """Files that zip to three quarters of their size."""
    return [{"path": "main.py", "content": "print(len(open('data').read()))"},
            {"path": "data", "content": base64.b64encode(random.Random(1).randbytes(size * 3 // 4)).decode()}]


def test_more_code_than_a_secret_can_bring_is_fetched(service):
    told = service.call("POST", f"/execute?wait={PATIENCE}", {"files": large(1_800_000), "entrypoint": "main.py"}).json
    assert (told["phase"], told["stdout"]) == ("succeeded", "1800000\n"), (told, service.text())
    nothing_is_left(service)


def test_without_a_listener_it_is_refused(flags, tmp_path):
    where = tmp_path / "silent"
    where.mkdir()
    with Service(where, *flags, "--attempt-listen", "") as silent:
        answer = silent.call("POST", "/execute", {"files": large(1_800_000), "entrypoint": "main.py"})
        assert answer.status == 413 and "attempt listener" in answer.json["detail"], answer
        answer = silent.call("POST", "/execute/batch", [{"code": "1"}, {"files": large(1_800_000), "entrypoint": "main.py"}])
        assert [item["status"] for item in answer.json["results"]] == [201, 413], answer.json


def test_only_images_that_are_listed_may_be_named(flags, tmp_path):
    where = tmp_path / "images"
    where.mkdir()
    with Service(where, *flags, "--attempt-listen", "", "--images", "localhost/*,python:3") as listed:
        for image, status in (("python:3", 201), ("localhost/a/b@sha256:0", 201), ("python:3x", 422), ("docker.io/x", 422)):
            answer = listed.call("POST", "/execute", {"code": "1", "image": image})
            assert answer.status == status and (status == 201 or answer.json["errors"][0]["pointer"] == "/image"), answer


def test_the_contract_of_executors(kubernetes, namespace, wrapper_image, tmp_path):
    environment = {**os.environ, "KUBECONFIG": namespace.kubeconfig(str(tmp_path / "kubeconfig")), "ASSAY_TEST_WRAPPER_IMAGE": wrapper_image,
                   "ASSAY_TEST_ADDRESS": kubernetes.host_address, "ASSAY_TEST_PORT": str(servers.free_port())}
    suite = subprocess.run([os.path.join(BUILD, "tests/contract/contract-executor-kubernetes")], env=environment, check=False,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600)
    assert suite.returncode == 0 and "\nok " in suite.stdout and "not ok" not in suite.stdout, suite.stdout
