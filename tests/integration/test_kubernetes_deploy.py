"""The service as deploy/kubernetes sets it: the settings are settings, the rights are those that it needs, and the overlay to try
it runs on a real node, in pods of the image that deploy/Dockerfile describes.

What the manifests say apart from the service: tests/kubernetes/test_deploy.py."""

import contextlib
import glob
import hashlib
import os
import random
import re
import signal
import subprocess
import threading
from http.client import HTTPException

import pytest

import proxy
import servers
from clients import Clients, Follower, bash_fails, patient_until, python, wait_why
from cluster import SEED, Subscriber
from kubernetes import client, dockerfile, images, kustomize
from kubernetes.kustomize import find, of_kind, overlay
from service import BUILD, PATIENCE, ROOT, Http, Service, clean_environment

IMAGE = "localhost/assay:tests"
TOKEN = "0123456789abcdef"
TOKENS = f"{hashlib.sha256(TOKEN.encode()).hexdigest()} course submit\n"
SECRETS = {"database-url": "postgresql://assay:secret@database/assay", "redis-url": "redis://events:6379/0",
           "attempt-key": "11" * 32, "attempt-key-previous": "22" * 32}
DISPATCHER = "app.kubernetes.io/component=dispatcher"
LINKS = ("_SERVICE_HOST", "_SERVICE_PORT", "_PORT")  # how names of the variables end that Services make
each_overlay = pytest.mark.parametrize("name", kustomize.OVERLAYS)


def on_the_real_server(test):
    return pytest.mark.slow(pytest.mark.xdist_group("kubernetes")(test))


# ---- settings ----


def environment(objects, secrets, address="10.1.2.3"):
    """What the service's container has in its environment."""
    container, = kustomize.containers(objects)
    made = {}
    for one in container["env"]:
        source = one.get("valueFrom", {})
        made[one["name"]] = (secrets[source["secretKeyRef"]["key"]] if "secretKeyRef" in source
                             else address if "fieldRef" in source else one["value"])
    return made


