#!/usr/bin/python3
"""A stand-in for the Kubernetes API server, for load, and for faults that the real one cannot be made to show on demand.

It keeps Jobs, Pods, Secrets, Events and what else tests need (standin_store.py), has a scripted Job controller and kubelet
(standin_machinery.py), and speaks the API over HTTP/1.1, with TLS where it is given a certificate. It is held to what the
real one does by test_server.py, which runs against both.

    cd tests && python3 -m kubernetes.standin [--port N] [--token T] [--certificate FILE --key FILE [--client-ca FILE]] [--history N]

prints `listening on URL` and runs until its standard input ends. Below /control/, without authentication:

    POST faults   {verb, resource, times, …}   for the next `times` (-1: all) requests of verb and resource ("*": any):
                  status, retry_after, message   answer with that HTTP status; with `do_it`, after it was done all the same
                  delay_ms                       answer that late
                  hold                           keep the request (with `do_it`, after it was done) until POST release; one
                                                 whose client has gone by then is forgotten
                  drop                           close the connection without an answer; with `do_it`, after it was done
                  cut_after                      of the answer's body (of a watch: its stream) send so many bytes, then close
                  cut_step                       … and so many more each further time
                  chunk, pause_ms                send the body in chunks of so many bytes, pausing in between
                  frozen                         of a watch: nothing is ever sent
                  pad                            of a watch: an annotation of so many bytes in every event
                  error, after_events            of a watch: an ERROR event of that code in the stream after so many events
    DELETE faults
    POST held     {}               answers when a request is being held; POST release {}: lets all go on
    POST streams  {resource, do}   to the watches that are open: "cut", "end", "freeze", "thaw", "error" (410), "bookmark"
    POST compact  {}               all that has been is forgotten: who watches from before gets 410
    POST expire   {how}            how a watch from before is told: "stream" (as the real one) or "http"
    POST script   {…}              what becomes of pods that do not say so themselves
    POST jobs     {namespace, count, prefix, body}   so many Jobs at once
    POST feed     {resource, namespace, count, rate}   to the watches that are open, so many MODIFIED of the objects in turn,
                  as they are but for their versions, at that many a second (0: at once); answers when they have been taken
    POST settings {tokens, serials, clock_offset, events}     tokens, serials of clients' certificates: those accepted, [] for all
    POST reset    {}               no faults, counts from 0
    POST certificate {certificate, key}   the files' are shown from now on
    POST connections {}            closes all of them but this
    GET  counts                    requests since then, {"create jobs": 3, …}; GET times: of each the first and the last, by
                                   a clock that begins anywhere; GET streams: open watches by resource
"""

import argparse
import asyncio
import collections
import contextlib
import email.utils
import http
import json
import os
import ssl
import sys
import time
import urllib.parse

from kubernetes.standin_machinery import PODS, Machinery
from kubernetes.standin_store import (ENCODER, KINDS, Refused, Store, conflict, details_of, failure, field_selector,
                                     label_selector)

BACKLOG = 100_000  # events that wait for a watcher that does not read; beyond it the watch ends
BODY_MOST = 8 << 20
GROUPS = {("api", "v1"): "", ("apis", "batch", "v1"): "batch"}

Request = collections.namedtuple("Request", "method path query headers body serial")
Target = collections.namedtuple("Target", "kind namespace name subresource")


class Closed(Exception):
    """The connection is to be closed now, whatever the client makes of it."""


class Fault:
    """See POST faults above."""

    def __init__(self, verb="*", resource="*", times=1, **does):
        self.verb, self.resource, self.times = verb, resource, times
        self.does = does

    def matches(self, verb, resource):
        return self.times != 0 and self.verb in ("*", verb) and self.resource in ("*", resource)

    def take(self):
        self.times -= self.times > 0
        does = dict(self.does)
        if "cut_step" in does:
            self.does["cut_after"] += does["cut_step"]
        return does


class Answer:
    def __init__(self, status, body, headers=(), content_type="application/json"):
        self.status, self.headers, self.content_type = status, dict(headers), content_type
        self.content = body if isinstance(body, bytes) else ENCODER.encode(body).encode()


