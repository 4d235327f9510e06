"""The service against the stand-in for the API server: faults that the real one cannot be made to show on demand, and the
exact moments of a dispatcher's death. No node is there: the stand-in takes pods through their stages, and the test plays the
wrapper in them (played.py).

Whatever the fault, the evaluation ends as it must, once: the store says so (one terminal event, its history without a
fault), and so does the cluster (one Job for each attempt, and in the end no Job, pod or Secret)."""

import contextlib
import re
import socket
import sqlite3
import threading
import time

import pytest
import yaml

import checker
import servers
from authority import Authority
from clients import patient_until, wait_why
from cluster import CALM, QUICK
from kubernetes.client import ApiError, write_kubeconfig
from kubernetes.cluster import StandIn
from played import Played, attempt_name
from service import PATIENCE, follow
from wrapped import ANSWER, REPEAT

ENDED = ("succeeded", "failed", "timed_out", "out_of_memory", "cancelled")
FLAGS = ("--executors", "kubernetes", "--kube-grace", "1", "--retry-base", "0.1")
LISTEN = "127.0.0.1:{}"
pytestmark = pytest.mark.slow


class World:
    """A stand-in, a namespace in it, and the service; `service` is a cluster.Cluster where there are replicas."""

    def __init__(self, standin, place, services):
        self.standin, self.place, self.api, self.services = standin, place, place.api, services
        self.begin = place.api.list("jobs")["metadata"]["resourceVersion"]
        self.service = None
        standin.control("script", {"end": "never"})

    def start(self, *flags, access=None):
        access = access or ("--kube-url", self.standin.url, "--kube-namespace", self.place.name)
        self.service = self.services(*FLAGS, *access, "--attempt-listen", LISTEN.format(servers.free_port()), *flags).start()
        return self

    def submit(self, code="print(1)", **members):
        answer = self.service.call("POST", "/execute", {"code": code, **members})
        assert answer.status == 201, answer
        return answer.json["job_name"]

    def play(self, job, number=1, **keywords):
        return Played(self.api, job, number, **keywords)

    def run(self, output=b"fine\n", **members):
        """One that nothing happens to."""
        job = self.submit(**members)
        self.play(job).run(output)
        self.ended(job, "succeeded")

    def run_by_watches_alone(self):
        """Watches that begin anew bring it: nothing is reported but in the pod's message."""
        for resource in ("jobs", "pods"):
            self.cut(resource)
        job = self.submit()
        player = self.play(job)
        player.step_ended()
        player.pod_ends(0, player.message())
        self.ended(job, "succeeded")

    def attempt_made(self):
        """The number of the attempt whose Job is there, waited for."""
        return int(self.api.wait("jobs", lambda job: True)["metadata"]["labels"]["assay.dev/attempt"])

    def why(self, job, reason, words=""):
        """Waits until that is what it waits for, and is told in such words; all of them."""
        said = wait_why(self.service, job, reason, words)
        assert said["phase"] in ("queued", "starting"), said
        return said["detail"]

    def cut(self, resource, do="cut"):
        """Or what else is to be done to the open watches."""
        self.standin.control("streams", {"resource": resource, "do": do})

    def jobs_made(self, job):
        """The names of all Jobs that there ever were of it."""
        with self.api.watch("jobs", self.begin) as watch:
            self.cut("jobs", "bookmark")  # comes behind all that there was
            events = watch.until(lambda event: event.type == "BOOKMARK")
        names = [event.object["metadata"]["name"] for event in events if event.type == "ADDED"]
        return [name for name in names if name.startswith(job)]

    def ended(self, job, phase, reason=None, lost=(), number=None, made=None):
        """It ends like that, its `number`th attempt, after attempts that were lost for those reasons; its events.

        `made`: the attempts that have got a Job; all of them, unless told; False: not to be known any more."""
        number = number or len(lost) + 1
        status = self.service.wait_status(job, *ENDED)
        assert (status["phase"], status["reason"], status["attempts"], status["attempt"]) == (
            phase, reason, len(lost), number), (status, self.service.text())
        book = checker.Book(self.service.store)
        task = book.rows[status["task_id"]]
        assert not checker.faults_of_history(task, book.events[task.id])
        events = [data for _, _, data in follow(self.service.url, f"/tasks/{job}/events")]
        assert [event["reason"] for event in events if event["kind"] == "retrying"] == list(lost), events
        self.nothing_is_left()
        if made is not False:
            assert self.jobs_made(job) == [attempt_name(job, one) for one in made or range(1, number + 1)]
        return events

    def nothing_is_left(self):
        def left():
            return [f"{kind} {item['metadata']['name']}" for kind in ("jobs", "pods", "secrets") for item in self.api.list(kind)["items"]]

        patient_until(lambda: not left(), explain=lambda: f"{left()}\n{self.service.text()}")


