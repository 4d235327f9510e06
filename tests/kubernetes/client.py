"""Enough of a client of the Kubernetes API for tests: requests, watches and kubeconfig files, with Python's own library."""

import atexit
import base64
import collections
import contextlib
import functools
import http.client
import json
import os
import select
import socket
import ssl
import tempfile
import urllib.parse

import yaml

PATIENCE = 120  # seconds; only against hanging for ever
MERGE, STRATEGIC, JSON_PATCH, APPLY = ("application/merge-patch+json", "application/strategic-merge-patch+json",
                                       "application/json-patch+json", "application/apply-patch+yaml")
# Where the kinds that tests use live.
GROUPS = {"jobs": "apis/batch/v1", "roles": "apis/rbac.authorization.k8s.io/v1",
          "rolebindings": "apis/rbac.authorization.k8s.io/v1", "networkpolicies": "apis/networking.k8s.io/v1",
          "deployments": "apis/apps/v1", "leases": "apis/coordination.k8s.io/v1",
          "selfsubjectaccessreviews": "apis/authorization.k8s.io/v1"}

Answer = collections.namedtuple("Answer", "status headers body")
Event = collections.namedtuple("Event", "type object")


class ApiError(Exception):
    """An answer that is not 2xx; `status`, and `body`, the Status object."""

    def __init__(self, answer, what):
        message = answer.body.get("message") if isinstance(answer.body, dict) else answer.body
        super().__init__(f"{what}: {answer.status} {message}")
        self.status, self.headers, self.body = answer

    @property
    def reason(self):
        return self.body.get("reason")


class Truncated(Exception):
    """A stream ended in the middle: the connection was lost, not closed by a server that had done."""


def path_of(resource, namespace=None, name=None, subresource=None):
    """"/apis/batch/v1/namespaces/x/jobs/y"."""
    parts = ["", GROUPS.get(resource, "api/v1")]
    if namespace:
        parts += ["namespaces", namespace]
    return "/".join(parts + [resource] + [part for part in (name, subresource) if part])


def path_of_object(item):
    """Where an object lives, by what it says of itself."""
    plural = "networkpolicies" if item["kind"] == "NetworkPolicy" else item["kind"].lower() + "s"
    parts = ["", "api" if "/" not in item["apiVersion"] else "apis", item["apiVersion"]]
    if "namespace" in item["metadata"]:
        parts += ["namespaces", item["metadata"]["namespace"]]
    return "/".join([*parts, plural, item["metadata"]["name"]])


