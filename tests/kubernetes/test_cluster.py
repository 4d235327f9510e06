"""That the private cluster is what tests take it for: what can be broken in it, what it leaves alone of the machine, and that
nothing of it stays. Only the real one runs here."""

import os
import socket

import pytest

from kubernetes import images, private
from kubernetes.client import version_of
from kubernetes.cluster import PATIENCE, FakeNode, condition, container_state, ended_pod, finished, job, pods_of

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("kubernetes-2")]


def running(pod):
    return pod["status"]["phase"] == "Running"


@pytest.fixture
def own(kubernetes):
    """The private cluster; somebody else's is not broken."""
    if not kubernetes.private:
        pytest.skip("the cluster is not our own")
    return kubernetes


@pytest.mark.parametrize("language, command", [
    ("python", ["/usr/bin/python3", "-c", "import json, ssl, sqlite3, ctypes, subprocess; print('py' + 'thon')"]),
    ("bash", ["/bin/bash", "-c", "a=(ba sh); echo ${a[0]}${a[1]}"])])
def test_the_languages_images_are_on_the_node(own, namespace, language, command):
    del own
    namespace.api.create("jobs", job("a", command, images.image_of(language)))
    pod = ended_pod(namespace, "a")
    assert namespace.api.log(pod["metadata"]["name"]) == language + "\n"
    assert container_state(pod)["terminated"]["exitCode"] == 0


def test_an_image_is_made_of_local_files(own, namespace, tmp_path):
    program = tmp_path / "hello"
    program.write_text("#!/bin/sh\necho \"hello $1\"\n")
    program.chmod(0o755)
    image = images.Image("localhost/hello:1", entrypoint=["/hello"], command=["you"])
    own.private.add_image(image.add("hello", program).add_busybox(os.path.join(own.private.programs, "busybox")))
    body = job("a", image="localhost/hello:1")
    del body["spec"]["template"]["spec"]["containers"][0]["command"]
    namespace.api.create("jobs", body)
    assert namespace.api.log(ended_pod(namespace, "a")["metadata"]["name"]) == "hello you\n"


def test_a_pod_reaches_this_machine(own, namespace):
    with socket.create_server((own.host_address, 0)) as listener:
        listener.settimeout(PATIENCE)
        namespace.api.create("jobs", job("a", f"echo from the pod | nc {own.host_address} {listener.getsockname()[1]}"))
        connection, (address, _) = listener.accept()
        with connection:
            assert connection.makefile().readline() == "from the pod\n"
        assert address.startswith(private.PODS.format(own.private.link) + ".")


def test_a_container_survives_its_kubelet(own, namespace):
    namespace.api.create("jobs", job("a", "trap 'exit 7' TERM; while [ ! -e /tmp/go ]; do sleep 0.1; done; exit 5",
                                     pod={"volumes": [{"name": "tmp", "emptyDir": {}}]},
                                     container={"volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}]}))
    pod = namespace.api.wait("pods", running, **pods_of("a"))
    kubelet = own.component("kubelet")
    kubelet.kill()
    directory = own.private.path("kubelet", "pods", pod["metadata"]["uid"], "volumes/kubernetes.io~empty-dir/tmp")
    with open(os.path.join(directory, "go"), "wb"):
        pass
    kubelet.start()
    ended = ended_pod(namespace, "a")
    assert container_state(ended)["terminated"]["exitCode"] == 5 and ended["metadata"]["uid"] == pod["metadata"]["uid"]


@pytest.mark.parametrize("name", ["apiserver", "etcd"])
def test_a_paused_part_answers_when_it_resumes(own, namespace, name):
    impatient = namespace.api.another()
    impatient.connection = impatient.connect(patience=0.5)
    with own.paused(name):
        with pytest.raises(TimeoutError):
            impatient.create("jobs", job("late"))
    namespace.api.close()
    namespace.api.create("jobs", job("a"))
    assert container_state(ended_pod(namespace, "a"))["terminated"]["exitCode"] == 0


def test_nothing_becomes_of_jobs_while_the_controller_is_paused(own, namespace):
    with own.paused("controller-manager"):
        made = namespace.api.create("jobs", job("a"))
        with namespace.api.watch("jobs", version_of(made), timeoutSeconds=1) as watch:
            assert not list(watch)
        assert namespace.api.get("jobs", "a")["status"] == {}
    assert namespace.api.wait("jobs", finished)["status"]["succeeded"] == 1


def test_a_second_node_says_what_it_is_told(own, namespace):
    with FakeNode(own.admin) as node:
        namespace.api.create("jobs", job("a", pod=node.wanted()))
        pod = node.pod(namespace.name)
        node.tell(pod, "Running", {"running": {}})
        node.tell(pod, "Failed", {"terminated": {"exitCode": 137, "reason": "OOMKilled"}})
        ended = namespace.api.wait("jobs", finished)
    assert condition(ended, "Failed")["reason"] == "BackoffLimitExceeded"


def test_pods_of_a_lost_node_are_not_ready(own, namespace):
    """When the cluster gives them up by itself is its own affair (a short loss of all nodes holds it off): who deletes them
    here is the test."""
    with FakeNode(own.admin) as node:
        namespace.api.create("jobs", job("a", pod=node.wanted()))
        pod = node.pod(namespace.name)
        node.tell(pod, "Running", {"running": {}})
        node.lose()
        namespace.api.wait("pods", lambda pod: condition(pod, "Ready")["status"] == "False", **pods_of("a"))
        own.admin.wait("nodes", lambda one: condition(one, "Ready")["status"] == "Unknown",
                       fieldSelector="metadata.name=" + node.name)
        own.admin.delete("pods", pod["metadata"]["name"], namespace=namespace.name)
        second = namespace.api.wait("pods", lambda one: one["metadata"]["uid"] != pod["metadata"]["uid"], **pods_of("a"))
        assert not second["spec"].get("nodeName")
        node.forget(pod)
