"""What a real cluster does to evaluations, and what is done to it: control plane killed and paused, pods deleted and evicted,
a node lost, no room and no quota. Each evaluation ends as it must, once: by the store, and by what the cluster still has.

What takes exact moments, or what the real one cannot be made to show, is in test_kubernetes_standin.py."""

import contextlib
import json
import socket
import threading

import pytest

import checker
import servers
from clients import patient_until, wait_why
from kubernetes.client import path_of
from kubernetes.cluster import FakeNode, condition
from kubernetes.private import NODE
from played import Played, attempt_name
from service import PATIENCE, follow
from test_kubernetes import wrapper_image  # noqa: F401 pylint: disable=unused-import

ENDED = ("succeeded", "failed", "timed_out", "out_of_memory", "cancelled")
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("kubernetes-2")]


class Gate:
    """Where code in pods comes to, and waits until it may go on."""

    def __init__(self, address):
        self.socket = socket.create_server((address, 0))
        self.socket.settimeout(PATIENCE)
        self.address = self.socket.getsockname()
        self.connection = None

    def code(self, then="print('done')"):
        """Python that waits here for `word`, and then does that."""
        return f"import socket\nword = socket.create_connection({self.address!r}).makefile('rb').read()\n{then}"

    def wait(self):
        """Until somebody has come."""
        self.connection = self.socket.accept()[0]

    def open(self, word=b""):
        self.connection.sendall(word)
        self.connection.close()

    def open_for_all(self):
        """Whoever comes from now on, and who is there."""
        def let_through():
            with contextlib.suppress(OSError):
                while True:
                    self.socket.accept()[0].close()

        threading.Thread(target=let_through, daemon=True).start()
        self.open()

    def close(self):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


@pytest.fixture
def gate(kubernetes):
    made = Gate(kubernetes.host_address)
    yield made
    made.close()


@pytest.fixture
def make(kubernetes, namespace, wrapper_image, services, tmp_path):  # noqa: F811 pylint: disable=redefined-outer-name
    """make(*flags): a service that has this namespace for its own, started."""
    def make(*flags):
        running = services(
            "--executors", "kubernetes", "--kubeconfig", namespace.kubeconfig(str(tmp_path / "kubeconfig")),
            "--kube-wrapper-image", wrapper_image, "--attempt-listen", f"0.0.0.0:{servers.free_port()}",
            "--attempt-address", kubernetes.host_address, "--kube-grace", "1", "--retry-base", "0.1", *flags).start()
        running.namespace = namespace
        running.begin = namespace.admin.list("jobs")["metadata"]["resourceVersion"]
        return running
    return make


def submit(service, code="print('fine')", **members):
    answer = service.call("POST", "/execute", {"code": code, **members})
    assert answer.status == 201, answer
    return answer.json["job_name"]


def is_going(item):
    return bool(item["metadata"].get("deletionTimestamp"))


def nothing_is_left(service):
    """Each Job was deleted, and what it owns. kubelet may take its time: what goes is as good as gone."""
    admin = service.namespace.admin

    def left():
        items = [item for kind in ("jobs", "pods", "secrets") for item in admin.list(kind)["items"]]
        return [item["metadata"]["name"] for item in items if item.get("type", "Opaque") == "Opaque" and not is_going(item)]

    patient_until(lambda: not left(), explain=lambda: f"{left()}\n{service.text()}")


def jobs_made(service, last):
    """The names of all Jobs that there were, up to the deletion of the last."""
    def over(event):
        return is_going(event.object) and event.object["metadata"]["name"] == last

    with service.namespace.admin.watch("jobs", service.begin) as watch:
        return [event.object["metadata"]["name"] for event in watch.until(over) if event.type == "ADDED"]


def ended(service, job, phase="succeeded", reason=None, lost=None, number=None):
    """It ends like that, after attempts that were lost for those reasons, each in a Job of its own; its last event."""
    status = service.wait_status(job, *ENDED)
    assert (status["phase"], status["reason"]) == (phase, reason), (status, service.text())
    book = checker.Book(service.store)
    task = book.rows[status["task_id"]]
    assert not checker.faults_of_history(task, book.events[task.id])
    events = [data for _, _, data in follow(service.url, f"/tasks/{job}/events")]
    told = [event["reason"] for event in events if event["kind"] == "retrying"]
    assert told == list(lost or ()) and status["attempts"] == len(told), (told, status, service.text())
    nothing_is_left(service)
    if number:
        assert status["attempt"] == number
        made = [name for name in jobs_made(service, attempt_name(job, number)) if name.startswith(job)]
        assert made == [attempt_name(job, one) for one in range(1, number + 1)]
    return events[-1]


def wait_retrying(service, job):
    """Until an attempt of it has been given up."""
    assert any(kind == "retrying" for _, kind, _ in follow(service.url, f"/tasks/{job}/events"))