@pytest.fixture
def place(standin):
    with standin.namespace() as made:
        yield made


@pytest.fixture
def idle(standin, place, services):
    """A World whose service has not been started."""
    return World(standin, place, services)


@pytest.fixture
def world(idle):
    return idle.start()


# ---- the watch ----


def events_of_one_size(api, instance="assay"):
    """A pod of nobody's that the service watches too, and a function that changes it: each event is as long as the others."""
    api.create("pods", {"metadata": {
        "name": "other", "labels": {"app": "evaluation", "app.kubernetes.io/instance": instance}, "managedFields": [],
        "annotations": {"standin.assay.dev/script": '{"end": "unbound"}'}},
        "spec": {"containers": [{"name": "c", "image": "i"}]}})
    counter = iter(range(1_000_000, 2_000_000))
    return lambda: api.patch("pods", "other", {"status": {"phase": "Pending", "message": str(next(counter))}}, "status")


def test_a_watch_that_is_cut_at_every_byte_of_an_event(world):
    """Each of its streams brings one event whole and of the next a byte more than the stream before. Nothing is listed anew:
    each goes on where the last one ended."""
    job = world.submit()
    player = world.play(job)
    player.start()
    player.pod()
    change = events_of_one_size(world.api)
    change()
    with world.api.watch("pods", world.api.list("pods")["metadata"]["resourceVersion"]) as watch:
        change()
        next(watch)
        size = sum(watch.pieces) - len(watch.buffered)
    assert 300 < size < 3000
    world.standin.control("reset")
    world.standin.fault("watch", "pods", times=size, cut_after=size, cut_step=1)
    world.cut("pods")
    while world.standin.counts().get("watch pods", 0) <= size:
        change()
    assert "list pods" not in world.standin.counts()
    world.api.delete("pods", "other")
    player.step_ended()
    player.pod_ends(0, player.message())
    world.ended(job, "succeeded")


def test_events_of_megabytes_and_chunks_of_a_byte(idle):
    idle.standin.fault("watch", "pods", pad=3 << 20, chunk=65521)
    idle.standin.fault("watch", "pods", chunk=1)
    idle.start()
    for _ in range(2):
        job = idle.submit()
        player = idle.play(job)
        player.step_ended()
        player.pod_ends(0, player.message())
        idle.ended(job, "succeeded")
        idle.cut("pods")


@pytest.mark.parametrize("how", ["http", "stream", "in the middle"])
def test_a_version_that_is_too_old(world, how):
    """What happened meanwhile is found by a new list."""
    job = world.submit()
    player = world.play(job)
    player.start()
    player.pod()
    player.step_ended()
    world.standin.control("expire", {"how": how})
    world.standin.control("reset")
    if how == "in the middle":
        world.standin.fault("watch", "pods", error=410, after_events=1)
        world.cut("pods")
        player.pod_becomes(message="one event before the error")
        player.pod_ends(0, player.message())
    else:
        world.cut("pods", "freeze")
        player.pod_ends(0, player.message())
        world.standin.control("compact")
        world.cut("pods")
    world.service.wait_status(job, *ENDED)
    assert world.standin.counts()["list pods"] == 1
    world.ended(job, "succeeded", made=how == "in the middle" and [1])


def test_a_pod_that_went_while_nobody_looked(world):
    """Neither DELETED nor a list names it any more."""
    job = world.submit(max_attempts=1)
    player = world.play(job)
    player.start()
    player.pod()
    for resource in ("jobs", "pods"):
        world.cut(resource, "freeze")
    world.api.delete("jobs", job, {"propagationPolicy": "Background"})
    world.nothing_is_left()
    world.standin.control("compact")
    for resource in ("jobs", "pods"):
        world.cut(resource)
    status = world.service.wait_status(job, "failed")
    assert (status["reason"], status["cause"], status["attempts"]) == ("max_attempts", "deleted", 1), status


