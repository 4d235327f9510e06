"""What tests use of a Kubernetes: a cluster (a private one, or the one that ASSAY_TEST_KUBECONFIG names), a fresh namespace
with the rights of the service, faults, a second node that is not there, and the stand-in for the API server.

    def test_something(kubernetes, namespace):
        namespace.api.create("jobs", job("a", "exit 3"))
        kubernetes.component("apiserver").pause()

tests/conftest.py has the fixtures. What a test stops, pauses or kills it starts again: the cluster is one for a whole run,
and its tests come one after the other."""

import contextlib
import json
import os
import secrets
import subprocess
import sys
import threading
import time

import pytest

from kubernetes import client, images, private

HERE = os.path.dirname(os.path.abspath(__file__))
PATIENCE = client.PATIENCE
# What tests may do in theirs. The service itself needs less: deploy/kubernetes/base/rights.yaml.
SERVICE_RULES = [
    {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get", "list", "watch", "create", "patch", "delete"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch", "delete"]},
    {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
    {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "create", "patch", "delete"]},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["list"]},
]
# Versions that older servers have by another name: Kubernetes before 1.21.
OLDER = {"policy/v1": "policy/v1beta1"}
FAKE = "assay.dev/fake-node"  # label and taint of nodes that are not there
SCRIPT = "standin.assay.dev/script"  # annotation of a pod template: what the stand-in is to make of its pods


class Cluster:
    """`private`: the private.PrivateCluster, None where it is somebody else's, in which nothing is broken."""

    def __init__(self, admin, private_cluster=None):
        self.admin, self.private = admin, private_cluster
        self.disturbed = False  # the API server was away, for a test

    @property
    def url(self):
        return self.admin.url

    @property
    def image(self):
        """One with a shell."""
        return images.BUSYBOX if self.private else os.environ.get("ASSAY_TEST_IMAGE", "docker.io/library/busybox:1")

    @property
    def host_address(self):
        """Where pods find this machine; for others' clusters ASSAY_TEST_HOST says it."""
        return self.private.host_address if self.private else os.environ["ASSAY_TEST_HOST"]

    def component(self, name):
        """A private.Component: "etcd", "apiserver", "controller-manager", "scheduler", "containerd" or "kubelet"."""
        if not self.private:
            pytest.skip("breaks the cluster, which is not our own")
        self.disturbed |= name in ("apiserver", "etcd")
        return self.private.components[name]

    def _begin_anew(self):
        """Those who watch the API server. After it was away they come back in pauses that double, up to half a minute and twice that by
        chance, and the next test would wait for them."""
        for component in (self.private.components[name] for name in ("controller-manager", "scheduler", "kubelet")):
            component.kill()
            component.start()
        self.disturbed = False

    @contextlib.contextmanager
    def paused(self, name):
        component = self.component(name)
        component.pause()
        try:
            yield component
        finally:
            component.resume()

    def restart_api_server(self):
        """Killed, and started again."""
        component = self.component("apiserver")
        component.kill()
        component.start()
        self.private.wait_api_server()

    @contextlib.contextmanager
    def namespace(self, name=None):
        if self.disturbed:
            self._begin_anew()
        made = Namespace(self, name or "test-" + secrets.token_hex(4))
        try:
            yield made.make()
        finally:
            made.remove()