def pod_of(service, job):
    return service.namespace.admin.wait("pods", lambda pod: True, labelSelector="job-name=" + job)


def running_at(gate, service):
    """A job whose code has come to the gate."""
    job = submit(service, gate.code())
    gate.wait()
    service.wait_status(job, "running")
    return job


@contextlib.contextmanager
def api_server_killed(kubernetes):
    api_server = kubernetes.component("apiserver")
    api_server.kill()
    try:
        yield
    finally:
        api_server.start()
        kubernetes.private.wait_api_server()


# ---- the control plane ----


def test_the_api_server_is_killed_and_comes_back(make, kubernetes, gate):
    """What runs is settled while it is away; what was to be created runs when it is back."""
    service = make()
    job = running_at(gate, service)
    with api_server_killed(kubernetes):
        other = submit(service)
        gate.open()
        assert service.wait_status(job, *ENDED)["phase"] == "succeeded"
    assert ended(service, job)["output"] == "done\n"
    assert ended(service, other)["output"] == "fine\n"


def test_etcd_stands_still(make, kubernetes, gate):
    service = make()
    job = running_at(gate, service)
    with kubernetes.paused("etcd"):
        other = submit(service)
        gate.open()
        assert service.wait_status(job, *ENDED)["phase"] == "succeeded"
    ended(service, job)
    assert ended(service, other)["output"] == "fine\n"


def test_dispatcher_and_api_server_are_killed_together(make, kubernetes, gate):
    """The next dispatcher waits until it may ask, and takes up what runs."""
    service = make()
    job = running_at(gate, service)
    with api_server_killed(kubernetes):
        service.kill()
        service.start()
        gate.open()
    event = ended(service, job)
    assert (event["output"], event["attempt"]) == ("done\n", 1)


# ---- pods and nodes ----


def test_a_pod_that_somebody_deletes(make, gate):
    """The Job makes another at once, which is not the attempt any more."""
    service = make()
    job = submit(service, gate.code())
    gate.wait()
    service.namespace.admin.delete("pods", pod_of(service, job)["metadata"]["name"])
    wait_retrying(service, job)
    gate.open_for_all()
    assert ended(service, job, lost=["deleted"], number=2)["output"] == "done\n"


def test_a_pod_that_is_evicted(make, gate):
    """By the Eviction API. Servers before 1.26 do not say so: it is a deletion like another."""
    service = make()
    admin = service.namespace.admin
    minor = int(admin("GET", "/version")["minor"].rstrip("+"))
    job = submit(service, gate.code())
    gate.wait()
    name = pod_of(service, job)["metadata"]["name"]
    admin("POST", path_of("pods", service.namespace.name, name, "eviction"), {
        "apiVersion": "policy/v1" if minor >= 22 else "policy/v1beta1", "kind": "Eviction", "metadata": {"name": name}})
    wait_retrying(service, job)
    gate.open_for_all()
    ended(service, job, lost=["evicted" if minor >= 26 else "deleted"], number=2)


@contextlib.contextmanager
def fake_node(make, kubernetes, tmp_path):
    """A node of which only the API server knows, a service whose pods go there, and the one attempt of a job that runs there: the test
    is its kubelet, and the wrapper in its pod."""
    with FakeNode(kubernetes.admin) as node:
        template = tmp_path / "template"
        template.write_text(json.dumps({"spec": {"template": {"spec": node.wanted()}}}))
        service = make("--kube-template", str(template))
        job = submit(service, max_attempts=1)
        pod = node.pod(service.namespace.name)
        node.tell(pod, "Running", {"running": {}})
        Played(service.namespace.admin, job).start()
        service.wait_status(job, "running")
        yield node, service, job, pod


def given_up(service, job, cause):
    status = service.wait_status(job, *ENDED)
    assert (status["reason"], status["cause"], status["attempts"]) == ("max_attempts", cause, 1), (status, service.text())


def test_a_node_that_is_lost(make, kubernetes, tmp_path):
    with fake_node(make, kubernetes, tmp_path) as (node, service, job, pod):
        node.lose()
        admin = service.namespace.admin
        admin.wait("pods", lambda pod: condition(pod, "Ready")["status"] == "False", labelSelector="job-name=" + job)
        admin.delete("pods", pod["metadata"]["name"])  # by the taint manager, or by whoever is sooner
        given_up(service, job, "node_lost")
        node.forget(pod)
        nothing_is_left(service)


def test_a_node_that_is_removed(make, kubernetes, tmp_path):
    """What ran there is collected by the cluster; servers before 1.26 do not say why."""
    with fake_node(make, kubernetes, tmp_path) as (node, service, job, _):
        node.remove()
        minor = int(kubernetes.admin("GET", "/version")["minor"].rstrip("+"))
        given_up(service, job, "node_lost" if minor >= 26 else "deleted")
        nothing_is_left(service)