@pytest.mark.parametrize("offset", [-3600, 3600])
def test_clocks_that_are_wrong_by_an_hour(idle, offset):
    """Those of the API server and of the node. Times that are told are by ours."""
    idle.standin.control("settings", {"clock_offset": offset})
    idle.start()
    before = time.time()
    jobs = [idle.submit() for _ in range(3)]
    players = [idle.play(job, skew=offset) for job in jobs]
    players[0].run(b"by frames\n")
    players[1].start()
    players[1].step_ended()
    players[1].pod_ends(0, players[1].message())
    players[2].start()
    idle.api.delete("pods", players[2].pod()["metadata"]["name"])
    idle.play(jobs[2], 2, skew=offset).run(b"again\n")
    for job, lost in zip(jobs, ((), (), ("deleted",))):
        events = idle.ended(job, "succeeded", lost=lost)
        assert all(before - 1 < event["timestamp"] < time.time() + 1 for event in events), events
        assert 0 <= events[-1]["duration_seconds"] < 600, events


def test_a_node_whose_clock_is_behind_the_servers(idle):
    """By the times a pod ended before it was told to; seen was the other order."""
    idle.standin.control("script", {"end": "never", "stop_ms": 600_000})
    idle.start()
    job = idle.submit()
    player = idle.play(job, skew=-3600)
    player.start()
    player.pod()
    idle.api.delete("jobs", job, {"propagationPolicy": "Background"})
    player.pod(lambda pod: pod["metadata"].get("deletionTimestamp"))
    idle.standin.control("script", {"end": "never"})
    player.pod_ends(143)
    idle.play(job, 2).run()
    with contextlib.suppress(ApiError):  # it may have been collected
        idle.api.delete("pods", player.pod_name, {"gracePeriodSeconds": 0})
    idle.ended(job, "succeeded", lost=["deleted"])


# ---- who we are, and who the server is ----


def copy(source, target):
    with open(source, "rb") as file:
        target.write_bytes(file.read())


def test_the_servers_certificate_is_replaced_and_then_its_authority(tmp_path, services):
    old, new = (Authority(tmp_path, name) for name in ("old", "new"))
    trusted, first = tmp_path / "ca.crt", old.issue()
    copy(old.certificate, trusted)
    with StandIn("--certificate", first["certificate"], "--key", first["key"]) as standin, standin.namespace() as place:
        access = ("--kubeconfig", write_kubeconfig(str(tmp_path / "kubeconfig"), standin.url, str(trusted), "any",
                                                   namespace=place.name))
        world = World(standin, place, services).start(access=access)
        world.run()
        standin.control("certificate", old.issue())
        standin.control("connections")
        world.run()
        standin.control("certificate", new.issue())
        standin.control("connections")
        patient_until(lambda: world.service.call("GET", "/readyz").json["status"] == "degraded", explain=world.service.text)
        job = world.submit()
        patient_until(lambda: "certificate" in world.why(job, "executor_unhealthy"), explain=world.service.text)
        copy(new.certificate, trusted)
        world.play(job).run()
        world.ended(job, "succeeded")


def test_a_clients_certificate_that_is_rotated(tmp_path, services):
    """The former one is refused from now on, also over connections that are there."""
    authority = Authority(tmp_path, "authority")
    server, former, new = authority.issue(), authority.issue(), authority.issue()
    shown = [tmp_path / name for name in ("shown.crt", "shown.key")]

    def show(issued):
        for name, path in zip(("certificate", "key"), shown):
            copy(issued[name], path)

    show(former)
    with StandIn("--certificate", server["certificate"], "--key", server["key"], "--client-ca", authority.certificate) as standin, \
            standin.namespace() as place:
        kubeconfig = write_kubeconfig(str(tmp_path / "kubeconfig"), standin.url, authority.certificate,
                                      certificate=[str(path) for path in shown], namespace=place.name)
        world = World(standin, place, services).start(access=("--kubeconfig", kubeconfig))
        standin.control("settings", {"serials": ["02"]})
        world.run()
        show(new)
        standin.control("settings", {"serials": ["03"]})
        world.run()
        world.run_by_watches_alone()