class Api:
    """One server and one user. Not to be shared by threads; `another()` makes one for another thread or another user.

    `ca`: a file, or None for a server without TLS or one that is not verified; `certificate`: (file, key file)."""

    def __init__(self, url, ca=None, token=None, certificate=None, namespace="default"):
        self.url, self.ca, self.token, self.certificate, self.namespace = url, ca, token, certificate, namespace
        parts = urllib.parse.urlsplit(url)
        self.host, self.port, self.prefix = parts.hostname, parts.port, parts.path.rstrip("/")
        self.context = None
        if parts.scheme == "https":
            self.context = ssl.create_default_context(cafile=ca)
            if not ca:
                self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE
            if certificate:
                self.context.load_cert_chain(*certificate)
        self.connection = None

    def another(self, **changes):
        return Api(**{**{key: getattr(self, key) for key in ("url", "ca", "token", "certificate", "namespace")}, **changes})

    # ---- requests ----

    def connect(self, patience=PATIENCE):
        if self.context:
            return http.client.HTTPSConnection(self.host, self.port, timeout=patience, context=self.context)
        return http.client.HTTPConnection(self.host, self.port, timeout=patience)

    def send(self, connection, method, path, body=None, content_type="application/json", query=None):
        headers = {"Accept": "application/json", "User-Agent": "assay-tests"}
        if self.token:
            headers["Authorization"] = "Bearer " + self.token
        if body is not None:
            headers["Content-Type"] = content_type
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
        if query:
            path += "?" + urllib.parse.urlencode(query)
        connection.request(method, self.prefix + path, body, headers)
        return connection.getresponse()

    def ask(self, method, path, body=None, content_type="application/json", **query):
        """Any answer. What is not JSON comes as bytes."""
        if self.connection and self.connection.sock and select.select([self.connection.sock], [], [], 0)[0]:
            self.close()  # nothing was asked: the server has closed it
        self.connection = self.connection or self.connect()
        try:
            response = self.send(self.connection, method, path, body, content_type, query)
            content = response.read()
        except BaseException:
            self.close()
            raise
        if "json" in response.headers.get("Content-Type", ""):
            content = json.loads(content)
        return Answer(response.status, response.headers, content)

    def close(self):
        if self.connection:
            self.connection.close()
        self.connection = None

    def __call__(self, method, path, body=None, content_type="application/json", **query):
        """The body of an answer that is 2xx."""
        answer = self.ask(method, path, body, content_type, **query)
        if not 200 <= answer.status < 300:
            raise ApiError(answer, f"{method} {path}")
        return answer.body

    # ---- by resource; in the user's own namespace unless told ----

    def _path(self, resource, name=None, subresource=None, namespace=None):
        cluster_wide = resource in ("namespaces", "nodes", "selfsubjectaccessreviews")
        return path_of(resource, None if cluster_wide else namespace or self.namespace, name, subresource)

    def create(self, resource, body, namespace=None, **query):
        return self("POST", self._path(resource, namespace=namespace), body, **query)

    def get(self, resource, name, subresource=None, namespace=None, **query):
        return self("GET", self._path(resource, name, subresource, namespace), **query)

    def list(self, resource, namespace=None, **query):
        return self("GET", self._path(resource, namespace=namespace), **query)

    def patch(self, resource, name, body, subresource=None, content_type=MERGE, namespace=None):
        return self("PATCH", self._path(resource, name, subresource, namespace), body, content_type)

    def delete(self, resource, name, options=None, namespace=None, **query):
        return self("DELETE", self._path(resource, name, namespace=namespace), options, **query)

    def log(self, pod, namespace=None, **query):
        return self("GET", self._path("pods", pod, "log", namespace), **query).decode()

    # ---- watches ----

    def watch(self, resource, version=None, namespace=None, patience=PATIENCE, **query):
        """A Watch; `version`: the resourceVersion to begin behind."""
        if version is not None:
            query["resourceVersion"] = version
        return Watch(self, self._path(resource, namespace=namespace), query, patience)

    def wait(self, resource, condition, namespace=None, patience=PATIENCE, **query):
        """Lists and then watches until condition(object) of some object is true; that object."""
        listed = self.list(resource, namespace, **query)
        for item in listed["items"]:
            if condition(item):
                return item
        with self.watch(resource, listed["metadata"]["resourceVersion"], namespace, patience, **query) as events:
            for event in events:
                if event.type in ("ADDED", "MODIFIED") and condition(event.object):
                    return event.object
                assert event.type != "ERROR", event
        raise AssertionError(f"the watch of {resource} ended")

    def wait_gone(self, resource, name, namespace=None, patience=PATIENCE):
        query = {"fieldSelector": "metadata.name=" + name}
        listed = self.list(resource, namespace, **query)
        if not listed["items"]:
            return
        with self.watch(resource, listed["metadata"]["resourceVersion"], namespace, patience, **query) as events:
            for event in events:
                if event.type == "DELETED":
                    return
        raise AssertionError(f"the watch of {resource} ended")


