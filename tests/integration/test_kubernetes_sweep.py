"""What lists of Jobs and pods show and events do not tell, and what is counted of it: the service against the stand-in, the
wrapper played by the test."""

import contextlib
import re
import uuid

import pytest

import servers
from clients import patient_until
from kubernetes.cluster import job
from kubernetes.reports import Reporter, job_name, labels
from service import Service

KEY = "the key of all replicas"
NEVER = {"end": "never"}


class Dispatcher(Service):
    """In a namespace of the stand-in; what it is looking for it finds soon."""

    def __init__(self, directory, place, *flags, **environment):
        directory.mkdir()
        self.port = servers.free_port()
        super().__init__(
            directory, "--executors", "kubernetes", "--kubeconfig", place.kubeconfig(str(directory / "kubeconfig")),
            "--attempt-listen", f"127.0.0.1:{self.port}", "--attempt-address", "127.0.0.1", "--kube-reconcile", "0.3",
            "--retry-base", "0.1", *flags, **{"ASSAY_ATTEMPT_KEY": KEY, **environment})
        self.place = place

    def submit(self, **members):
        told = self.call("POST", "/execute", {"code": "print(1)", **members}).json
        return told["task_id"], told["job_name"]

    def reporter(self, task, attempt=1):
        return Reporter(KEY.encode(), task, attempt)

    def metrics(self):
        return self.call("GET", "/metrics").body.decode()

    def metric(self, sample):
        """The value of "name{labels}"."""
        found = re.search(rf"^{re.escape(sample)} (\S+)$", self.metrics(), re.M)
        return float(found.group(1)) if found else None


@pytest.fixture
def place(standin):
    standin.control("script", NEVER)
    with standin.namespace() as made:
        yield made


@pytest.fixture
def dispatcher(place, tmp_path):
    with Dispatcher(tmp_path / "service", place) as running:
        yield running


def leave(place, task, attempt=1, instance="assay"):
    """A Job that somebody has left behind."""
    place.api.create("jobs", job(job_name(task, attempt), labels=labels(task, attempt, instance)))
    return job_name(task, attempt)


def names(place, resource="jobs"):
    return {item["metadata"]["name"] for item in place.api.list(resource)["items"]}


def pod_of(place, name):
    return place.api.wait("pods", lambda pod: pod["spec"].get("nodeName"), labelSelector="job-name=" + name)["metadata"]["name"]


def finish(dispatcher, task, attempt=1):
    with dispatcher.reporter(task, attempt) as wrapper:
        assert wrapper.post(dispatcher.port, wrapper.started() + wrapper.output(b"1\n") + wrapper.ended()) == 200


def wait_lists(standin, more):
    """Until so many further lists of Jobs have begun."""
    wanted = standin.counts().get("list jobs", 0) + more
    patient_until(lambda: standin.counts().get("list jobs", 0) >= wanted)


def end_pod(place, name, message):
    """As kubelet would write it, of the container that runs in it."""
    now = "2024-05-05T05:05:05Z"
    place.api.patch("pods", name, {"status": {"phase": "Succeeded", "containerStatuses": [{
        "name": "evaluation", "image": "x", "imageID": "", "restartCount": 0, "ready": False,
        "state": {"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": now, "finishedAt": now,
                                 "message": message}}}]}}, "status")


# ---- Jobs that nobody wants ----


def test_jobs_without_a_task_are_deleted_and_those_of_others_are_not(standin, place, tmp_path):
    old, foreign = leave(place, uuid.uuid4(), 2), leave(place, uuid.uuid4(), instance="another")
    with Dispatcher(tmp_path / "service", place) as dispatcher:
        place.api.wait_gone("jobs", old)
        new = leave(place, uuid.uuid4())
        place.api.wait_gone("jobs", new)
        patient_until(lambda: dispatcher.metric("assay_kubernetes_jobs_swept_total") == 2, explain=dispatcher.metrics)
        wait_lists(standin, 2)
        assert names(place) == {foreign}