def test_a_token_that_is_rotated(tmp_path, idle):
    """The old one is refused from now on: the file has the new one."""
    token, path = tmp_path / "token", str(tmp_path / "kubeconfig")
    token.write_text("old")
    write_kubeconfig(path, idle.standin.url, namespace=idle.place.name)
    with open(path, encoding="utf-8") as file:
        document = yaml.safe_load(file)
    document["users"][0]["user"] = {"tokenFile": str(token)}
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(document))
    idle.standin.control("settings", {"tokens": ["old"]})
    idle.api.token = "old"
    idle.start(access=("--kubeconfig", path))
    idle.run()
    token.write_text("new")
    idle.standin.control("settings", {"tokens": ["new"]})
    idle.api.token = "new"
    idle.run()
    idle.run_by_watches_alone()


# ---- what becomes of a pod ----


@pytest.mark.parametrize("resource, options", [("jobs", {"propagationPolicy": "Background"}), ("jobs", None), ("pods", None),
                                               ("pods", {"gracePeriodSeconds": 0})],
                         ids=["job", "job without its pod", "pod", "pod at once"])
def test_somebody_deletes_it(world, resource, options):
    job = world.submit()
    player = world.play(job)
    player.start()
    pod = player.pod()
    world.api.delete(resource, job if resource == "jobs" else pod["metadata"]["name"], options)
    world.play(job, 2).run()
    world.ended(job, "succeeded", lost=["deleted"])


def test_its_job_is_deleted_without_its_pod_while_nobody_looks(world):
    job = world.submit()
    player = world.play(job)
    player.start()
    world.service.wait_status(job, "running")
    world.service.kill()
    world.api.delete("jobs", job)
    player.pod(lambda pod: not pod["metadata"].get("ownerReferences"))
    world.service.start()
    # What is heard of first: that there is no Job, or that its pod has gone.
    reason = next(event["reason"] for _, kind, event in follow(world.service.url, f"/tasks/{job}/events") if kind == "retrying")
    assert reason in ("worker_crash", "deleted")
    world.play(job, 2).run()
    world.ended(job, "succeeded", lost=[reason])


def test_another_pod_takes_its_place_while_nobody_looks(world):
    job = world.submit()
    player = world.play(job)
    player.pod()
    seen = re.compile(r'^assay_kubernetes_watch_events_total{resource="pods"} ([2-9]|[0-9]{2,})$', re.MULTILINE)
    patient_until(lambda: seen.search(world.service.call("GET", "/metrics").body.decode()), explain=world.service.text)
    player.start()
    assert "running" in (kind for _, kind, _ in follow(world.service.url, f"/tasks/{job}/events"))  # it is in the store
    world.service.kill()
    world.api.delete("pods", player.pod_name, {"gracePeriodSeconds": 0})
    world.api.wait("pods", lambda pod: pod["metadata"]["name"] != player.pod_name, labelSelector="job-name=" + job)
    world.service.start()
    world.play(job, 2).run()
    world.ended(job, "succeeded", lost=["deleted"])


def test_another_pod_takes_its_place(idle):
    """The first one takes its time to end, so that its successor is seen beside it: nothing of that is believed."""
    idle.standin.control("script", {"end": "never", "stop_ms": 500})
    idle.start()
    job = idle.submit()
    player = idle.play(job)
    player.start()
    idle.service.wait_status(job, "running")
    idle.api.delete("pods", player.pod()["metadata"]["name"])
    status = idle.service.wait_status(job, "retrying", "starting")
    assert status["attempts"] == 1, status
    player.send(player.output(b"from the second pod\n"), player.step_ended(), player.ended())
    idle.play(job, 2).run(b"right\n")
    events = idle.ended(job, "succeeded", lost=["deleted"])
    assert events[-1]["output"] == "right\n"


@pytest.mark.parametrize("status, reason", [
    ({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory. "}, "evicted"),
    ({"phase": "Failed", "conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
                                         "message": "a pod of higher priority"}]}, "preempted"),
    ({"reason": "NodeLost", "message": "Node n which was running pod p is unresponsive"}, "node_lost")],
    ids=["evicted", "preempted", "node lost"])
def test_the_cluster_takes_it_away(world, status, reason):
    job = world.submit()
    player = world.play(job)
    player.start()
    player.pod_becomes(**status)
    world.play(job, 2).run()
    world.ended(job, "succeeded", lost=[reason])


def test_a_node_that_is_lost(idle):
    """The node life cycle controller takes "Ready" from its pods and has them deleted; the Job's next pod comes at once."""
    idle.standin.control("script", {"end": "never", "stop_ms": 500})
    idle.start()
    job = idle.submit()
    player = idle.play(job)
    player.start()
    pod = player.pod()["metadata"]["name"]
    player.pod_becomes(conditions=[{"type": "Ready", "status": "False", "lastTransitionTime": None}])
    idle.api.delete("pods", pod)
    idle.play(job, 2).run()
    idle.ended(job, "succeeded", lost=["node_lost"])