# ---- waiting ----


def test_no_node_fits_and_then_one_does(make, kubernetes, tmp_path):
    if not kubernetes.private:
        pytest.skip("changes a node, which is not our own")
    template = tmp_path / "template"
    label = "assay.dev/wanted"
    template.write_text(json.dumps({"spec": {"template": {"spec": {"nodeSelector": {label: "yes"}}}}}))
    service = make("--kube-template", str(template))
    job = submit(service)
    wait_why(service, job, "waiting_for_capacity", "Unschedulable")
    kubernetes.admin.patch("nodes", NODE, {"metadata": {"labels": {label: "yes"}}})
    try:
        ended(service, job, number=1)
    finally:
        kubernetes.admin.patch("nodes", NODE, {"metadata": {"labels": {label: None}}})


def test_a_quota_that_is_used_up_and_freed(make):
    service = make()
    admin = service.namespace.admin

    def hold(amount):
        return admin.wait("resourcequotas", lambda one: one["status"].get("hard") == {"count/jobs.batch": amount})

    admin.create("resourcequotas", {"metadata": {"name": "q"}, "spec": {"hard": {"count/jobs.batch": "0"}}})
    hold("0")
    job = submit(service)
    wait_why(service, job, "quota", "exceeded quota: q")
    admin.patch("resourcequotas", "q", {"spec": {"hard": {"count/jobs.batch": "9"}}})
    hold("9")
    ended(service, job)


def test_a_quota_that_only_the_events_tell(make):
    service = make()
    admin = service.namespace.admin
    admin.create("resourcequotas", {"metadata": {"name": "q"}, "spec": {"hard": {"pods": "0"}}})
    admin.wait("resourcequotas", lambda one: one["status"].get("hard"))
    job = submit(service)
    wait_why(service, job, "quota", "exceeded quota: q")
    assert service.call("POST", f"/tasks/{job}/cancel").status in (200, 202)
    ended(service, job, "cancelled", "cancelled", number=1)


# ---- what code does ----


def test_memory_runs_out_by_many_small_processes(make):
    """The code goes, and not the wrapper, which is the largest of them."""
    service = make()
    job = submit(service, """
import os, signal, time
children = []
for _ in range(100):
    child = os.fork()
    if child == 0:
        room = b"x" * (2 << 20)
        time.sleep(600)
    children.append(child)
died = [status for _, status in (os.wait() for _ in children[:1])]
for child in children:
    try:
        os.kill(child, signal.SIGKILL)
    except ProcessLookupError:
        pass
raise SystemExit(any(os.WIFSIGNALED(status) for status in died))
""", memory_limit="64Mi")
    ended(service, job, "out_of_memory", "out_of_memory", number=1)


def test_a_report_that_the_code_forges(make, gate):
    """It knows everything but the key."""
    service = make()
    job = submit(service, gate.code("""
host, port, request = word.split(b' ', 2)
with socket.create_connection((host.decode(), int(port))) as connection:
    connection.sendall(request)
    print(connection.recv(100)[:12].decode())
raise SystemExit(3)"""))
    gate.wait()
    forger = Played(service.namespace.admin, job)
    forger.attempt.key = bytes(32)
    body = forger.started() + forger.step_ended() + forger.ended()
    head = f"POST /attempts/{forger.attempt.task}/1/frames HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    gate.open(forger.listener.replace(":", " ").encode() + b" " + head.encode() + body)
    assert ended(service, job, "failed", "exit_code", number=1)["output"] == "HTTP/1.1 403\n"


NEIGHBOUR = """
import ctypes, os, signal, sys
libc, did = ctypes.CDLL(None, use_errno=True), []


def tried(what, call):
    try:
        if call():
            did.append(what)
    except OSError:
        pass


for name in ("environ", "mem", "maps", "fd/0", "root/etc/passwd", "cwd/main.py"):
    tried("read " + name, lambda: open("/proc/1/" + name, "rb").read(1))
for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, signal.SIGINT):
    tried(f"sent {number}", lambda: os.kill(1, number) or True)
for request in (16, 0x4206):
    tried(f"traced {request:x}", lambda: libc.ptrace(request, 1, 0, 0) == 0)
print(did, flush=True)
if os.fork() == 0:
    os.setsid()
    while True:
        tried("", lambda: open("/dev/termination-log", "wb").write(b"assay1 all is well"))
        tried("", lambda: os.write(1, b"."))
sys.exit(3)
"""


def test_code_that_goes_for_its_wrapper(make):
    """From beside it, as the node's runtime has the two: reading, stopping, killing and tracing it, a message in its place, and a writer
    that is left behind."""
    service = make()
    told = ended(service, submit(service, NEIGHBOUR), "failed", "exit_code", number=1)
    assert told["output"].rstrip(".") == "[]\n" and told["exit_code"] == 3, told