class Watch:
    """Events of one watch, over a connection of its own. An iterator; it ends when the server ends it, raises Truncated where
    the connection was lost, and TimeoutError where nothing came for so long as `patience`."""

    def __init__(self, api, path, query, patience):
        self.connection = api.connect(patience)
        try:
            self.response = api.send(self.connection, "GET", path, query={"watch": "1", **query})
            self.status = self.response.status
            if self.status != 200:
                content = self.response.read()
                with contextlib.suppress(ValueError):
                    content = json.loads(content)
                raise ApiError(Answer(self.status, self.response.headers, content), f"watch {path}")
        except BaseException:
            self.connection.close()
            raise
        self.buffered = b""
        self.pieces = []  # the sizes in which the stream came

    def __iter__(self):
        return self

    def __next__(self):
        while b"\n" not in self.buffered:
            try:
                piece = self.response.read1(65536)
            except (http.client.IncompleteRead, ConnectionError, ssl.SSLError) as error:
                raise Truncated(repr(error)) from error
            if not piece:
                if self.buffered:
                    raise Truncated(f"{len(self.buffered)} bytes of an event")
                raise StopIteration
            self.pieces.append(len(piece))
            self.buffered += piece
        line, self.buffered = self.buffered.split(b"\n", 1)
        event = json.loads(line)
        return Event(event["type"], event["object"])

    def until(self, condition):
        """The events up to the first for which condition(event) is true."""
        seen = []
        for event in self:
            seen.append(event)
            if condition(event):
                return seen
        raise AssertionError(f"the watch ended after {[(event.type, version_of(event.object)) for event in seen]}")

    def close(self):
        with contextlib.suppress(OSError, AttributeError):
            self.connection.sock.shutdown(socket.SHUT_RDWR)
        self.connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def version_of(item):
    return int(item["metadata"]["resourceVersion"])


# ---- kubeconfig files ----


def write_kubeconfig(path, server, ca=None, token=None, certificate=None, namespace="default", inline=False):
    """A file for one user; with `inline` it holds what is in the certificates' files."""

    def of_file(key, name):
        if not inline:
            return {key: name}
        with open(name, "rb") as file:
            return {key + "-data": base64.b64encode(file.read()).decode()}

    cluster = {"server": server, **(of_file("certificate-authority", ca) if ca else {})}
    user = {"token": token} if token else {}
    if certificate:
        user |= of_file("client-certificate", certificate[0]) | of_file("client-key", certificate[1])
    document = {"apiVersion": "v1", "kind": "Config", "current-context": "test",
                "clusters": [{"name": "test", "cluster": cluster}], "users": [{"name": "test", "user": user}],
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": namespace}}]}
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        yaml.safe_dump(document, file)
    return path


def from_kubeconfig(path):
    """An Api for the file's current context. What the file holds inline goes into files that live as long as the process."""
    with open(path, encoding="utf-8") as file:
        document = yaml.safe_load(file)

    def named(kind, name):
        return next(entry[kind] for entry in document[kind + "s"] if entry["name"] == name)

    def file_of(entry, key):
        if not entry.get(key + "-data"):
            return os.path.join(os.path.dirname(path), entry[key]) if entry.get(key) else None
        with open(os.path.join(tempfile.mkdtemp(dir=_inline_files()), key), "wb") as file:
            file.write(base64.b64decode(entry[key + "-data"], validate=True))
        return file.name

    context = named("context", document["current-context"])
    cluster, user = named("cluster", context["cluster"]), named("user", context["user"])
    token, certificate = user.get("token"), file_of(user, "client-certificate")
    if not token and user.get("tokenFile"):
        with open(user["tokenFile"], encoding="ascii") as file:
            token = file.read().strip()
    if not token and not certificate:
        raise ValueError(f"{path}: the user has neither a token nor a certificate")
    return Api(cluster["server"], file_of(cluster, "certificate-authority"), token,
               (certificate, file_of(user, "client-key")) if certificate else None, context.get("namespace", "default"))


@functools.cache
def _inline_files():
    directory = tempfile.TemporaryDirectory(prefix="assay-kubeconfig-")
    atexit.register(directory.cleanup)
    return directory.name