def test_a_node_that_does_not_say_what_became_of_a_pod(idle):
    """It was told to end, since its Job was deleted, and nobody confirms that it has."""
    idle.standin.control("script", {"end": "untouched"})
    idle.start("--kube-gone-grace", "4")  # nobody is late by so much with telling that the pod was told to
    job = idle.submit()
    player = idle.play(job)
    pod = player.pod(lambda pod: pod["spec"].get("nodeName"))["metadata"]["name"]
    player.start()
    idle.api.delete("jobs", job, {"propagationPolicy": "Background"})
    idle.standin.control("script", {"end": "never"})
    again = idle.play(job, 2)
    idle.api.delete("pods", pod, {"gracePeriodSeconds": 0})
    again.run()
    idle.ended(job, "succeeded", lost=["node_lost"])


@pytest.mark.parametrize("ends, phase, reason", [
    ({"exit_reason": "OOMKilled"}, "out_of_memory", "out_of_memory"),
    ({"reason": "Evicted", "message": 'Usage of EmptyDir volume "assay-work" exceeds the limit "1Mi". '},
     "failed", "disk_limit")], ids=["memory", "disk"])
def test_the_code_took_the_wrapper_with_it(world, ends, phase, reason):
    """Nothing was signed: the node says whose fault it was."""
    job = world.submit()
    player = world.play(job)
    player.start()
    assert player.send(player.output(b"before\n")) == 200
    player.pod_ends(137, **ends)
    events = world.ended(job, phase, reason)
    assert events[-1]["output"] == "before\n"


def test_an_image_that_is_not_there_is_waited_for_and_then_is_a_fault(idle):
    idle.standin.control("script", {"end": "image_pull"})
    idle.start("--kube-image-grace", "2")
    job = idle.submit()
    idle.why(job, "image_pulling", "ImagePull")
    idle.standin.control("script", {"end": "never"})
    idle.play(job, 2).run()
    idle.ended(job, "succeeded", lost=["image_pull"])


# ---- waiting ----


def test_what_no_node_has_room_for_waits_and_runs_when_there_is(idle):
    """Only one that has a node may be late: the other, which waits for one, outlasts it."""
    idle.standin.control("script", {"end": "unschedulable"})
    idle.start("--start-timeout", "1")
    job = idle.submit()
    idle.why(job, "waiting_for_capacity", "Insufficient cpu")
    idle.standin.control("script", {"end": "untouched"})
    late = idle.submit(max_attempts=1)
    status = idle.service.wait_status(late, "failed")
    assert (status["reason"], status["cause"]) == ("max_attempts", "start_timeout"), status
    for pod in idle.api.list("pods", labelSelector="job-name=" + late)["items"]:
        idle.api.delete("pods", pod["metadata"]["name"], {"gracePeriodSeconds": 0})  # nobody else does
    idle.standin.control("script", {"end": "never"})
    idle.why(job, "waiting_for_capacity", "Insufficient cpu")
    player = idle.play(job)
    pod = player.pod(lambda pod: True)["metadata"]["name"]
    # Its node is told of behind that: from then on it could be late, too.
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    idle.api.patch("pods", pod, {"status": {"phase": "Running", "conditions": [
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": stamp}], "containerStatuses": [
        {"name": "evaluation", "state": {"running": {"startedAt": stamp}}}]}}, "status")
    idle.api.patch("pods", pod, {"spec": {"nodeName": "standin-node"}})
    player.run()
    idle.ended(job, "succeeded")


def test_a_quota_that_refuses_the_job(world):
    world.api.create("resourcequotas", {"metadata": {"name": "q"}, "spec": {"hard": {"count/jobs.batch": "0"}}})
    job = world.submit()
    world.why(job, "quota", "exceeded quota: q")
    world.api.patch("resourcequotas", "q", {"spec": {"hard": {"count/jobs.batch": "5"}}})
    number = world.attempt_made()
    world.play(job, number).run()
    world.ended(job, "succeeded", number=number, made=[number])