def test_a_job_that_could_not_be_deleted_at_its_end_is_deleted_later(standin, place, dispatcher):
    standin.fault("delete", "jobs", status=403)
    task, name = dispatcher.submit()
    pod_of(place, name)
    finish(dispatcher, task)
    assert dispatcher.wait_status(name, "succeeded")["attempts"] == 0
    place.api.wait_gone("jobs", name)
    patient_until(lambda: not names(place, "pods"))


def test_what_was_settled_before_a_crash_is_deleted_after_it(standin, place, tmp_path):
    with Dispatcher(tmp_path / "service", place, "--kube-reconcile", "0") as dispatcher:
        standin.fault("delete", "jobs", times=-1, status=403)
        task, name = dispatcher.submit()
        pod_of(place, name)
        finish(dispatcher, task)
        dispatcher.wait_status(name, "succeeded")
        dispatcher.kill()
        assert names(place) == {name}
        standin.control("faults", method="DELETE")
        dispatcher.start()
        place.api.wait_gone("jobs", name)


def test_what_runs_is_left_alone(standin, place, dispatcher):
    task, name = dispatcher.submit()
    pod_of(place, name)
    wait_lists(standin, 4)
    finish(dispatcher, task)
    told = dispatcher.wait_status(name, "succeeded", "failed", "retrying")
    assert (told["phase"], told["attempt"], told["attempts"]) == ("succeeded", 1, 0), dispatcher.text()
    place.api.wait_gone("jobs", name)
    assert dispatcher.metric("assay_kubernetes_jobs_swept_total") == 0
    assert dispatcher.metric("assay_kubernetes_attempts_missed_total") == 0


def test_what_another_replica_runs_is_left_alone(standin, place, database, tmp_path):
    with contextlib.ExitStack() as stack:
        one, other = (stack.enter_context(Dispatcher(tmp_path / name, place, "--replica", name, ASSAY_DATABASE_URL=database.url))
                      for name in ("one", "other"))
        told = [one.submit() for _ in range(3)]
        for _, name in told:
            pod_of(place, name)
        wait_lists(standin, 6)
        assert names(place) == {name for _, name in told}
        assert one.metric("assay_kubernetes_jobs_swept_total") == other.metric("assay_kubernetes_jobs_swept_total") == 0
        for task, name in told:
            owner = next(dispatcher for dispatcher in (one, other) if reported(dispatcher, task))
            assert owner.wait_status(name, "succeeded", "failed")["attempts"] == 0
            place.api.wait_gone("jobs", name)


def reported(dispatcher, task):
    """Whether it is its attempt; then it has ended."""
    with dispatcher.reporter(task) as wrapper:
        return wrapper.post(dispatcher.port, wrapper.started() + wrapper.ended()) == 200


# ---- what has gone unheard ----


@pytest.fixture
def deaf(standin, place, dispatcher):
    """deaf(): from now on the watches bring nothing, and are not told so."""

    def freeze():
        for resource in ("jobs", "pods"):
            standin.control("streams", {"resource": resource, "do": "freeze"})

    patient_until(lambda: standin.control("streams", method="GET") | {"jobs": 1, "pods": 1} ==
                  standin.control("streams", method="GET"))
    return freeze


def test_a_job_that_has_gone_unheard(place, dispatcher, deaf):
    _, name = dispatcher.submit(max_attempts=1)
    pod_of(place, name)
    deaf()
    place.api.delete("jobs", name, {"propagationPolicy": "Background"})
    told = dispatcher.wait_status(name, "failed")
    assert (told["reason"], told["cause"]) == ("max_attempts", "deleted"), told
    assert dispatcher.metric("assay_kubernetes_attempts_missed_total") == 1


def test_an_end_that_went_unheard(standin, place, dispatcher, deaf):
    standin.control("script", {"end": "untouched"})
    task, name = dispatcher.submit()
    pod = pod_of(place, name)
    deaf()
    end_pod(place, pod, dispatcher.reporter(task).message())
    told = dispatcher.wait_status(name, "succeeded", "failed", "retrying")
    assert (told["phase"], told["exit_code"], told["pod"]) == ("succeeded", 0, pod), dispatcher.text()