class Stream:
    """An open watch."""

    def __init__(self, server, target, matches, query, does):
        self.server, self.target, self.matches, self.does = server, target, matches, does
        self.bookmarks = query.get("allowWatchBookmarks") in ("true", "1")
        self.seconds = float(query.get("timeoutSeconds") or 0)
        self.waiting = collections.deque()  # lines
        self.wake = asyncio.Event()
        self.thawed = asyncio.Event()
        self.thawed.set()
        self.ended = self.broken = False
        self.told = 0
        if does.get("frozen"):
            self.thawed.clear()

    def offer(self, change):
        """A change, as this watch sees it."""
        if self.target.namespace and change.item["metadata"].get("namespace") != self.target.namespace:
            return
        now, before = self.matches(change.item), change.before is not None and self.matches(change.before)
        type_ = change.type
        if type_ == "MODIFIED":
            if not now and not before:
                return
            type_ = "DELETED" if not now else "MODIFIED" if before else "ADDED"
        elif not now:
            return
        self.push(type_, change.item, change.text)

    def push(self, type_, item, text=None):
        if self.does.get("pad"):
            metadata = item["metadata"]
            annotations = {**(metadata.get("annotations") or {}), "pad": "x" * self.does["pad"]}
            item = {**item, "metadata": {**metadata, "annotations": annotations}}
            text = None
        text = text or ENCODER.encode(item).encode()
        self.waiting.append(b'{"type":"' + type_.encode() + b'","object":' + text + b"}\n")
        self.told += 1
        if self.told == self.does.get("after_events"):
            self.error(self.does["error"])
        if len(self.waiting) > BACKLOG:
            self.ended = True
        self.wake.set()

    def error(self, code=410):
        message = http.HTTPStatus(code).phrase
        if code == 410:
            message = f"too old resource version: 1 ({self.server.store.version})"
        body = failure(code, REASONS.get(code, "InternalError"), message)
        self.waiting.append(b'{"type":"ERROR","object":' + json.dumps(body).encode() + b"}\n")
        self.end()

    def bookmark(self):
        kind = self.target.kind
        self.waiting.append(json.dumps({"type": "BOOKMARK", "object": {
            "kind": kind.kind, "apiVersion": (kind.group + "/" if kind.group else "") + kind.version,
            "metadata": {"resourceVersion": str(self.server.store.version), "creationTimestamp": None}}}).encode() + b"\n")
        self.wake.set()

    def end(self):
        self.ended = True
        self.wake.set()

    def cut(self):
        self.broken = True
        self.thawed.set()
        self.wake.set()

    async def run(self, body):
        """Writes lines as they come, until its time is up or somebody ends it."""
        loop = asyncio.get_running_loop()
        timers = []
        if self.seconds:
            timers.append(loop.call_later(self.seconds, self.end))
            if self.bookmarks:
                timers.append(loop.call_later(max(self.seconds - 2, self.seconds / 2), self.bookmark))
        if self.does.get("error") and not self.does.get("after_events"):
            self.error(self.does["error"])
        try:
            while not self.broken:
                await self.thawed.wait()
                if self.broken:
                    break  # with what is still waiting
                if not self.waiting:
                    if self.ended:
                        return
                    self.wake.clear()
                    await self.wake.wait()
                    continue
                lines, self.waiting = self.waiting, collections.deque()
                await body.send(b"".join(lines))
            raise Closed
        finally:
            for timer in timers:
                timer.cancel()


class Body:
    """The chunks of an answer's body, with what a fault makes of them."""

    def __init__(self, writer, does):
        self.writer, self.does = writer, does
        self.left = does.get("cut_after")

    async def send(self, data):
        size = self.does.get("chunk") or len(data)
        for start in range(0, len(data), size):
            piece = data[start:start + size]
            self.writer.write(b"%x\r\n" % len(piece))
            if self.left is not None:
                if len(piece) > self.left:
                    self.writer.write(piece[:self.left])
                    raise Closed
                self.left -= len(piece)
            self.writer.write(piece + b"\r\n")
            await self.writer.drain()
            if self.does.get("pause_ms"):
                await asyncio.sleep(self.does["pause_ms"] / 1000)

    async def end(self):
        if self.left == 0:
            raise Closed
        self.writer.write(b"0\r\n\r\n")
        await self.writer.drain()