def test_a_policy_that_refuses_the_job_is_nobody_elses_affair(world):
    world.standin.fault("create", "jobs", times=2, status=403, message='admission webhook "images" denied the request: not this image')
    job = world.submit(max_attempts=2)
    status = world.service.wait_status(job, "failed")
    assert (status["reason"], status["cause"]) == ("max_attempts", "api_error"), status
    assert world.service.call("GET", "/readyz").json["status"] == "ready"
    world.run()


def test_a_quota_that_refuses_the_pod(world):
    """Only the Job's Events say so."""
    world.api.create("resourcequotas", {"metadata": {"name": "q"}, "spec": {"hard": {"pods": "0"}}})
    job = world.submit()
    world.why(job, "quota", "exceeded quota: q")
    assert world.standin.counts()["list events"] == 1
    world.api.patch("resourcequotas", "q", {"spec": {"hard": {"pods": "5"}}})
    world.play(job).run()
    world.ended(job, "succeeded")


# ---- answers that do not come, or late ----


@pytest.mark.parametrize("resource", ["jobs", "secrets"])
def test_a_creation_that_is_not_answered_as_it_should(world, resource):
    """It was done or not; either way it is done once."""
    for does in ({"status": 429, "retry_after": 1}, {"status": 500}, {"status": 503}, {"status": 504, "do_it": True},
                 {"drop": True}, {"drop": True, "do_it": True}, {"cut_after": 20}):
        world.standin.fault("create", resource, **does)
        world.run()


def test_a_server_that_asks_for_more_time_than_a_call_has_is_given_it(world):
    """One request and no other meanwhile, whatever else goes well."""
    first = world.submit()
    player = world.play(first)
    player.start()
    world.standin.control("reset")
    world.standin.fault("create", "jobs", status=429, retry_after=31)
    second = world.submit()
    patient_until(lambda: world.standin.counts().get("create jobs") == 1, explain=world.service.text)
    patient_until(lambda: world.service.call("GET", f"/status/{second}").json["phase"] == "queued", explain=world.service.text)
    player.finish(b"fine\n")
    world.ended(first, "succeeded")
    assert world.standin.counts()["create jobs"] == 1
    world.play(second, 2).run()
    world.ended(second, "succeeded", number=2, made=[2])
    assert world.standin.counts()["create jobs"] == 2


def test_a_deletion_that_is_not_answered_as_it_should(world):
    for does in ({"status": 429, "retry_after": 1}, {"status": 503}, {"status": 504, "do_it": True}, {"drop": True, "do_it": True},
                 {"status": 403}):
        world.standin.fault("delete", "jobs", **does)
        world.run()


def test_a_cancel_whose_deletion_is_refused_is_told_when_another_was_not(world):
    job = world.submit()
    world.play(job).start()
    world.standin.fault("delete", "jobs", status=403)
    world.standin.fault("delete", "jobs", hold=True)
    assert world.service.call("POST", f"/tasks/{job}/cancel").status in (200, 202)
    world.standin.control("held")
    assert world.service.call("GET", f"/status/{job}").json["phase"] not in ENDED
    world.standin.control("release")
    world.ended(job, "cancelled", "cancelled")


def test_an_api_server_that_does_not_list_at_first(idle):
    for resource in ("jobs", "pods"):
        idle.standin.fault("list", resource, status=503)
        idle.standin.fault("watch", resource, status=429, retry_after=1)
    idle.start()
    idle.run()


# ---- the dispatcher's death ----


@pytest.mark.parametrize("resource, done, number", [("jobs", False, 2), ("jobs", True, 1), ("secrets", False, 1), ("secrets", True, 1)],
                         ids=["before the Job", "before its answer", "before the Secret", "before the Secret's answer"])
def test_killed_while_it_creates(world, resource, done, number):
    world.standin.fault("create", resource, hold=True, do_it=done)
    job = world.submit()
    world.standin.control("held")
    world.service.kill()
    world.standin.control("release")
    world.service.start()
    world.play(job, number).run(b"once\n")
    lost = ["worker_crash"] * (number - 1)
    events = world.ended(job, "succeeded", lost=lost, made=[number])
    assert events[-1]["output"] == "once\n"


def test_killed_before_it_saw_what_it_created(idle):
    for resource in ("jobs", "pods"):
        idle.standin.fault("watch", resource, times=-1, frozen=True)
    idle.start()
    job = idle.submit()
    player = idle.play(job)
    player.start()
    player.pod()
    idle.service.kill()
    idle.standin.control("faults", method="DELETE")
    idle.service.start()
    player.finish(b"once\n")
    idle.ended(job, "succeeded")


