"""`./dev kubernetes up|down|status`: a private Kubernetes for people, which stays until it is taken down."""

import os
import sys

from kubernetes import client, images, kustomize, private

BUILD = os.environ.get("ASSAY_BUILD") or os.path.join(images.ROOT, "build")
NAMESPACE = "crucible"
HERE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "assay", "kubernetes-up")


def directory():
    """Of the cluster that was started last; None where it is not recorded."""
    return os.readlink(HERE) if os.path.islink(HERE) else None


def up():
    present = directory()
    if present and private.runs(present):
        print("it is up already, with the wrapper of when it was started")
        tell(present)
        return
    down()
    made = private.PrivateCluster(stays=True)
    os.symlink(made.directory, HERE)
    try:
        made.start()
        add_wrapper(made)
        ready_for_service(made)
    except BaseException:
        down()
        raise
    tell(made.directory)


def add_wrapper(made):
    """The images of languages have the wrapper, so that the service needs to be told of no image for it."""
    with open(os.path.join(BUILD, "assay-wrap"), "rb") as file:
        wrapper = file.read()
    busybox = os.path.join(made.programs, "busybox")
    for make in (images.bash_image, images.python_image):
        made.add_image(make(busybox).add_bytes("usr/bin/assay-wrap", wrapper, 0o755))


def ready_for_service(made):
    """The namespace, with the service's rights for the user of the kubeconfig."""
    admin = made.admin.another(namespace=NAMESPACE)
    admin.create("namespaces", {"metadata": {"name": NAMESPACE}})
    role, = kustomize.of_kind(kustomize.overlay("production"), "Role")
    admin.create("roles", {"metadata": {"name": "assay"}, "rules": role["rules"]})
    admin.create("rolebindings", {
        "metadata": {"name": "assay"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "assay"},
        "subjects": [{"kind": "User", "name": "assay", "apiGroup": "rbac.authorization.k8s.io"}]})
    admin.wait("serviceaccounts", lambda account: account["metadata"]["name"] == "default")
    admin.close()
    made.kubeconfig("assay", NAMESPACE)


def tell(where):
    api = client.from_kubeconfig(os.path.join(where, "admin.kubeconfig"))
    host = api.host.rpartition(".")[0] + ".1"
    print(f"API server {api.url}, its log and the others' in {where}/log; pods reach this machine at {host}")
    print(f"as administrator: KUBECONFIG={where}/admin.kubeconfig")
    print(f"export ASSAY_KUBECONFIG={where}/assay.kubeconfig")
    print("export ASSAY_EXECUTORS=kubernetes")


def down():
    present = directory()
    if present:
        private.end(present)
        os.unlink(HERE)


def status():
    present = directory()
    if not present or not private.runs(present):
        print("it is not up" + (", and was not taken down: ./dev kubernetes down" if present else ""))
        return 3
    nodes = client.from_kubeconfig(os.path.join(present, "admin.kubeconfig")).list("nodes")["items"]
    for node in nodes:
        print(f"node {node['metadata']['name']}: {'ready' if private.node_ready(node) else 'not ready'}")
    tell(present)
    return 0


if __name__ == "__main__":
    try:
        sys.exit({"up": up, "down": down, "status": status}[sys.argv[1]]())
    except private.Missing as missing:
        sys.exit(f"kubernetes: {missing}")