class Namespace:
    """`api`: a client with the rights of the service in it; `admin`: one with all."""

    def __init__(self, cluster, name):
        self.cluster, self.name = cluster, name
        self.admin = cluster.admin.another(namespace=name)
        self.api = None

    def make(self):
        self.admin.create("namespaces", {"metadata": {"name": self.name}})
        self.admin.create("serviceaccounts", {"metadata": {"name": "assay"}})
        self.grant(SERVICE_RULES)
        # Without this account no pod is accepted.
        self.admin.wait("serviceaccounts", lambda account: account["metadata"]["name"] == "default")
        self.api = self.cluster.admin.another(namespace=self.name, token=self.token(), certificate=None)
        review = {"spec": {"resourceAttributes": {
            "namespace": self.name, "verb": "create", "group": "batch", "resource": "jobs"}}}
        deadline = time.monotonic() + PATIENCE
        while not self.api.create("selfsubjectaccessreviews", review)["status"]["allowed"]:
            assert time.monotonic() < deadline, "the role does not take effect"
            time.sleep(0.01)  # the server learns of it by a watch of its own
        return self

    def grant(self, rules, name="assay"):
        """Gives the service's account a role of these rules."""
        self.admin.create("roles", {"metadata": {"name": name}, "rules": rules})
        self.admin.create("rolebindings", {
            "metadata": {"name": name}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": "assay", "namespace": self.name}]})

    def apply(self, objects):
        """Brings objects in as `kubectl apply --server-side` does: what the server does not know in them it refuses."""
        for item in objects:
            older = OLDER.get(item["apiVersion"])
            if older and self.admin.ask("GET", "/apis/" + item["apiVersion"]).status == 404:
                item = {**item, "apiVersion": older}
            self.admin("PATCH", client.path_of_object(item), item, client.APPLY, fieldManager="tests")

    def token(self, seconds=3600, account="assay"):
        """Of the service's account."""
        made = self.admin("POST", client.path_of("serviceaccounts", self.name, account, "token"), {
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": seconds}})
        return made["status"]["token"]

    def kubeconfig(self, path, inline=False):
        """A file for the service."""
        return client.write_kubeconfig(path, self.api.url, self.api.ca, self.api.token, namespace=self.name, inline=inline)

    def remove(self):
        for api in (self.api, self.admin):
            if api:
                api.close()
        with contextlib.suppress(client.ApiError, OSError):
            self.admin.delete("namespaces", self.name)
        self.admin.close()


def job(name, command="true", image=images.BUSYBOX, script=None, *, labels=None, annotations=None, env=None, pod=None,
        container=None, **spec):
    """The body of a Job such as the service makes: one container, one pod, nothing granted to it.

    `command`: for sh, or a list; `pod`, `container`, `spec`: further members; `script`: see standin.py."""
    template = {
        "metadata": {"labels": labels or {}},
        "spec": {
            "restartPolicy": "Never", "automountServiceAccountToken": False, "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 65534, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "code", "image": image, "imagePullPolicy": "IfNotPresent",
                "command": ["sh", "-c", command] if isinstance(command, str) else command,
                "env": [{"name": key, "value": value} for key, value in (env or {}).items()],
                "resources": {"requests": {"cpu": "10m", "memory": "8Mi"}, "limits": {"cpu": "1", "memory": "64Mi"}},
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                **(container or {})}],
            **(pod or {})}}
    if script is not None:
        template["metadata"]["annotations"] = {SCRIPT: json.dumps(script)}
    return {"apiVersion": "batch/v1", "kind": "Job",
            "metadata": {"name": name, "labels": labels or {}, "annotations": annotations or {}},
            "spec": {"backoffLimit": 0, "template": template, **spec}}


# ---- what objects say ----


def pods_of(name):
    """Members of a query for the pods of that Job."""
    return {"labelSelector": "job-name=" + name}


def container_state(pod):
    """{"waiting": …}, {"running": …} or {"terminated": …} of its first container; {} before kubelet has said."""
    statuses = pod["status"].get("containerStatuses") or [{}]
    return statuses[0].get("state", {})


def condition(item, type_):
    return next((one for one in item["status"].get("conditions") or () if one["type"] == type_), None)


def finished(one):
    """A Job that has come to an end."""
    return bool(condition(one, "Complete") or condition(one, "Failed"))


def ended_pod(place, name, patience=PATIENCE):
    """The Job's pod when its container has ended."""
    return place.api.wait("pods", lambda pod: "terminated" in container_state(pod), patience=patience, **pods_of(name))


class FakeNode:
    """A second node of which only the API server knows: it beats, takes the pods that ask for it, and says what it is told
    to say of them. Its containers are nowhere.

        with FakeNode(kubernetes.admin) as node:
            namespace.admin.create("jobs", job("a", pod=node.wanted()))
            node.lose()"""

    def __init__(self, admin, name=None, beat_s=2):
        self.name = name or "fake-" + secrets.token_hex(4)
        self.admin, self.beating = admin.another(), admin.another()
        self.beat_s = beat_s
        self.lost = threading.Event()
        self.heart = threading.Thread(target=self._beat, daemon=True)

    def wanted(self, seconds=1):
        """Members of a pod's spec that bring it here; `seconds`: so long after the node is lost it is given up."""
        return {"nodeSelector": {FAKE: self.name},
                "tolerations": [{"key": FAKE, "operator": "Exists"}] + [
                    {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoExecute",
                     "tolerationSeconds": seconds}
                    for key in ("unreachable", "not-ready")]}

    def start(self):
        self.admin.create("nodes", {"metadata": {"name": self.name, "labels": {FAKE: self.name}},
                                    "spec": {"taints": [{"key": FAKE, "effect": "NoSchedule"}]}})
        self._tell_status(self.admin)
        self.heart.start()
        self.admin.wait("nodes", lambda node: node["metadata"]["name"] == self.name and private.node_ready(node)
                        and not any(taint["effect"] == "NoExecute" or "not-ready" in taint["key"]
                                    for taint in node["spec"].get("taints", [])))
        return self

    def _tell_status(self, api):
        room = {"cpu": "8", "memory": "32Gi", "pods": "5000", "ephemeral-storage": "100Gi"}
        now = now_text()
        api.patch("nodes", self.name, {"status": {"capacity": room, "allocatable": room, "conditions": [
            {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "it is not there",
             "lastHeartbeatTime": now, "lastTransitionTime": now}]}}, "status", client.STRATEGIC)

    def _beat(self):
        while not self.lost.wait(self.beat_s):
            with contextlib.suppress(client.ApiError, OSError):
                self._tell_status(self.beating)

    def lose(self):
        """Nobody hears of it any more."""
        self.lost.set()
        self.heart.join()

    def remove(self):
        """It is taken out of the cluster."""
        self.lose()
        with contextlib.suppress(client.ApiError):
            self.admin.delete("nodes", self.name)

    def pod(self, namespace, patience=PATIENCE, **query):
        """The first pod that has been given to it, waited for."""
        return self.admin.wait("pods", lambda pod: pod["spec"].get("nodeName") == self.name, namespace, patience, **query)

    def tell(self, pod, phase, state, **status):
        """Reports of a pod: its phase, and its container's state, as {"running": {}} or {"terminated": {"exitCode": 0}}."""
        container = pod["spec"]["containers"][0]
        now = now_text()
        for kind, fields in state.items():
            state = {kind: {**({"startedAt": now} if kind != "waiting" else {}),
                            **({"finishedAt": now} if kind == "terminated" else {}), **fields}}
        return self.admin.patch("pods", pod["metadata"]["name"], {"status": {
            "phase": phase, "startTime": now, "containerStatuses": [{
                "name": container["name"], "image": container["image"], "imageID": "", "restartCount": 0,
                "ready": "running" in state, "containerID": "fake://" + pod["metadata"]["uid"], "state": state}],
            "conditions": [{"type": "Ready", "status": "True" if "running" in state else "False"}], **status}},
            "status", client.STRATEGIC, pod["metadata"]["namespace"])

    def forget(self, pod):
        """What kubelet does when the containers of a pod that was deleted are gone."""
        with contextlib.suppress(client.ApiError):
            self.admin.delete("pods", pod["metadata"]["name"], {"gracePeriodSeconds": 0}, pod["metadata"]["namespace"])

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.remove()
        self.admin.close()


def now_text():
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class StandIn:
    """The stand-in for the API server, as a process of its own. A context manager; `flags`: see standin.py --help."""

    def __init__(self, *flags):
        self.process = subprocess.Popen([sys.executable, "-m", "kubernetes.standin", *flags], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, cwd=os.path.dirname(HERE))
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the stand-in did not start")
        self.url = line.split()[-1]
        self.admin = client.Api(self.url)

    def control(self, path, body=None, method="POST"):
        """/control/PATH: see standin.py."""
        return self.admin(method, "/control/" + path, {} if body is None and method == "POST" else body)

    def fault(self, verb="*", resource="*", times=1, **does):
        self.control("faults", {"verb": verb, "resource": resource, "times": times, **does})

    def counts(self):
        """{"create jobs": 3, …} since the last reset."""
        return self.control("counts", method="GET")

    @contextlib.contextmanager
    def namespace(self, name=None):
        """As Cluster.namespace(); everybody may do everything here."""
        api = self.admin.another(namespace=name or "test-" + secrets.token_hex(4))
        api.create("namespaces", {"metadata": {"name": api.namespace}})
        try:
            yield StandInNamespace(self, api)
        finally:
            api.close()

    @property
    def image(self):
        return images.BUSYBOX

    def stop(self):
        self.admin.close()
        self.process.stdin.close()  # it ends with it
        self.process.wait(PATIENCE)
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class StandInNamespace:
    def __init__(self, cluster, api):
        self.cluster, self.name = cluster, api.namespace
        self.api = self.admin = api

    def kubeconfig(self, path, inline=False):
        return client.write_kubeconfig(path, self.api.url, self.api.ca, "any", namespace=self.name, inline=inline)


# ---- fixtures: tests/conftest.py takes them in ----


@pytest.fixture(scope="session")
def kubernetes():
    """The cluster; one for a whole run."""
    named = os.environ.get("ASSAY_TEST_KUBECONFIG")
    if named:
        yield Cluster(client.from_kubeconfig(named))
        return
    try:
        made = private.PrivateCluster()
    except private.Missing as missing:
        pytest.skip(str(missing))
    with made:
        yield Cluster(made.admin, made)


@pytest.fixture
def namespace(kubernetes):
    """A fresh one."""
    with kubernetes.namespace() as made:
        yield made


@pytest.fixture
def standin():
    """One of the test's own."""
    with StandIn() as made:
        yield made