def test_killed_while_the_code_runs(world):
    """What the wrapper says from then on is heard by the next incarnation."""
    job = world.submit()
    player = world.play(job)
    player.start()
    world.service.wait_status(job, "running")
    world.service.kill()
    world.service.start()
    player.finish(b"once\n")
    events = world.ended(job, "succeeded")
    assert events[-1]["output"] == "once\n"


def test_killed_and_the_code_ends_meanwhile(world):
    job = world.submit()
    player = world.play(job)
    player.start()
    world.service.wait_status(job, "running")
    world.service.kill()
    player.step_ended("exit_code", 3)
    player.pod_ends(3, player.message())
    world.service.start()
    world.ended(job, "failed", "exit_code")


def test_killed_and_the_pod_goes_meanwhile(world):
    """The Job has come to its end, and nothing says any more how."""
    job = world.submit()
    player = world.play(job)
    player.start()
    world.service.wait_status(job, "running")
    world.service.kill()
    player.pod_ends(0)
    world.api.wait("jobs", lambda one: one["status"].get("succeeded"))
    world.api.delete("pods", player.pod(lambda pod: True)["metadata"]["name"])
    world.service.start()
    world.play(job, 2).run()
    world.ended(job, "succeeded", lost=["deleted"])


def test_killed_between_the_end_and_its_settlement(world):
    """The store is held by another, so that the end is known and not yet written."""
    job = world.submit()
    player = world.play(job)
    player.start()
    world.service.wait_status(job, "running")
    with contextlib.closing(sqlite3.connect(world.service.store, isolation_level=None, timeout=PATIENCE)) as store:
        store.execute("BEGIN IMMEDIATE")
        body = player.output(b"once\n"), player.step_ended("exit_code", 3), player.ended()

        def send():
            with contextlib.suppress(OSError):  # it is killed under us
                player.send(*body)

        sending = threading.Thread(target=send)
        sending.start()
        world.service.wait_line("outcomes could not be written")
        player.pod_ends(3, player.message())
        world.service.kill()
        sending.join(PATIENCE)
        store.execute("ROLLBACK")
    world.service.start()
    world.ended(job, "failed", "exit_code")


# ---- replicas ----


@pytest.fixture
def replicas(idle, database, clusters):
    """replicas(*flags): a cluster.Cluster of two, not yet started, and the World that they share. Each has an attempt listener
    of its own, `reports`."""
    def make(*flags):
        cluster = clusters(database, *FLAGS, *flags, "--kube-url", idle.standin.url, "--kube-namespace", idle.place.name,
                           ASSAY_ATTEMPT_KEY="the key of both of them")
        for replica in cluster.replicas:
            replica.reports = LISTEN.format(servers.free_port())
            replica.flags += ("--attempt-listen", replica.reports)
        return cluster, idle
    return make


def wait_healthy(replica):
    patient_until(lambda: replica.call("GET", "/readyz").json["status"] == "ready", explain=replica.text)


def test_a_replica_stops_past_its_lease_and_comes_back(replicas):
    """The other adopts what runs, and the first, when it wakes up, has no say any more."""
    cluster, world = replicas(*QUICK)
    world.service = cluster.start().replicas[0]
    job = world.submit()
    player = world.play(job)
    player.start()
    owner = cluster.owner(job)
    other = cluster.other_than(owner)
    world.service = other
    other.wait_status(job, "running")
    before = cluster.incarnations(owner)
    owner.pause()
    assert cluster.owner(job, but=owner) is other
    cluster.wait_dead(owner)
    owner.resume()
    cluster.wait_new_incarnation(owner, before)
    body = player.output(b"once\n"), player.step_ended(), player.ended()
    # The other may have been away for as long since, and then the first has it again.
    patient_until(lambda: any(player.send(*body, listener=one.reports) == 200 for one in (other, owner)), explain=cluster.text)
    events = world.ended(job, "succeeded")
    assert events[-1]["output"] == "once\n"


def test_a_replica_whose_watches_bring_nothing(replicas):
    """It hears of its own by the wrapper; the other, which sees all, does not meddle."""
    cluster, world = replicas(*CALM)
    first, second = cluster.replicas
    for resource in ("jobs", "pods"):
        world.standin.fault("watch", resource, frozen=True)
    for replica in cluster.replicas:
        replica.start()
        wait_healthy(replica)
    world.service = first
    owner = second
    while owner is second:  # whoever is faster has it
        job = world.submit()
        owner = cluster.owner(job)
        world.play(job).run(b"once\n")
        world.ended(job, "succeeded")


