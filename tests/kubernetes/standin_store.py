"""The stand-in's objects: what the API server does with them when they are created, changed, listed and deleted, and the
stream of their changes. No I/O. Objects are never changed in place, so that who holds one holds that version."""

import base64
import bisect
import collections
import functools
import itertools
import json
import re
import secrets
import time
import uuid

Kind = collections.namedtuple("Kind", "group version kind resource namespaced")
Page = collections.namedtuple("Page", "items version next left")

KINDS = {kind.resource: kind for kind in (
    *(Kind("", "v1", name, name.lower() + "s", True) for name in (
        "Pod", "Secret", "Event", "ConfigMap", "ResourceQuota", "ServiceAccount")),
    Kind("", "v1", "Namespace", "namespaces", False), Kind("", "v1", "Node", "nodes", False),
    Kind("batch", "v1", "Job", "jobs", True))}
SECRET_MOST = 1 << 20
NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
COUNTED = {"pods": "pods", "secrets": "secrets", "configmaps": "configmaps"}  # names of old in quotas


ENCODER = json.JSONEncoder(separators=(",", ":"), check_circular=False)


class Change:
    """`before`: the object as it was; None where there was none."""

    def __init__(self, version, type_, item, before):
        self.version, self.type, self.item, self.before = version, type_, item, before

    @functools.cached_property
    def text(self):
        """The object as watches send it, made when the first of them wants it."""
        return ENCODER.encode(self.item).encode()


class Refused(Exception):
    """An answer that is a Status: Failure."""

    def __init__(self, code, reason, message, details=None, headers=()):
        super().__init__(message)
        self.code, self.headers = code, dict(headers)
        self.body = failure(code, reason, message, details)


def failure(code, reason, message, details=None):
    body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason}
    return {**body, **({"details": details} if details else {}), "code": code}


def qualified(kind):
    """"jobs.batch"."""
    return kind.resource + ("." + kind.group if kind.group else "")


def details_of(kind, name=None):
    return {**({"name": name} if name else {}), **({"group": kind.group} if kind.group else {}), "kind": kind.resource}


def not_found(kind, name):
    return Refused(404, "NotFound", f'{qualified(kind)} "{name}" not found', details_of(kind, name))


def forbidden(kind, name, why):
    return Refused(403, "Forbidden", f'{qualified(kind)} "{name}" is forbidden: {why}', details_of(kind, name))


def conflict(kind, name, why):
    return Refused(409, "Conflict", f'Operation cannot be fulfilled on {qualified(kind)} "{name}": {why}',
                   details_of(kind, name))


def expired(message):
    return Refused(410, "Expired", message)


def invalid(kind, name, field, message):
    kind_name = kind.kind + ("." + kind.group if kind.group else "")
    return Refused(422, "Invalid", f'{kind_name} "{name}" is invalid: {field}: {message}', {
        **details_of(kind, name), "kind": kind.kind,
        "causes": [{"reason": "FieldValueInvalid", "message": message, "field": field}]})


# ---- selectors ----


def label_selector(text):
    """A function of an object."""
    tests = []
    for part in re.findall(r"(?:[^,(]|\([^)]*\))+", text or ""):
        part = part.strip()
        chosen = re.fullmatch(r"([^\s!=]+)\s+(in|notin)\s*\(([^)]*)\)", part)
        equal = re.fullmatch(r"([^\s!=]+)\s*(==|=|!=)\s*(\S*)", part)
        if chosen:
            key, word, values = chosen.group(1), chosen.group(2), {value.strip() for value in chosen.group(3).split(",")}
            tests.append(lambda labels, key=key, values=values, wanted=word == "in": (labels.get(key) in values) == wanted)
        elif equal:
            key, word, value = equal.groups()
            tests.append(lambda labels, key=key, value=value, wanted=word != "!=": (labels.get(key) == value) == wanted)
        elif re.fullmatch(r"!?[^\s!=]+", part):
            key = part.lstrip("!")
            tests.append(lambda labels, key=key, wanted=part[0] != "!": (key in labels) == wanted)
        else:
            raise Refused(400, "BadRequest", f"unable to parse requirement: found '{part}'")
    return lambda item: all(test(item["metadata"].get("labels") or {}) for test in tests)