class Server:
    def __init__(self, history, context=None):
        self.context = context  # of TLS
        self.clock_offset = 0
        self.store = Store(history, lambda: time.time() + self.clock_offset)
        self.machinery = Machinery(self.store, asyncio.get_running_loop())
        self.machinery.listeners.append(self._tell)
        self.streams = {resource: set() for resource in KINDS}
        self.faults = []
        self.counts = collections.Counter()
        self.times = {}  # of the same: [first, last]
        self.tokens, self.serials = set(), set()
        self.expire = "stream"
        self.writers = set()
        self.held, self.news = [], asyncio.Event()  # futures of requests; another has come
        for name in ("default", "kube-system"):
            self.store.create(KINDS["namespaces"], None, {"metadata": {"name": name}})

    def _tell(self, kind, change):
        for stream in self.streams[kind.resource]:
            stream.offer(change)

    # ---- HTTP ----

    async def serve(self, reader, writer):
        self.writers.add(writer)
        try:
            while await self._one(reader, writer):
                pass
        except (Closed, ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ssl.SSLError):
            pass
        finally:
            self.writers.discard(writer)
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                writer.close()
                await writer.wait_closed()

    @staticmethod
    async def _read(reader, writer):
        """A Request; None where the client has closed."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        except asyncio.IncompleteReadError:
            return None
        method, target, _ = head[0].split(" ")
        headers = {}
        for line in filter(None, head[1:]):
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        body = b""
        if headers.get("transfer-encoding", "").lower() == "chunked":
            while True:
                size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
                body += (await reader.readexactly(size + 2))[:-2]
                if not size:
                    break
        elif headers.get("content-length"):
            size = int(headers["content-length"])
            if size > BODY_MOST:
                raise Closed
            body = await reader.readexactly(size)
        path, _, query = target.partition("?")
        return Request(method, urllib.parse.unquote(path), dict(urllib.parse.parse_qsl(query, True)), headers, body,
                       (writer.get_extra_info("peercert") or {}).get("serialNumber"))

    def _head(self, writer, status, headers):
        date = email.utils.formatdate(time.time() + self.clock_offset, usegmt=True)
        lines = [f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}", f"Date: {date}",
                 *(f"{key}: {value}" for key, value in headers.items())]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n")

    async def _one(self, reader, writer):
        """One request; whether there may be another."""
        request = await self._read(reader, writer)
        if not request:
            return False
        if request.path.startswith("/control/"):
            await self._send(writer, await self._answer(self._control, request, writer), {})
            return True
        target, verb, does = None, "get", {}
        with contextlib.suppress(Refused):
            target = target_of(request.path)
            verb = verb_of(request, target)
            resource = target.kind.resource + ("/" + target.subresource if target.subresource else "")
            self.counts[f"{verb} {resource}"] += 1
            self.times.setdefault(f"{verb} {resource}", [time.monotonic()] * 2)[1] = time.monotonic()
            fault = next((one for one in self.faults if one.matches(verb, resource)), None)
            does = fault.take() if fault else {}
        if does.get("delay_ms"):
            await asyncio.sleep(does["delay_ms"] / 1000)
        if does.get("hold") and not does.get("do_it"):
            await self._hold(reader)
        if verb == "watch" and not does.get("status") and not does.get("drop"):
            return await self._watch(reader, writer, request, target, does)
        answer = None
        if not (does.get("status") or does.get("drop")) or does.get("do_it"):
            answer = await self._answer(self._handle, request, target, verb)
        if does.get("hold") and does.get("do_it"):
            await self._hold(reader)
        if does.get("drop"):
            raise Closed
        if does.get("status"):
            answer = refusal(does)
        await self._send(writer, answer, does)
        return request.headers.get("connection", "").lower() != "close"

    async def _hold(self, reader):
        released = asyncio.get_running_loop().create_future()
        self.held.append(released)
        self.news.set()
        await released
        if reader.at_eof() or reader.exception():
            raise Closed

    async def _send(self, writer, answer, does):
        headers = {"Content-Type": answer.content_type, **answer.headers}
        if "cut_after" in does or "chunk" in does:
            self._head(writer, answer.status, {**headers, "Transfer-Encoding": "chunked"})
            body = Body(writer, does)
            await body.send(answer.content)
            await body.end()
            return
        self._head(writer, answer.status, {**headers, "Content-Length": len(answer.content)})
        writer.write(answer.content)
        await writer.drain()

    @staticmethod
    async def _answer(function, *arguments):
        try:
            made = function(*arguments)
            return await made if asyncio.iscoroutine(made) else made
        except Refused as refused:
            return Answer(refused.code, refused.body, refused.headers)

    def _check_user(self, request):
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if (self.tokens and token not in self.tokens) or (self.serials and request.serial and request.serial not in self.serials):
            raise Refused(401, "Unauthorized", "Unauthorized")

    async def _watch(self, reader, writer, request, target, does):
        stream = None
        try:
            self._check_user(request)
            matches = selection(request.query)
            stream = Stream(self, target, lambda item: all(test(item) for test in matches), request.query, does)
            if target.name:
                stream.matches = lambda item: item["metadata"]["name"] == target.name
            self._begin(stream, request.query.get("resourceVersion", ""))
        except Refused as refused:
            await self._send(writer, Answer(refused.code, refused.body, refused.headers), {})
            return True
        self._head(writer, 200, {"Content-Type": "application/json", "Transfer-Encoding": "chunked"})
        body = Body(writer, does)
        gone = asyncio.ensure_future(client_gone(reader, stream))
        self.streams[target.kind.resource].add(stream)
        try:
            await writer.drain()
            await stream.run(body)
        finally:
            self.streams[target.kind.resource].discard(stream)
            gone.cancel()
            await asyncio.wait([gone])
        await body.end()
        return True

    def _begin(self, stream, version):
        """What the watch begins with: all there is, or what has changed since."""
        kind, namespace = stream.target.kind, stream.target.namespace
        if version in ("", "0"):
            for item in self.store.of_namespace(kind, namespace):
                if stream.matches(item):
                    stream.push("ADDED", item)
            return
        try:
            changes = self.store.changes_after(kind, int(version))
        except ValueError as error:
            raise Refused(400, "BadRequest", f'Invalid value: "{version}": must be a number') from error
        except Refused:
            if self.expire == "http":
                raise
            stream.error()
            return
        for change in changes:
            stream.offer(change)

    # ---- the API ----

    def _handle(self, request, target, verb):
        if request.path in ("/readyz", "/livez", "/healthz"):
            return Answer(200, b"ok", content_type="text/plain")
        self._check_user(request)
        if request.path == "/version":
            return Answer(200, {"major": "1", "minor": "20", "gitVersion": "v1.20.2-standin", "platform": "linux/amd64"})
        target = target or target_of(request.path)
        return getattr(self, "_" + verb)(request, target)

    @staticmethod
    def _json(request, empty=None):
        if not request.body and empty is not None:
            return empty
        try:
            return json.loads(request.body)
        except ValueError as error:
            raise Refused(400, "BadRequest", f"the object provided is unrecognized: {error}") from error

    def _list(self, request, target):
        kind = target.kind
        matches = selection(request.query)
        page = self.store.list(kind, target.namespace, lambda item: all(test(item) for test in matches),
                               int(request.query.get("limit") or 0), request.query.get("continue"))
        metadata = {"resourceVersion": str(page.version)}
        if page.next:
            metadata["continue"] = page.next
            if not request.query.get("labelSelector") and not request.query.get("fieldSelector"):
                metadata["remainingItemCount"] = page.left
        items = [{key: value for key, value in item.items() if key not in ("kind", "apiVersion")} for item in page.items]
        return Answer(200, {"kind": kind.kind + "List", "apiVersion": (kind.group + "/" if kind.group else "") + kind.version,
                            "metadata": metadata, "items": items})

    def _get(self, request, target):
        item = self.store.get(target.kind, target.namespace, target.name)
        if target.subresource == "log":
            return self._log(request, target, item)
        return Answer(200, item)

    def _log(self, request, target, pod):
        name = request.query.get("container") or pod["spec"]["containers"][0]["name"]
        state = next((status["state"] for status in pod["status"].get("containerStatuses") or ()
                      if status["name"] == name), {})
        if not {"running", "terminated"} & state.keys():
            reason = (state.get("waiting") or {}).get("reason", "ContainerCreating")
            raise Refused(400, "BadRequest", f'container "{name}" in pod "{target.name}" is waiting to start: {reason}')
        text = self.machinery.script_of(pod).get("log", "").encode()
        if request.query.get("limitBytes"):
            text = text[:int(request.query["limitBytes"])]
        if request.query.get("tailLines"):
            text = b"".join(text.splitlines(keepends=True)[-int(request.query["tailLines"]):])
        return Answer(200, text, content_type="text/plain")

    def _create(self, request, target):
        if target.name:
            raise Refused(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
        return Answer(201, self.store.create(target.kind, target.namespace, self._json(request)))

    def _update(self, request, target):
        body = self._json(request)
        present = self.store.get(target.kind, target.namespace, target.name)
        version = (body.get("metadata") or {}).get("resourceVersion")
        return Answer(200, self.store.replace(target.kind, present, body, target.subresource, version))

    def _patch(self, request, target):
        return Answer(200, self.store.patch(target.kind, target.namespace, target.name, self._json(request),
                                            request.headers.get("content-type", ""), target.subresource))

    def _delete(self, request, target):
        kind, options = target.kind, self._json(request, {})
        item = self.store.get(kind, target.namespace, target.name)
        metadata = item["metadata"]
        for field, name in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
            wanted = (options.get("preconditions") or {}).get(field)
            if wanted and wanted != metadata[field]:
                raise conflict(kind, target.name, f"the {name} in the precondition ({wanted}) does not match the {name} in record "
                               f"({metadata[field]}). The object might have been deleted and then recreated")
        seconds = options.get("gracePeriodSeconds", request.query.get("gracePeriodSeconds"))
        policy = options.get("propagationPolicy") or request.query.get("propagationPolicy")
        left = self.machinery.delete(kind, item, policy, None if seconds is None else int(seconds))
        if left or kind is PODS:
            return Answer(200, left or item)
        return Answer(200, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
                            "details": {**details_of(kind, target.name), "uid": metadata["uid"]}})

    def _deletecollection(self, request, target):
        options = self._json(request, {})
        policy = options.get("propagationPolicy") or request.query.get("propagationPolicy")
        matches = selection(request.query)
        chosen = [item for item in self.store.of_namespace(target.kind, target.namespace)
                  if all(test(item) for test in matches)]
        for item in chosen:
            self.machinery.delete(target.kind, item, policy)
        return Answer(200, {"kind": target.kind.kind + "List", "apiVersion": "v1",
                            "metadata": {"resourceVersion": str(self.store.version)}, "items": chosen})

    # ---- control ----

    async def _feed(self, kind, namespace, count, rate):
        """How long it took, in seconds."""
        parts = [around_version(item) for item in self.store.of_namespace(kind, namespace)]
        streams = [stream for stream in self.streams[kind.resource] if stream.target.namespace == namespace]
        begin, sent = time.monotonic(), 0
        while sent < count or any(stream.waiting for stream in streams if not stream.ended):
            due = min(count, int((time.monotonic() - begin) * rate) + 1 if rate else sent + 200)
            lines = []
            for number in range(sent, due):
                self.store.version += 1
                head, tail = parts[number % len(parts)]
                lines.append(head + b"%d" % self.store.version + tail)
            for stream in streams if lines else ():
                stream.waiting.append(b"".join(lines))
                stream.wake.set()
            sent = max(sent, due)
            await asyncio.sleep(0.002 if rate or sent == count else 0)
        return time.monotonic() - begin

    async def _control(self, request, writer):
        what, body = f"{request.method} {request.path.removeprefix('/control/')}", self._json(request, {})
        if what == "POST faults":
            self.faults.append(Fault(**body))
        elif what == "DELETE faults":
            self.faults.clear()
        elif what == "POST held":
            while not self.held:
                self.news.clear()
                await self.news.wait()
        elif what == "POST release":
            while self.held:
                self.held.pop().set_result(None)
        elif what == "POST certificate":
            self.context.load_cert_chain(body["certificate"], body["key"])
        elif what == "POST connections":
            for one in self.writers - {writer}:
                one.transport.abort()
        elif what == "POST streams":
            for stream in list(self.streams[body["resource"]]):
                {"cut": stream.cut, "end": stream.end, "freeze": stream.thawed.clear, "thaw": stream.thawed.set,
                 "error": stream.error, "bookmark": stream.bookmark}[body["do"]]()
        elif what == "GET streams":
            return Answer(200, {resource: len(streams) for resource, streams in self.streams.items()})
        elif what == "POST compact":
            self.store.compact()
        elif what == "POST expire":
            self.expire = body["how"]
        elif what == "POST script":
            self.machinery.script = body
        elif what == "POST jobs":
            await self.machinery.make_jobs(body["namespace"], body["body"], body["count"], body["prefix"])
        elif what == "POST settings":
            self.tokens = set(body.get("tokens", self.tokens))
            self.serials = set(body.get("serials", self.serials))
            self.clock_offset = body.get("clock_offset", self.clock_offset)
            self.machinery.write_events = body.get("events", self.machinery.write_events)
        elif what == "POST reset":
            self.faults.clear()
            self.counts.clear()
            self.times.clear()
        elif what == "GET counts":
            return Answer(200, dict(self.counts))
        elif what == "GET times":
            return Answer(200, self.times)
        elif what == "POST feed":
            return Answer(200, {"took": await self._feed(KINDS[body["resource"]], body["namespace"], body["count"], body["rate"])})
        else:
            raise Refused(404, "NotFound", f"no control route {what}")
        return Answer(200, {"version": self.store.version})


def around_version(item):
    """The event of an object, up to the digits of its version and behind them."""
    version = b'"resourceVersion":"%s"' % item["metadata"]["resourceVersion"].encode()
    head, tail = ENCODER.encode(item).encode().split(version, 1)
    return b'{"type":"MODIFIED","object":' + head + b'"resourceVersion":"', b'"' + tail + b"}\n"


async def client_gone(reader, stream):
    """Ends the stream of a client that has closed; one that watches sends nothing more."""
    await reader.read(1)
    stream.cut()


def target_of(path):
    """The Target of a path below /api or /apis."""
    parts = path.strip("/").split("/")
    for prefix, group in GROUPS.items():
        if tuple(parts[:len(prefix)]) == prefix:
            parts = parts[len(prefix):]
            break
    else:
        raise Refused(404, "NotFound", "the server could not find the requested resource")
    namespace = None
    if len(parts) > 2 and parts[0] == "namespaces":
        namespace, parts = parts[1], parts[2:]
    kind = KINDS.get(parts[0]) if parts else None
    if not kind or kind.group != group or len(parts) > 3:
        raise Refused(404, "NotFound", "the server could not find the requested resource")
    return Target(kind, namespace, *(parts[1:] + [None, None])[:2])


def verb_of(request, target):
    if request.method == "GET":
        if request.query.get("watch") in ("1", "t", "T", "true", "TRUE", "True"):
            return "watch"
        return "get" if target.name else "list"
    if request.method == "DELETE":
        return "delete" if target.name else "deletecollection"
    verb = {"POST": "create", "PUT": "update", "PATCH": "patch"}.get(request.method)
    if not verb:
        raise Refused(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
    return verb


def selection(query):
    return label_selector(query.get("labelSelector")), field_selector(query.get("fieldSelector"))


REASONS = {400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 409: "Conflict", 410: "Expired",
           429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable", 504: "Timeout"}


def refusal(does):
    """What a fault answers with."""
    status = does["status"]
    headers = {"Retry-After": does["retry_after"]} if "retry_after" in does else {}
    details = {"retryAfterSeconds": does["retry_after"]} if headers else None
    message = does.get("message") or http.HTTPStatus(status).phrase
    return Answer(status, failure(status, REASONS.get(status, "InternalError"), message, details), headers)


async def input_ends():
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.read(4096):
        pass


async def run(options):
    context = None
    if options.certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(options.certificate, options.key)
        context.set_alpn_protocols(["http/1.1"])
        if options.client_ca:
            context.load_verify_locations(options.client_ca)
            context.verify_mode = ssl.CERT_OPTIONAL
        context.minimum_version, context.num_tickets = ssl.TLSVersion.TLSv1_3, 0  # each connection sees the certificate
    server = Server(options.history, context)
    server.tokens.update(options.token or ())
    listening = await asyncio.start_server(server.serve, "127.0.0.1", options.port, ssl=context, backlog=1024)
    port = listening.sockets[0].getsockname()[1]
    print(f"listening on {'https' if context else 'http'}://127.0.0.1:{port}", flush=True)
    await input_ends()
    os._exit(0)  # nothing of it is worth an orderly end


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--token", action="append", help="accept this one only; may be repeated")
    parser.add_argument("--certificate", help="serve TLS with it")
    parser.add_argument("--key")
    parser.add_argument("--client-ca", help="of the certificates that clients may show")
    parser.add_argument("--history", type=int, default=50_000, help="changes remembered of each resource")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