# ---- reports ----


def test_a_forged_report_is_dropped(world):
    """By whichever way it comes, and counted where somebody sent it."""
    job = world.submit()
    player = world.play(job)
    player.start()
    forged = Played(world.api, job)
    forged.attempt.key = bytes(32)
    assert forged.send(forged.step_ended(), forged.ended()) == 403
    metrics = world.service.call("GET", "/metrics").body.decode()
    assert "assay_kubernetes_reports_forged_total 1\n" in metrics
    assert player.send(player.output(b"mine\n")) == 200
    forged.pod_ends(0, forged.message())
    world.play(job, 2).run()
    counted = re.search(r"^assay_kubernetes_reports_forged_total ([0-9]+)$", world.service.call("GET", "/metrics").body.decode(), re.MULTILINE)
    assert int(counted[1]) > 1
    world.ended(job, "succeeded", lost=["executor_lost"])


def test_progress_is_an_event_and_changes_nothing(world):
    job = world.submit()
    player = world.play(job)
    player.start()
    seen = []
    for _, kind, event in follow(world.service.url, f"/tasks/{job}/events"):
        if kind == "running":
            assert player.send(player.progress(2.5, 1.25, 4096)) == 200
        if kind == "progress":
            seen.append(event)
            if len(seen) == 1:
                assert player.send(player.progress(2, 1)) == 200  # another had overtaken it
                assert player.send(player.progress(3)) == 200
            else:
                player.finish(b"fine\n")
    assert [(one["step"], one["run_index"], one["wall_seconds"], one.get("cpu_seconds"), one.get("memory_bytes")) for one in seen] == [
        ("run", 0, 2.5, 1.25, 4096), ("run", 0, 3, None, None)]
    assert "sequence" not in seen[0] and seen[0]["job_name"] == job
    assert world.ended(job, "succeeded")[-1]["output"] == "fine\n"


def test_progress_before_anything_else_is_asked_for_the_rest(idle):
    """As when another replica, or the next incarnation, has taken the attempt up."""
    world = idle.start()
    job = world.submit()
    player = world.play(job)
    status, body = player.ask(player.progress(1), query="?kept=1")
    assert status == 200
    frame, = player.attempt.read(body)
    assert frame.kind == ANSWER and frame.sequence == 0 and frame.payload[0] == REPEAT
    player.run(b"all of it\n")
    assert world.ended(job, "succeeded")[-1]["output"] == "all of it\n"


def test_one_address_has_so_many_connections_and_no_more(idle):
    world = idle.start("--attempt-connections", "2")
    job = world.submit()
    player = world.play(job)
    player.start()
    host, port = player.listener.rsplit(":", 1)

    def answer(stack):
        connection = stack.enter_context(socket.create_connection((host, int(port)), PATIENCE))
        with contextlib.suppress(OSError):
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            return int(connection.recv(4096).split()[1])
        return 503  # closed before it was read

    with contextlib.ExitStack() as stack:
        # The connection of the start may still be there.
        patient_until(lambda: stack.close() or (answer(stack), answer(stack)) == (421, 421))
        assert answer(stack) == 503
        patient_until(lambda: stack.close() or answer(stack) == 421)
    metrics = world.service.call("GET", "/metrics").body.decode()
    assert re.search(r"^assay_kubernetes_reports_crowded_total [1-9]", metrics, re.MULTILINE)
    player.finish(b"fine\n")
    world.ended(job, "succeeded")


C = {"code": "int main(void) { return 0; }", "language": "c"}


def test_a_compile_and_then_a_run(world):
    job = world.submit(**C)
    player = world.play(job)
    player.start()
    assert player.send(player.output(b"warning\n", 2, compile=True), player.step_ended(compile=True)) == 200
    player.finish(b"42\n")
    events = world.ended(job, "succeeded")
    assert events[-1]["output"] == "42\n"


def test_a_compile_that_fails(world):
    job = world.submit(**C)
    player = world.play(job)
    player.start()
    assert player.send(player.output(b"error: no\n", 2, compile=True), player.step_ended("compile_error", 1, compile=True),
                       player.ended()) == 200
    events = world.ended(job, "failed", "compile_error")
    assert events[-1]["error"] == "error: no\n"