def field_selector(text):
    tests = []
    for part in filter(None, (text or "").split(",")):
        path, word, value = re.fullmatch(r"([^=!]+)(!=|==|=)(.*)", part).groups()
        tests.append((path.split("."), value, word != "!="))

    def matches(item):
        for path, value, wanted in tests:
            found = item
            for key in path:
                found = (found or {}).get(key)
            if ((found or "") == value) != wanted:
                return False
        return True

    return matches


# ---- patches ----


def merged(target, patch):
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


# What a strategic merge patch finds the elements of a list by, of the lists that tests patch.
MERGE_KEYS = {"conditions": "type", "ownerReferences": "uid", "containers": "name", "taints": "key"}


def merged_strategically(target, patch, key=None):
    if isinstance(patch, list) and isinstance(target, list):
        if key == "finalizers":
            return target + [value for value in patch if value not in target]
        by = MERGE_KEYS.get(key)
        if not by:
            return patch
        result = list(target)
        for element in patch:
            index = next((i for i, old in enumerate(result) if old.get(by) == element.get(by)), None)
            if index is None:
                result.append(element)
            else:
                result[index] = merged_strategically(result[index], element)
        return result
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged_strategically(result.get(name), value, name)
    return result


def patched_by_operations(target, operations):
    """RFC 6902; add, replace, remove and test."""
    result = json.loads(json.dumps(target))
    for operation in operations:
        *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
        place = result
        try:
            for part in parents:
                place = place[int(part)] if isinstance(place, list) else place[part]
            listed = isinstance(place, list)
            index = (len(place) if last == "-" else int(last)) if listed else last
            if operation["op"] == "test":
                if place[index] != operation["value"]:
                    raise Refused(422, "Invalid", "the server rejected our request due to an error in our request")
            elif operation["op"] == "remove":
                del place[index]
            elif operation["op"] == "add" and listed:
                place.insert(index, operation["value"])
            else:
                place[index] = operation["value"]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise Refused(422, "Invalid", "the server rejected our request due to an error in our request") from error
    return result


# ---- the store ----


