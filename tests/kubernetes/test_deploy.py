"""The manifests in deploy/kubernetes: a real API server takes each of them as it stands, and what they say of each other is so.
That the service runs with them: tests/integration/test_kubernetes_deploy.py."""

import json
import os
import re
import shutil
import subprocess

import pytest
import yaml

from kubernetes import kustomize
from kubernetes.client import ApiError
from kubernetes.kustomize import ROOT, find, of_kind, overlay

each_overlay = pytest.mark.parametrize("name", kustomize.OVERLAYS)
API, ATTEMPTS, OTHER = 8090, 8091, 53


def on_the_real_server(test):
    return pytest.mark.slow(pytest.mark.xdist_group("kubernetes-2")(test))


def kubectl():
    """One whose kustomize knows replacements (1.22); None where there is none."""
    if not shutil.which("kubectl"):
        return None
    told = subprocess.run(["kubectl", "version", "--client", "-o", "json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          check=False)
    minor = re.match(rb"\d+", json.loads(told.stdout)["clientVersion"]["minor"].encode()) if told.returncode == 0 else None
    return "kubectl" if minor and int(minor[0]) >= 22 else None


def pod_spec(objects):
    return find(objects, "Deployment", "dispatcher")["spec"]["template"]["spec"]


def in_any_order(value):
    """Objects without the order of the lists of objects in them."""
    if isinstance(value, dict):
        return {key: in_any_order(item) for key, item in value.items()}
    if isinstance(value, list) and all(isinstance(item, dict) for item in value):
        return sorted(map(in_any_order, value), key=lambda item: json.dumps(item, sort_keys=True))
    return value


@each_overlay
def test_it_is_what_kubectl_makes_of_it(name):
    program = kubectl()
    if not program:
        pytest.skip("there is no kubectl of 1.22 or newer")
    text = subprocess.run([program, "kustomize", os.path.join(kustomize.DIRECTORY, "overlays", name)], stdout=subprocess.PIPE,
                          check=True).stdout
    assert in_any_order(overlay(name)) == in_any_order(list(yaml.safe_load_all(text)))


@on_the_real_server
@each_overlay
def test_the_server_takes_every_object_and_makes_the_pods(namespace, name):
    objects = overlay(name, namespace.name)
    namespace.apply(objects)
    wanted = find(objects, "Deployment", "dispatcher")["spec"]["replicas"]
    namespace.admin.wait("deployments", lambda one: one["status"].get("replicas") == wanted)


@on_the_real_server
def test_the_server_would_refuse_what_it_does_not_know(namespace):
    misspelt = kustomize.merge(find(overlay("production", namespace.name), "Deployment", "dispatcher"),
                               {"spec": {"template": {"spec": {"enableServiceLink": False}}}})
    with pytest.raises(ApiError, match="enableServiceLink"):
        namespace.apply([misspelt])


def sources_of(spec):
    """(kind, name, key that must be in it) of what the pod takes its environment and its files from."""
    for one in spec["containers"][0]["env"]:
        reference = one.get("valueFrom", {}).get("secretKeyRef")
        if reference:
            yield "Secret", reference["name"], None if reference.get("optional") else reference["key"]
    for volume in spec["volumes"]:
        for member, kind, key in (("configMap", "ConfigMap", "name"), ("secret", "Secret", "secretName"),
                                  ("persistentVolumeClaim", "PersistentVolumeClaim", "claimName")):
            if member in volume:
                yield kind, volume[member][key], None
    yield "ServiceAccount", spec["serviceAccountName"], None


@each_overlay
def test_what_is_referred_to_is_there_or_told_to_be_made(name):
    objects = overlay(name)
    there = {(item["kind"], item["metadata"]["name"]) for item in objects}
    with open(os.path.join(ROOT, "docs/DEPLOY.md"), encoding="utf-8") as file:
        guide = file.read().replace("\\\n", "")
    for kind, called, key in sources_of(pod_spec(objects)):
        if kind == "Secret":
            made = re.search(rf"kubectl .*create secret generic {called} .*", guide)
            assert made, (kind, called)
            assert not key or f"--from-literal={key}=" in made[0], (called, key)
        else:
            assert (kind, called) in there


@each_overlay
def test_the_image_of_the_wrapper_is_the_services_own(name):
    container = pod_spec(overlay(name))["containers"][0]
    assert {one["name"]: one.get("value") for one in container["env"]}["ASSAY_KUBE_WRAPPER_IMAGE"] == container["image"]


@each_overlay
def test_services_lead_to_the_pods(name):
    objects = overlay(name)
    template = find(objects, "Deployment", "dispatcher")["spec"]["template"]
    ports = {port["name"]: port["containerPort"] for port in template["spec"]["containers"][0]["ports"]}
    lead = {}
    for service in of_kind(objects, "Service"):
        port, = service["spec"]["ports"]
        assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
        lead[service["metadata"]["name"]] = (port["port"], ports[port["targetPort"]])
    assert lead == {"dispatcher-service": (API, API), "dispatcher-attempts": (ATTEMPTS, ATTEMPTS)}


@each_overlay
def test_the_pod_keeps_to_the_restricted_standard(name):
    objects = overlay(name)
    namespace, = of_kind(objects, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    spec = pod_spec(objects)
    assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec) and not spec["enableServiceLinks"]
    for container in spec["containers"]:
        context = container["securityContext"]
        assert not context["allowPrivilegeEscalation"] and context["readOnlyRootFilesystem"]
        assert context["capabilities"] == {"drop": ["ALL"]}
    kinds = {key for volume in spec["volumes"] for key in volume} - {"name"}
    assert kinds <= {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret"}


# ---- who reaches whom: (namespace, its labels, the pod's) ----


OURS = "crucible"
EVALUATION = (OURS, {}, {"app": "evaluation", "app.kubernetes.io/name": "evaluation"})
DISPATCHER = (OURS, {}, {"app.kubernetes.io/name": "assay", "app.kubernetes.io/component": "dispatcher"})
BESIDE = (OURS, {}, {"app": "celery-worker"})
ELSEWHERE = ("grading", {}, {"app": "celery-worker"})
CLIENT = ("grading", {"assay.dev/clients": ""}, {"app": "celery-worker"})
CLIENT_BESIDE = (OURS, {"assay.dev/clients": ""}, {"app": "celery-worker"})
EVALUATION_BESIDE = (OURS, {"assay.dev/clients": ""}, EVALUATION[2])


def selects(selector, labels):
    tests = {"In": lambda key, values: labels.get(key) in values, "NotIn": lambda key, values: labels.get(key) not in values,
             "Exists": lambda key, _: key in labels, "DoesNotExist": lambda key, _: key not in labels}
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        tests[one["operator"]](one["key"], one.get("values")) for one in selector.get("matchExpressions", ()))


def is_peer(peer, pod):
    namespace, its_labels, labels = pod
    if "namespaceSelector" in peer:
        is_there = selects(peer["namespaceSelector"], its_labels)
    else:
        is_there = namespace == OURS
    return is_there and selects(peer.get("podSelector", {}), labels)


def lets(objects, direction, pod, other, port):
    """What the policies say of a pod's ingress or egress: everything where none selects it."""
    policies = [item["spec"] for item in of_kind(objects, "NetworkPolicy")
                if direction in item["spec"]["policyTypes"] and pod[0] == OURS and selects(item["spec"]["podSelector"], pod[2])]
    side = "from" if direction == "Ingress" else "to"
    return not policies or any(
        (side not in rule or any(is_peer(peer, other) for peer in rule[side])) and
        ("ports" not in rule or any(one["port"] == port for one in rule["ports"]))
        for policy in policies for rule in policy[direction.lower()])


def reaches(objects, source, target, port):
    return lets(objects, "Egress", source, target, port) and lets(objects, "Ingress", target, source, port)


@each_overlay
def test_an_evaluation_reaches_the_attempt_listener_and_nothing_else_reaches_anything_of_it(name):
    objects = overlay(name)
    assert reaches(objects, EVALUATION, DISPATCHER, ATTEMPTS)
    for target in (DISPATCHER, EVALUATION, BESIDE, ELSEWHERE, CLIENT):
        assert not reaches(objects, EVALUATION, target, API)
        assert not reaches(objects, EVALUATION, target, OTHER)
        assert not reaches(objects, target, EVALUATION, API)
    for source in (BESIDE, ELSEWHERE, CLIENT, CLIENT_BESIDE):
        assert not reaches(objects, source, DISPATCHER, ATTEMPTS)


@pytest.mark.parametrize("name, let_in, kept_out", [
    ("dev", [BESIDE], [ELSEWHERE, CLIENT]),
    ("production", [BESIDE, ELSEWHERE, CLIENT], []),
    ("seed-clients", [CLIENT, CLIENT_BESIDE], [BESIDE, ELSEWHERE]),
])
def test_who_reaches_the_api(name, let_in, kept_out):
    objects = overlay(name)
    assert all(reaches(objects, source, DISPATCHER, API) for source in let_in)
    assert not any(lets(objects, "Ingress", DISPATCHER, source, API) for source in kept_out)
    if name != "production":
        # Also where only its side of the policies is enforced.
        assert not any(lets(objects, "Ingress", DISPATCHER, source, API) for source in (EVALUATION, EVALUATION_BESIDE))


def test_the_guide_names_files_that_are_there():
    with open(os.path.join(ROOT, "docs/DEPLOY.md"), encoding="utf-8") as file:
        named = set(re.findall(r"\bdeploy/[\w./-]*\w", file.read()))
    assert "deploy/Dockerfile" in named
    assert not [path for path in named if not os.path.exists(os.path.join(ROOT, path))]