def test_a_pod_that_is_not_in_the_next_list_is_gone(standin, place, dispatcher, deaf):
    _, name = dispatcher.submit(max_attempts=1)
    pod = pod_of(place, name)
    # The watch is still able to tell of the pod before it is made deaf.
    patient_until(lambda: dispatcher.metric('assay_kubernetes_watch_events_total{resource="pods"}') >= 2)
    deaf()
    place.api.delete("pods", pod, {"gracePeriodSeconds": 0})
    standin.control("compact")
    standin.control("streams", {"resource": "pods", "do": "cut"})
    told = dispatcher.wait_status(name, "failed")
    assert (told["reason"], told["cause"]) == ("max_attempts", "deleted"), told


# ---- what is counted ----


def test_an_evaluation_is_three_writes_and_no_read(standin, place, tmp_path):
    with Dispatcher(tmp_path / "service", place, "--kube-reconcile", "0") as dispatcher:
        for _ in range(3):
            task, name = dispatcher.submit()
            pod_of(place, name)
            finish(dispatcher, task)
            dispatcher.wait_status(name, "succeeded")
            place.api.wait_gone("jobs", name)
        sample = 'assay_kubernetes_requests_total{verb="%s",resource="%s",code="%d"}'
        patient_until(lambda: dispatcher.metric(sample % ("delete", "jobs", 200)) == 3, explain=dispatcher.metrics)
        counted = {line.rsplit(" ", 1)[0] for line in dispatcher.metrics().splitlines()
                   if line.startswith("assay_kubernetes_requests_total")}
        assert counted == {sample % which for which in (
            ("list", "jobs", 200), ("list", "pods", 200), ("create", "jobs", 201), ("create", "secrets", 201),
            ("delete", "jobs", 200))}
        for which in (("create", "jobs", 201), ("create", "secrets", 201)):
            assert dispatcher.metric(sample % which) == 3


def test_metrics_and_checks(place, dispatcher):
    task, name = dispatcher.submit()
    pod_of(place, name)
    # The watch has told of the Job: after the answer, or before it.
    patient_until(lambda: dispatcher.metric("assay_kubernetes_watch_lag_seconds_count") == 1)
    assert dispatcher.metric('assay_kubernetes_attempts{stage="starting"}') == 1
    with dispatcher.reporter(task) as wrapper:
        assert wrapper.post(dispatcher.port, wrapper.started()) == 200
        assert dispatcher.metric('assay_kubernetes_attempts{stage="starting"}') == 0
        assert dispatcher.metric('assay_kubernetes_attempts{stage="running"}') == 1
        with Reporter(b"another key", task) as forger:
            assert forger.post(dispatcher.port, forger.started()) == 403
        assert dispatcher.metric("assay_kubernetes_reports_forged_total") == 1
        assert wrapper.post(dispatcher.port, wrapper.ended()) == 200
    dispatcher.wait_status(name, "succeeded")
    for resource in ("jobs", "pods"):
        assert dispatcher.metric(f'assay_kubernetes_watch_up{{resource="{resource}"}}') == 1
        assert dispatcher.metric(f'assay_kubernetes_watch_silence_seconds{{resource="{resource}"}}') >= 0
    patient_until(lambda: sum(dispatcher.metric(f'assay_kubernetes_attempts{{stage="{stage}"}}')
                              for stage in ("starting", "running", "ending")) == 0)
    checks = {check["name"]: check["state"] for check in dispatcher.call("GET", "/readyz").json["checks"]}
    assert {name: checks[name] for name in checks if name not in ("store", "bus")} == {
        "Kubernetes API": "ok", "Kubernetes rights": "ok", "attempt listener": "ok", "wrapper": "ok", "Job template": "ok"}


def test_what_is_refused_is_told_as_a_lack_of_rights(standin, place, dispatcher):
    standin.fault("create", "jobs", times=-1, status=403, message='jobs.batch is forbidden: User "system:serviceaccount:c:d" cannot '
                  'create resource "jobs" in API group "batch" in the namespace "c"')
    dispatcher.submit()

    def rights():
        return next(check for check in dispatcher.call("GET", "/readyz").json["checks"] if check["name"] == "Kubernetes rights")

    patient_until(lambda: rights()["state"] == "error")
    assert "jobs.batch is forbidden" in rights()["detail"] and "docs/OPERATIONS.md" in rights()["remedy"]