def assayd(*arguments, **variables):
    done = subprocess.run([os.path.join(BUILD, "assayd"), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          check=False, text=True, env=clean_environment(**variables))
    assert done.returncode == 0, done.stderr
    return done.stdout


@each_overlay
def test_every_variable_is_a_setting_that_is_taken(name):
    variables = environment(overlay(name), SECRETS)
    told = assayd("config", **variables)
    assert set(variables) <= set(re.findall(r" # (\w+)$", told, re.M))


@each_overlay
def test_the_data_directory_can_be_written_to(name):
    container, = kustomize.containers(overlay(name))
    directory, = [value for key, _, value in (pair.partition("=") for pair in dockerfile.last_stage().env)
                  if key == "ASSAY_DATA_DIR"]
    mount, = [mount for mount in container["volumeMounts"] if mount["mountPath"] == directory]
    assert not mount.get("readOnly")


@each_overlay
def test_it_is_not_killed_while_it_drains(name):
    spec = find(overlay(name), "Deployment", "dispatcher")["spec"]["template"]["spec"]
    drain = re.search(r"^drain = (\d+) ", assayd("config"), re.M)
    _, pause = spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert spec["terminationGracePeriodSeconds"] >= int(pause) + int(drain[1]) + 10


def links(service):
    """What Kubernetes puts into the environment of pods for a Service of that name, where it is asked to."""
    name, address = service.upper().replace("-", "_"), "10.96.0.7"
    return {f"{name}_SERVICE_HOST": address, f"{name}_SERVICE_PORT": "8090", f"{name}_SERVICE_PORT_API": "8090",
            f"{name}_PORT": f"tcp://{address}:8090", f"{name}_PORT_8090_TCP": f"tcp://{address}:8090",
            f"{name}_PORT_8090_TCP_PROTO": "tcp", f"{name}_PORT_8090_TCP_PORT": "8090", f"{name}_PORT_8090_TCP_ADDR": address}


def test_services_of_whatever_name_set_nothing():
    settings = set(re.findall(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b", assayd("--help")))
    assert {"ASSAY_LISTEN", "REDIS_PORT"} <= settings
    # Those that would meet a setting, and ours.
    services = {setting.removesuffix(end).lower().replace("_", "-") for setting in settings for end in LINKS
                if setting.endswith(end)} | {"assay"} | {
        item["metadata"]["name"] for name in kustomize.OVERLAYS for item in of_kind(overlay(name), "Service")}
    assert {"redis", "postgres", "dispatcher-service"} <= services
    variables = {key: value for service in services for key, value in links(service).items()}
    assert assayd("config", **variables) == assayd("config")


# ---- rights ----


def granted(objects):
    """{(group, resource, verb)} of the service's role."""
    role, = of_kind(objects, "Role")
    return {(group, resource, verb) for rule in role["rules"] for group in rule["apiGroups"]
            for resource in rule["resources"] for verb in rule["verbs"]}


def test_the_role_is_of_what_the_source_asks_for():
    """By the paths in it; with which verbs, the next test says."""
    asked = set()
    directory = os.path.join(ROOT, "src/executor/kubernetes")
    for name in os.listdir(directory):
        with open(os.path.join(directory, name), encoding="utf-8") as file:
            text = file.read()
        asked |= {"/".join(filter(None, found)) for found in re.findall(r"/namespaces/%s/([a-z]+)(?:/%s/([a-z]+))?", text)}
    assert {"jobs", "secrets"} <= asked
    assert asked == {resource for _, resource, _ in granted(overlay("production"))}


@pytest.fixture(scope="session")
def image(kubernetes):
    """The service's, on the node."""
    if not kubernetes.private:
        pytest.skip("somebody else's cluster takes no image of local files")
    kubernetes.private.add_image(
        images.service_image(IMAGE, BUILD, os.path.join(kubernetes.private.programs, "busybox")))
    return IMAGE


class Production(Service):
    """The service with the settings of the overlay, outside of the cluster, and with the rights of its account."""

    def __init__(self, directory, kubernetes, namespace, secrets):
        objects = overlay("production", namespace.name)
        files = {"template": find(objects, "ConfigMap", "evaluation-template")["data"]["job.yaml"], "tokens": TOKENS}
        for name, text in files.items():
            (directory / name).write_text(text)
        namespace.apply(item for item in objects if item["kind"] in ("Namespace", "ServiceAccount", "Role", "RoleBinding"))
        self.account = find(objects, "ServiceAccount", "dispatcher")["metadata"]["name"]
        variables = environment(objects, secrets, kubernetes.host_address)
        super().__init__(directory, "--heartbeat", "1", "--lease", "3", **{
            **variables, "ASSAY_KUBE_URL": kubernetes.url, "ASSAY_KUBE_CA_FILE": kubernetes.admin.ca,
            "ASSAY_KUBE_TOKEN": namespace.token(account=self.account), "ASSAY_KUBE_NAMESPACE": namespace.name,
            "ASSAY_KUBE_WRAPPER_IMAGE": IMAGE, "ASSAY_KUBE_TEMPLATE": str(directory / "template"),
            "ASSAY_TOKENS_FILE": str(directory / "tokens"), "ASSAY_ATTEMPT_LISTEN": f"0.0.0.0:{servers.free_port()}"})

    def http(self, **keywords):
        return Http(self.url, headers={"Authorization": "Bearer " + TOKEN}, **keywords)


def nothing_is_left(namespace, explain):
    """Of what evaluations were."""
    patient_until(lambda: not any(namespace.admin.list(kind, labelSelector="app=evaluation")["items"]
                                  for kind in ("jobs", "pods", "secrets")), explain=explain)


def read_a_log(service, _):
    """Without a listener output is what the pod's log holds."""
    service.stop()
    service.flags = (*service.flags, "--attempt-listen", "")
    service.start()
    told = service.call("POST", f"/execute?wait={PATIENCE}", {"code": "print(6 * 7)"}).json
    assert (told["phase"], told["stdout"]) == ("succeeded", "42\n"), told


def use_up_the_quota(service, namespace):
    """That there is no pod for a Job, and why, is in its events alone."""
    namespace.admin.create("resourcequotas", {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}})
    namespace.admin.wait("resourcequotas", lambda quota: quota.get("status", {}).get("hard"))
    job = service.call("POST", "/execute", {"code": "print(6 * 7)"}).json["job_name"]
    wait_why(service, job, "quota")
    assert service.call("POST", f"/tasks/{job}/cancel").status in (200, 202)
    service.wait_status(job, "cancelled")
    namespace.admin.delete("resourcequotas", "none")


def delete_a_job_without_its_pod(service, namespace):
    """Which would run on beside the next attempt."""
    job = service.call("POST", "/execute", {"code": "import time; time.sleep(600)"}).json["job_name"]
    service.wait_status(job, "running")
    namespace.admin.delete("jobs", job, {"propagationPolicy": "Orphan"})
    patient_until(lambda: service.call("GET", f"/status/{job}").json["attempts"] == 1, explain=service.text)
    assert service.call("POST", f"/tasks/{job}/cancel").status in (200, 202)
    service.wait_status(job, "cancelled")


# What is not asked for in the ordinary case, and the occasion for it where it is granted.
OCCASIONS = {("", "pods/log", "get"): read_a_log, ("", "events", "list"): use_up_the_quota,
             ("", "pods", "delete"): delete_a_job_without_its_pod, ("", "secrets", "delete"): delete_a_job_without_its_pod}


@on_the_real_server
def test_each_right_is_used_and_no_other_asked_for(kubernetes, namespace, image, database, redis, tmp_path):
    assert image
    rights = granted(overlay("production"))
    with Production(tmp_path, kubernetes, namespace, {**SECRETS, "database-url": database.url, "redis-url": redis.url}) as service:
        told = service.call("POST", f"/execute?wait={PATIENCE}", {"code": "print(6 * 7)"}).json
        assert (told["phase"], told["stdout"], told["executor"]) == ("succeeded", "42\n", "kubernetes"), told
        # One that is begun by one incarnation and adopted by the next.
        job = service.call("POST", "/execute", {"code": "import time; time.sleep(5); print('done')"}).json["job_name"]
        service.wait_status(job, "running")
        service.kill()
        service.start()
        status = service.wait_status(job, "succeeded", "failed", "retrying", "cancelled")
        assert (status["phase"], status["attempt"]) == ("succeeded", 1), (status, service.text())
        for right in sorted(rights & set(OCCASIONS)):
            OCCASIONS[right](service, namespace)
        nothing_is_left(namespace, service.text)

    def asked():
        return [(event["objectRef"], event) for event in kubernetes.private.asked_by(f"{namespace.name}:{service.account}")
                if event.get("objectRef", {}).get("namespace") == namespace.name]

    def used():
        return {(about.get("apiGroup", ""), "/".join(filter(None, (about["resource"], about.get("subresource")))), event["verb"])
                for about, event in asked()}

    patient_until(lambda: rights <= used(), explain=lambda: f"granted and not used: {rights - used()}")
    assert used() == rights
    assert not [event for _, event in asked() if event["responseStatus"]["code"] == 403]


# ---- in the cluster ----


def of_this_node(objects, kubernetes, **variables):
    """What the node does not have is given otherwise: a registry, volumes that are kept, kube-proxy, processors for four."""
    variables = {"ASSAY_KUBE_WRAPPER_IMAGE": IMAGE,
                 "KUBERNETES_SERVICE_HOST": kubernetes.private.address, "KUBERNETES_SERVICE_PORT": "6443",
                 "ASAN_OPTIONS": "detect_leaks=0",  # which takes rights that no pod has
                 **variables}
    change = {"spec": {"template": {"spec": {
        "containers": [{"name": "assayd", "image": IMAGE, "resources": {"requests": {"cpu": "50m"}},
                        "env": [{"name": name, "value": value} for name, value in variables.items()]}],
        "volumes": [{"name": "data", "persistentVolumeClaim": None, "emptyDir": {}}]}}}}
    return [kustomize.merge(item, change) if item["kind"] == "Deployment" else item
            for item in objects if item["kind"] != "PersistentVolumeClaim"]


def is_ready(pod):
    return any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions", ()))


def selected(namespace, selector):
    """The names of the pods that the API server finds by a selector without expressions."""
    assert set(selector) == {"matchLabels"}
    query = ",".join(f"{key}={value}" for key, value in selector["matchLabels"].items())
    return [pod["metadata"]["name"] for pod in namespace.admin.list("pods", labelSelector=query)["items"]]


def check_policies(objects, namespace, dispatcher, evaluation):
    """That they are about the pods that they mean."""
    policies = {item["metadata"]["name"]: item["spec"] for item in of_kind(objects, "NetworkPolicy")}
    assert selected(namespace, policies["evaluations"]["podSelector"]) == [evaluation]
    assert selected(namespace, policies["evaluations"]["egress"][0]["to"][0]["podSelector"]) == [dispatcher]
    assert selected(namespace, policies["dispatcher"]["podSelector"]) == [dispatcher]
    assert selected(namespace, policies["dispatcher"]["ingress"][-1]["from"][0]["podSelector"]) == [evaluation]


def wait_ready(namespace):
    try:
        return namespace.admin.wait("pods", is_ready, labelSelector=DISPATCHER)
    except (AssertionError, TimeoutError) as error:
        pods = namespace.admin.list("pods", labelSelector=DISPATCHER)["items"]
        logs = []
        for pod in pods:
            try:
                logs.append(namespace.admin.log(pod["metadata"]["name"]))
            except client.ApiError as none:
                logs.append(str(none))
        raise AssertionError(f"the service is not ready: {[pod['status'] for pod in pods]}\n" + "\n".join(logs)) from error


@on_the_real_server
def test_the_overlay_to_try_it_runs(kubernetes, namespace, image):
    assert image
    objects = of_this_node(overlay("dev", namespace.name), kubernetes)
    namespace.apply(objects)
    pod = wait_ready(namespace)
    name = pod["metadata"]["name"]
    with Http(f"http://{pod['status']['podIP']}:8090") as http:
        told = http("POST", f"/execute?wait={PATIENCE}", {"code": "print(6 * 7)"}).json
        assert (told["phase"], told["stdout"], told["executor"]) == ("succeeded", "42\n", "kubernetes"), (
            told, namespace.admin.log(name))
        assert http("GET", "/readyz").json["status"] == "ready"
        nothing_is_left(namespace, lambda: namespace.admin.log(name))
        job = http("POST", "/execute", {"code": "import time; time.sleep(1000)"}).json["job_name"]
        evaluation = namespace.admin.wait("pods", lambda one: one["status"]["phase"] == "Running", labelSelector="job-name=" + job)
        check_policies(objects, namespace, name, evaluation["metadata"]["name"])
        assert http("POST", f"/tasks/{job}/cancel").status in (200, 202)
    nothing_is_left(namespace, lambda: namespace.admin.log(name))
    # The end: preStop, then SIGTERM.
    log = []
    follower = threading.Thread(target=lambda: log.append(namespace.admin.another().log(name, follow="true")))
    follower.start()
    namespace.admin.delete("deployments", "dispatcher", {"propagationPolicy": "Background"})
    namespace.admin.wait_gone("pods", name)
    follower.join()
    events = namespace.admin.list("events", fieldSelector="involvedObject.name=" + name)["items"]
    assert "FailedPreStopHook" not in {event["reason"] for event in events} and '"draining"' in log[0], (events, log)


class Front:
    """What the Services of the overlay are where there is a kube-proxy: an address that leads to any pod that is ready. As clients.Clients
    needs a service; `evaluations`: the address for pods."""

    def __init__(self, namespace, address, database):
        self.namespace, self.store = namespace, database
        self.ways = [proxy.Proxy(self._endpoint(port), address) for port in (8090, 8091)]
        self.url, self.evaluations = (f"http://{address}:{way.port}" for way in self.ways)
        self.evaluations = self.evaluations.removeprefix("http://")
        self.headers = {"Authorization": "Bearer " + TOKEN}

    def _endpoint(self, port):
        api, dice = self.namespace.admin.another(), random.Random(SEED)

        def find_one():
            try:
                subsets = api.get("endpoints", "dispatcher-service").get("subsets", ())
            except (client.ApiError, HTTPException) as error:
                raise ConnectionRefusedError from error
            ready = [one["ip"] for subset in subsets for one in subset.get("addresses", ())]
            if not ready:
                raise ConnectionRefusedError
            return dice.choice(ready), port

        return find_one

    def http(self):
        return Http(self.url, headers=self.headers)

    def text(self):
        admin = self.namespace.admin.another()
        return "\n".join(f"--- {pod['metadata']['name']} {pod['status']}\n{admin.log(pod['metadata']['name'])[-3000:]}"
                         for pod in admin.list("pods", labelSelector=DISPATCHER)["items"])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for way in self.ways:
            way.close()


def wait_rolled_out(namespace):
    """As `kubectl rollout status` does."""
    def is_done(deployment):
        status, wanted = deployment["status"], deployment["spec"]["replicas"]
        return (status.get("observedGeneration", 0) >= deployment["metadata"]["generation"] and
                status.get("replicas") == status.get("updatedReplicas") == status.get("availableReplicas") == wanted)

    return namespace.admin.wait("deployments", is_done, patience=PATIENCE)["spec"]["replicas"]


def kill_service_of(pod):
    """Its process, which is one of this machine too."""
    for path in glob.glob("/proc/[0-9]*/cgroup"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            with open(path, encoding="ascii") as groups, open(path.replace("cgroup", "comm"), encoding="ascii") as name:
                if pod["metadata"]["uid"] in groups.read() and name.read() == "assayd\n":
                    os.kill(int(path.split("/")[2]), signal.SIGKILL)
                    return
    raise AssertionError(f"no process of {pod['metadata']['name']}")


@on_the_real_server
def test_the_overlay_for_production_rolls_under_load(kubernetes, namespace, image):
    """Three replicas; each is replaced while work goes on, then one is killed."""
    assert image
    host = kubernetes.host_address
    with servers.PostgreSQL(also_at=host) as postgres, postgres.database() as database, \
            servers.Redis(f"bind 127.0.0.1 {host}") as redis, Front(namespace, host, database) as front:
        secrets = {**SECRETS, "database-url": postgres.url_of(database.name, host=host), "redis-url": redis.url_at(redis.port, host)}
        objects = of_this_node(overlay("production", namespace.name), kubernetes, ASSAY_ATTEMPT_FALLBACK=front.evaluations)
        namespace.apply(item for item in objects if item["kind"] == "Namespace")
        for name, content in (("dispatcher", secrets), ("dispatcher-tokens", {"tokens": TOKENS})):
            namespace.admin.create("secrets", {"metadata": {"name": name}, "stringData": content})
        namespace.apply(objects)
        assert wait_rolled_out(namespace) == 3, front.text()
        subscriber = Subscriber(redis).start()
        clients = Clients(front, SEED, count=2, unfinished_max=4, programs=[python, python, bash_fails], refusable=True,
                          followers=[Follower(lambda: front.url, headers=front.headers)]).start()
        try:
            clients.wait_more(5)
            namespace.admin.patch("deployments", "dispatcher", {
                "spec": {"template": {"metadata": {"annotations": {"tests/round": "2"}}}}})
            wait_rolled_out(namespace)
            clients.wait_more(5)
            kill_service_of(namespace.admin.wait("pods", lambda pod: is_ready(pod) and "deletionTimestamp" not in pod["metadata"],
                                                 labelSelector=DISPATCHER))
            clients.wait_more(5)
            clients.finish()
            wait_rolled_out(namespace)
            subscriber.wait(clients.book.keys())
            clients.check(published=subscriber.heard)
        finally:
            clients.over.set()
            subscriber.over = True
        assert not [task for task in clients.book.rows.values() if task.attempts > 0], "what went on was begun anew"
        nothing_is_left(namespace, front.text)