class Store:
    """`on_change(kind, change)` is called after every change, `now()` gives the time that stamps are made of."""

    def __init__(self, history=50_000, now=time.time):
        self.now = now
        self.version = 1000
        self.objects = {resource: {} for resource in KINDS}
        self.history = {resource: collections.deque(maxlen=history) for resource in KINDS}
        self.oldest = dict.fromkeys(KINDS, self.version)  # changes after this version are remembered
        self.dependents = collections.defaultdict(dict)  # uid of an owner -> {(resource, key): None}
        self.pages = collections.OrderedDict()  # token -> (items, version, resource)
        self.numbers = itertools.count()
        self.on_change = lambda kind, change: None

    def stamp(self, seconds=0):
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.now() + seconds))

    # ---- reading ----

    def find(self, kind, namespace, name):
        return self.objects[kind.resource].get((namespace or "", name))

    def get(self, kind, namespace, name):
        found = self.find(kind, namespace, name)
        if not found:
            raise not_found(kind, name)
        return found

    def of_namespace(self, kind, namespace):
        return [item for (where, _), item in self.objects[kind.resource].items() if not namespace or where == namespace]

    def list(self, kind, namespace, matches, limit=0, token=None):
        """A Page: the whole list is that of the time of its first page."""
        if token:
            if token not in self.pages:
                raise expired("The provided continue parameter is too old to display a consistent list result. You can start "
                              "a new list without the continue parameter, or use the continue token in this response to "
                              "retrieve the remainder of the results.")
            items, version = self.pages[token]
        else:
            items = sorted((item for item in self.of_namespace(kind, namespace) if matches(item)),
                           key=lambda item: (item["metadata"].get("namespace", ""), item["metadata"]["name"]))
            version = self.version
        if not limit or len(items) <= limit:
            return Page(items, version, None, 0)
        following = json.dumps({"v": "meta.k8s.io/v1", "rv": version, "start": next(self.numbers)})
        following = base64.urlsafe_b64encode(following.encode()).decode().rstrip("=")
        self.pages[following] = items[limit:], version
        while len(self.pages) > 1000:
            self.pages.popitem(last=False)
        return Page(items[:limit], version, following, len(items) - limit)

    def changes_after(self, kind, version):
        """Those that are remembered; Refused where some are not."""
        if version < self.oldest[kind.resource]:
            raise expired(f"too old resource version: {version} ({self.oldest[kind.resource]})")
        history = self.history[kind.resource]
        first = bisect.bisect_right(history, version, key=lambda change: change.version)
        return list(itertools.islice(history, first, None))

    def compact(self):
        """Forgets what has been."""
        for resource, history in self.history.items():
            history.clear()
            self.oldest[resource] = self.version
        self.pages.clear()

    # ---- writing ----

    def _changed(self, kind, type_, key, item, before):
        self.version += 1
        item = {**item, "metadata": {**item["metadata"], "resourceVersion": str(self.version)}}
        if type_ == "DELETED":
            del self.objects[kind.resource][key]
        else:
            self.objects[kind.resource][key] = item
        owners = [owner["uid"] for one in (before, item) if one for owner in one["metadata"].get("ownerReferences") or ()]
        for owner in set(owners):
            if type_ != "DELETED" and any(now["uid"] == owner for now in item["metadata"].get("ownerReferences") or ()):
                self.dependents[owner][kind.resource, key] = None
            else:
                self.dependents[owner].pop((kind.resource, key), None)
        change = Change(self.version, type_, item, before)
        history = self.history[kind.resource]
        if len(history) == history.maxlen:
            self.oldest[kind.resource] = history[0].version
        history.append(change)
        self.on_change(kind, change)
        return item

    def create(self, kind, namespace, body):
        metadata = dict(body.get("metadata") or {})
        if kind.namespaced:
            where = self.find(KINDS["namespaces"], "", namespace)
            if not where:
                raise not_found(KINDS["namespaces"], namespace)
            if metadata.get("namespace", namespace) != namespace:
                raise Refused(400, "BadRequest", "the namespace of the provided object does not match the namespace sent on "
                                                 "the request")
            metadata["namespace"] = namespace
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = metadata["generateName"] + secrets.token_hex(3)[:5]
        name = metadata.get("name") or ""
        if not NAME.fullmatch(name):
            raise invalid(kind, name, "metadata.name", f'Invalid value: "{name}": a lowercase RFC 1123 subdomain must '
                          "consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character")
        if kind.namespaced and where["metadata"].get("deletionTimestamp"):
            raise forbidden(kind, name, f"unable to create new content in namespace {namespace} because it is being "
                            "terminated")
        key = (metadata.get("namespace", ""), name)
        metadata["uid"], metadata["creationTimestamp"] = str(uuid.uuid4()), self.stamp()
        item = DEFAULTS.get(kind.resource, lambda item: item)({
            "apiVersion": (kind.group + "/" if kind.group else "") + kind.version, "kind": kind.kind, **body,
            "metadata": metadata})
        # In the order of the real one: what admission says comes before what storage says.
        self._check_quota(kind, namespace, item)
        if key in self.objects[kind.resource]:
            raise Refused(409, "AlreadyExists", f'{qualified(kind)} "{name}" already exists', details_of(kind, name))
        made = self._changed(kind, "ADDED", key, item, None)
        self._use_quota(namespace)
        return self.find(kind, *key) or made

    def change(self, kind, item, checked=None, **parts):
        """Replaces members of an object: status=…, spec=…, metadata=…. Nothing happens where nothing differs."""
        key = item["metadata"].get("namespace", ""), item["metadata"]["name"]
        present = self.objects[kind.resource].get(key)
        if not present or present["metadata"]["uid"] != item["metadata"]["uid"]:
            raise not_found(kind, key[1])
        if checked and checked != present["metadata"]["resourceVersion"]:
            raise conflict(kind, key[1], "the object has been modified; please apply your changes to the latest version and "
                           "try again")
        after = {**present, **parts}
        metadata = {**after["metadata"], "resourceVersion": present["metadata"]["resourceVersion"]}
        if {**after, "metadata": metadata} == present:
            return present
        if metadata.get("deletionTimestamp") and not metadata.get("finalizers") and kind.resource != "pods":
            return self._changed(kind, "DELETED", key, after, present)
        changed = self._changed(kind, "MODIFIED", key, after, present)
        if kind.resource == "pods":
            self._use_quota(key[0])
        return changed

    def patch(self, kind, namespace, name, patch, content_type, subresource):
        present = self.get(kind, namespace, name)
        make = {"application/merge-patch+json": merged, "application/strategic-merge-patch+json": merged_strategically,
                "application/json-patch+json": patched_by_operations}.get(content_type.split(";")[0])
        if not make:
            raise Refused(415, "UnsupportedMediaType", "the body of the request was in an unknown format - accepted media "
                          "types include: application/json-patch+json, application/merge-patch+json, "
                          "application/strategic-merge-patch+json")
        checked = ((patch.get("metadata") or {}) if isinstance(patch, dict) else {}).get("resourceVersion")
        return self.replace(kind, present, make(present, patch), subresource, checked)

    def replace(self, kind, present, after, subresource, checked):
        if subresource == "status":
            return self.change(kind, present, checked, status=after.get("status", {}))
        kept = ("uid", "name", "namespace", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")
        metadata = {**after["metadata"], **{key: present["metadata"][key] for key in kept if key in present["metadata"]}}
        parts = {key: value for key, value in after.items() if key not in ("metadata", "status", "kind", "apiVersion")}
        if kind.resource not in ("jobs", "pods") and "status" in after:
            parts["status"] = after["status"]
        return self.change(kind, present, checked, metadata=metadata, **parts)

    def remove(self, kind, item):
        key = item["metadata"].get("namespace", ""), item["metadata"]["name"]
        present = self.objects[kind.resource].get(key)
        if present and present["metadata"]["uid"] == item["metadata"]["uid"]:
            self._changed(kind, "DELETED", key, present, present)
            self._use_quota(key[0])

    def mark_deleted(self, kind, item, seconds, finalizers=()):
        """It stays, until its finalizers have gone or kubelet has done."""
        metadata = item["metadata"]
        finalizers = list(metadata.get("finalizers") or ()) + [name for name in finalizers if name not in
                                                              (metadata.get("finalizers") or ())]
        return self.change(kind, item, metadata={
            **metadata, "deletionTimestamp": metadata.get("deletionTimestamp") or self.stamp(seconds),
            "deletionGracePeriodSeconds": seconds, **({"finalizers": finalizers} if finalizers else {})})

    # ---- quotas ----

    def _quotas(self, namespace):
        return [quota for (where, _), quota in self.objects["resourcequotas"].items() if where == namespace]

    def _used(self, namespace, hard):
        return {name: shown(name, sum(amount(name, resource, item) for resource in KINDS
                                      for item in self.of_namespace(KINDS[resource], namespace))) for name in hard}

    def _check_quota(self, kind, namespace, item):
        for quota in self._quotas(namespace):
            hard = quota["spec"]["hard"]
            used = self._used(namespace, hard)
            over = [name for name in sorted(hard) if amount(name, kind.resource, item)
                    and quantity(used[name]) + amount(name, kind.resource, item) > quantity(hard[name])]
            if over:
                told = [",".join(f"{name}={value}" for name, value in values) for values in (
                    [(name, shown(name, amount(name, kind.resource, item))) for name in over],
                    [(name, used[name]) for name in over], [(name, str(hard[name])) for name in over])]
                raise forbidden(kind, item["metadata"]["name"], f"exceeded quota: {quota['metadata']['name']}, "
                                f"requested: {told[0]}, used: {told[1]}, limited: {told[2]}")

    def _use_quota(self, namespace):
        for quota in self._quotas(namespace):
            hard = {name: str(value) for name, value in quota["spec"]["hard"].items()}
            self.change(KINDS["resourcequotas"], quota, status={"hard": hard, "used": self._used(namespace, hard)})


def quantity(text):
    """"500m", "64Mi", "3": a number."""
    number, suffix = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", str(text)).groups()
    powers = {"": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}
    return float(number) * powers[suffix]


def shown(name, value):
    if name.endswith("cpu") and value != int(value):
        return f"{round(value * 1000)}m"
    if name.endswith("memory") and value and value % (1 << 20) == 0:
        return f"{int(value) >> 20}Mi"
    return str(int(value))


def amount(name, resource, item):
    """What an object counts for in a quota."""
    group = KINDS[resource].group
    if name == f"count/{resource}" + ("." + group if group else ""):
        return 1
    ended = resource == "pods" and item.get("status", {}).get("phase") in ("Succeeded", "Failed")
    if COUNTED.get(name) == resource:
        return 0 if ended else 1
    sort, _, unit = name.partition(".")
    if resource != "pods" or ended or sort not in ("requests", "limits"):
        return 0
    demands = [container.get("resources", {}).get(sort, {}) for container in item["spec"]["containers"]]
    return sum(quantity(demand.get(unit, 0)) for demand in demands)


# ---- what the server adds ----


def managed(item, fields):
    """Adds what the server remembers of who has set which field; a third of an object, for which nobody asks."""
    item["metadata"].setdefault("managedFields", [{
        "manager": "assay", "operation": "Update", "apiVersion": item["apiVersion"], "time": item["metadata"]["creationTimestamp"],
        "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {"f:labels": {".": {}}}, "f:spec": fields}}])


POD_FIELDS = {
    "f:containers": {'k:{"name":"code"}': {
        ".": {}, **{"f:" + name: {} for name in ("command", "image", "imagePullPolicy", "name", "terminationMessagePath",
                                                 "terminationMessagePolicy")},
        "f:resources": {".": {}, "f:limits": {".": {}, "f:cpu": {}, "f:memory": {}},
                        "f:requests": {".": {}, "f:cpu": {}, "f:memory": {}}},
        "f:securityContext": {".": {}, "f:allowPrivilegeEscalation": {}, "f:capabilities": {".": {}, "f:drop": {}}}}},
    **{"f:" + name: {} for name in ("automountServiceAccountToken", "dnsPolicy", "enableServiceLinks", "restartPolicy",
                                    "schedulerName", "terminationGracePeriodSeconds")},
    "f:securityContext": {".": {}, "f:runAsNonRoot": {}, "f:runAsUser": {}, "f:seccompProfile": {".": {}, "f:type": {}}}}
JOB_FIELDS = {"f:backoffLimit": {}, "f:completions": {}, "f:parallelism": {},
              "f:template": {"f:metadata": {"f:labels": {".": {}}}, "f:spec": POD_FIELDS}}


def default_pod_spec(spec):
    return {"restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
            "schedulerName": "default-scheduler", "securityContext": {}, **spec,
            **{key: [{"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File", "resources": {},
                      "imagePullPolicy": "IfNotPresent", **container} for container in spec[key]]
               for key in ("containers", "initContainers") if key in spec}}


def default_job(item):
    uid, name, spec = item["metadata"]["uid"], item["metadata"]["name"], item["spec"]
    template = spec["template"]
    managed(item, JOB_FIELDS)
    own = {"controller-uid": uid, "job-name": name}
    metadata = {"creationTimestamp": None, **template.get("metadata", {})}
    metadata["labels"] = {**(metadata.get("labels") or {}), **own}
    if not item["metadata"].get("labels") and template.get("metadata", {}).get("labels"):
        item["metadata"]["labels"] = template["metadata"]["labels"]
    return {**item, "status": {}, "spec": {
        "parallelism": 1, "completions": 1, "backoffLimit": 6, "selector": {"matchLabels": {"controller-uid": uid}}, **spec,
        "template": {"metadata": metadata, "spec": default_pod_spec(template["spec"])}}}


def default_pod(item):
    containers = item["spec"]["containers"]
    managed(item, POD_FIELDS)
    demands = [container.get("resources", {}) for container in containers]
    same = all(demand.get("limits") and demand.get("requests", demand["limits"]) == demand["limits"] for demand in demands)
    quality = "Guaranteed" if same else "Burstable" if any(demands) else "BestEffort"
    return {**item, "spec": default_pod_spec(item["spec"]), "status": {"phase": "Pending", "qosClass": quality}}


def default_secret(item):
    data = dict(item.get("data") or {})
    for key, value in (item.pop("stringData", None) or {}).items():
        data[key] = base64.b64encode(value.encode()).decode()
    if sum(len(value) * 3 // 4 for value in data.values()) > SECRET_MOST:
        raise invalid(KINDS["secrets"], item["metadata"]["name"], "data", f"Too long: must have at most {SECRET_MOST} bytes")
    return {**item, "type": item.get("type", "Opaque"), **({"data": data} if data else {})}


DEFAULTS = {"jobs": default_job, "pods": default_pod, "secrets": default_secret,
            "namespaces": lambda item: {**item, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}}
