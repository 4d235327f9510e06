"""What `kubectl kustomize` makes of deploy/kubernetes, as far as the files there ask for it: resources, namespaces, strategic
merge patches, images, replacements. What it does not know it refuses; where there is a kubectl, test_deploy.py holds it to that."""

import os

import yaml

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DIRECTORY = os.path.join(ROOT, "deploy/kubernetes")
OVERLAYS = sorted(os.listdir(os.path.join(DIRECTORY, "overlays")))
KNOWN = {"apiVersion", "kind", "namespace", "resources", "patches", "images", "replacements"}
# Lists that patches are merged into, and the member that says which of their items is which.
MERGED_BY = {"containers": "name", "initContainers": "name", "env": "name", "volumes": "name", "volumeMounts": "mountPath"}


def read(path):
    """The objects of a file."""
    with open(path, encoding="utf-8") as file:
        return [item for item in yaml.safe_load_all(file) if item]


def overlay(name, namespace=None):
    """The objects of an overlay; in another namespace than its own, where one is given."""
    objects = render(os.path.join(DIRECTORY, "overlays", name))
    if namespace:
        put_namespace(objects, namespace)
    return objects


def render(directory):
    told, = read(os.path.join(directory, "kustomization.yaml"))
    if set(told) - KNOWN:
        raise ValueError(f"{directory}: unknown {set(told) - KNOWN}")
    objects = []
    for name in told["resources"]:
        path = os.path.join(directory, name)
        objects += render(path) if os.path.isdir(path) else read(path)
    for patch in told.get("patches", ()):
        for change in read(os.path.join(directory, patch["path"])):
            target = find(objects, change["kind"], change["metadata"]["name"])
            objects[objects.index(target)] = merge(target, change)
    if "namespace" in told:
        put_namespace(objects, told["namespace"])
    for image in told.get("images", ()):
        put_image(objects, image["name"], f"{image['newName']}:{image['newTag']}")
    for replacement in told.get("replacements", ()):
        replace(objects, replacement)
    return objects


def find(objects, kind, name):
    found, = (item for item in objects if (item["kind"], item["metadata"]["name"]) == (kind, name))
    return found


def of_kind(objects, kind):
    return [item for item in objects if item["kind"] == kind]


def merge(base, patch):
    """A strategic merge patch: null removes, lists of MERGED_BY are merged, others replaced."""
    merged = dict(base)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict) and isinstance(base.get(key), dict):
            merged[key] = merge(base[key], value)
        elif key in MERGED_BY and key in base:
            by = MERGED_BY[key]
            changes = {item[by]: item for item in value}
            merged[key] = [merge(item, changes.pop(item[by], {})) for item in base[key]] + list(changes.values())
        else:
            merged[key] = value
    return merged


def put_namespace(objects, namespace):
    for item in objects:
        if item["kind"] == "Namespace":
            item["metadata"]["name"] = namespace
        else:
            item["metadata"]["namespace"] = namespace
        for subject in item.get("subjects", ()):
            subject["namespace"] = namespace


def containers(objects):
    for deployment in of_kind(objects, "Deployment"):
        yield from deployment["spec"]["template"]["spec"]["containers"]


def put_image(objects, name, wanted):
    for container in containers(objects):
        if container["image"] == name:
            container["image"] = wanted


def holder(item, path):
    """The object that the last part of the path is a member of, and that part."""
    *way, last = path.split(".")
    for part in way:
        if part.startswith("["):
            key, _, value = part.strip("[]").partition("=")
            item, = (one for one in item if one[key] == value)
        else:
            item = item[part]
    return item, last


def replace(objects, replacement):
    source = replacement["source"]
    item, key = holder(find(objects, source["kind"], source["name"]), source["fieldPath"])
    for target in replacement["targets"]:
        for path in target["fieldPaths"]:
            at, name = holder(find(objects, target["select"]["kind"], target["select"]["name"]), path)
            at[name] = item[key]
