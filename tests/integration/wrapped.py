"""assay-wrap as a test runs it: a plan, process 1 of namespaces of its own under a user id of its own, and a listener
that speaks its protocol and misbehaves when told to. What is encoded and checked here is written after src/wrap/report.h
and plan.h with nothing of ours."""

import base64
import collections
import contextlib
import gzip
import hashlib
import hmac
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time
import uuid

import redis as redis_client

import servers
from service import BUILD, PATIENCE

WRAP = os.environ.get("ASSAY_WRAP", os.path.join(BUILD, "assay-wrap"))
# A user id that nothing else on this machine has, so that limits of a user count only what is the test's.
UID = 1_900_000_000 + os.getpid() % 1_000_000 if os.geteuid() == 0 else os.geteuid()

STARTED, OUTPUT, STEP_ENDED, ASK, ENDED, SUMMARY, ANSWER, FETCH, PROGRESS = range(1, 10)
REASONS = ("none", "exit_code", "signal", "compile_error", "timeout", "out_of_memory", "output_limit", "disk_limit",
           "stopped", "process_limit")
HOWS = ("unfinished", "complete", "stopped", "terminated", "failed", "unanswered")
WAIT, GO_ON, STOP, ABORT, REPEAT = range(5)
ASKS, INHERIT, CONFINE, HIDE, LOG, OWN_USERS = 1, 2, 4, 8, 16, 32

Frame = collections.namedtuple("Frame", "kind sequence payload")
Step = collections.namedtuple("Step", "compile run reason exit_code signal wall cpu memory ended truncated dropped")
End = collections.namedtuple("End", "at how message ended steps")
Progress = collections.namedtuple("Progress", "compile run wall cpu memory after")  # after: so many frames


class Bad(Exception):
    """Bytes that are not of this attempt."""


class Attempt:
    """`key`: what its frames are signed with; that of this task and attempt where it is not given."""

    def __init__(self, task=None, number=3, key=None):
        self.task, self.number = task or uuid.uuid4(), number
        attempt = b"assay attempt 1\0" + self.task.bytes + struct.pack(">I", self.number)
        self.key = key or hmac.new(b"the service's key", attempt, hashlib.sha256).digest()

    def frame(self, kind, sequence, payload, key=None):
        head = b"AWF\1" + struct.pack(">B3xII16sQ", kind, len(payload), self.number, self.task.bytes, sequence)
        return head + payload + hmac.new(key or self.key, head + payload, hashlib.sha256).digest()

    def read(self, data):
        """The frames of a body."""
        frames = []
        while data:
            if len(data) < 72 or data[:4] != b"AWF\1" or data[5:8] != bytes(3):
                raise Bad("no frame")
            kind, length, number, task, sequence = struct.unpack(">B3xII16sQ", data[4:40])
            if (number, task) != (self.number, self.task.bytes) or length > 65550 or len(data) < 72 + length:
                raise Bad("not of this attempt, or cut off")
            code = hmac.new(self.key, data[:40 + length], hashlib.sha256).digest()
            if not hmac.compare_digest(code, data[40 + length:72 + length]):
                raise Bad("signature")
            frames.append(Frame(kind, sequence, data[40:40 + length]))
            data = data[72 + length:]
        return frames


def read_step(data):
    flags, reason, signal, code, run, wall, cpu, memory, ended = struct.unpack(">BBBHIIIII", data)
    code = None if code == 0xffff else code
    return Step(bool(flags & 1), run, REASONS[reason], code, signal, wall / 1e6, cpu * 16 / 1e6, memory * 1024, ended / 1e3,
                (bool(flags & 2), bool(flags & 4)), (bool(flags & 8), bool(flags & 16)))


def read_end(payload):
    at, how, length, ended, count = struct.unpack(">qBBHH", payload[:14])
    steps = payload[14 + length:]
    assert len(steps) == 25 * count
    steps = [read_step(steps[i:i + 25]) for i in range(0, len(steps), 25)]
    return End(at / 1e6, HOWS[how], payload[14:14 + length].decode(), ended, steps)


def read_text(attempt, text):
    """A termination message; None where it is not this attempt's."""
    if not text.startswith(b"assay1 "):
        return None
    try:
        frames = attempt.read(base64.b64decode(text[7:], validate=True))
    except (Bad, ValueError):
        return None
    return read_end(frames[0].payload) if len(frames) == 1 and frames[0].kind == SUMMARY else None


def read_progress(payload, after):
    compile, run, wall, cpu, memory = struct.unpack(">BIqqq", payload)
    return Progress(bool(compile), run, wall / 1e6, cpu / 1e6, memory, after)


class Listener:
    """Takes the frames of one attempt. What it does badly is set before the run:

    cuts: for each connection in turn, after how many bytes it is cut (None: never);
    lost: so many bodies are taken and their answers never sent, the connection cut instead;
    refused: so many requests are answered 503, misdirected: 421; silent: connections are accepted and never read from;
    pause: seconds before each answer;
    answer(frames): the command for a body, (command, runs)."""

    def __init__(self, attempt, port=None, host="127.0.0.1"):
        self.attempt = attempt
        self.progress = []  # as it came, beside the frames
        self.frames, self.bad, self.repeated, self.connections, self.requests = [], 0, 0, 0, 0
        self.cuts, self.lost, self.refused, self.misdirected, self.pause, self.silent = [], 0, 0, 0, 0, False
        self.kept = None  # from which sequence on the wrapper has what it sent, by its last request
        self.answer = lambda frames: (GO_ON, 1 << 20)
        self.news = threading.Condition()
        self.open = set()
        self.answered = 0
        self.port = port or servers.free_port()  # it stays ours while nobody listens there
        self.socket = socket.create_server((host, self.port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.address = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        for one in list(self.open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self):
        while True:
            try:
                connection = self.socket.accept()[0]
            except OSError:
                return
            self.connections += 1
            self.open.add(connection)
            cut = self.cuts.pop(0) if self.cuts else None
            threading.Thread(target=self._serve, args=(connection, cut), daemon=True).start()

    def _serve(self, connection, cut):
        data, seen = b"", 0
        with connection, contextlib.suppress(OSError):
            while True:
                if self.silent:
                    threading.Event().wait(PATIENCE)
                piece = connection.recv(65536 if cut is None else min(65536, cut - seen))
                seen += len(piece)
                data += piece
                while (request := self._request(data)) is not None:
                    body, data = request
                    if not self._take(connection, body):
                        return
                if not piece or seen == cut:
                    # With what was not read: the other side gets a reset.
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return

    def _request(self, data):
        head, end, rest = data.partition(b"\r\n\r\n")
        if not end:
            return None
        line, *headers = head.decode().split("\r\n")
        path = f"/attempts/{self.attempt.task}/{self.attempt.number}/frames"
        assert (match := re.fullmatch(re.escape(f"POST {path}") + r"(\?kept=([0-9]+))? HTTP/1\.1", line)), line
        if match[1]:
            self.kept = int(match[2])
        length = int(dict(header.split(": ") for header in headers)["Content-Length"])
        return (rest[:length], rest[length:]) if len(rest) >= length else None

    def _take(self, connection, body):
        self.requests += 1
        if self.refused:
            self.refused -= 1
            connection.sendall(b"HTTP/1.1 503 Away\r\nContent-Length: 0\r\n\r\n")
            return True
        if self.misdirected:
            self.misdirected -= 1
            connection.sendall(b"HTTP/1.1 421 Elsewhere\r\nContent-Length: 0\r\n\r\n")
            return True
        try:
            frames = self.attempt.read(body)
        except Bad:
            self.bad += 1
            connection.sendall(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
            return True
        progress = [frame for frame in frames if frame.kind == PROGRESS]
        assert not progress or (len(frames) == 1 and frames[0].sequence == 0)
        if not self.frames and (progress or frames[0].sequence > self.kept):
            self._answer(connection, 0, REPEAT, 0)
            return True
        with self.news:
            self.progress += [read_progress(frame.payload, len(self.frames)) for frame in progress]
            frames = [frame for frame in frames if frame.kind != PROGRESS]
            for frame in frames:
                upto = self.frames[-1].sequence if self.frames else self.kept - 1
                assert frame.sequence <= upto + 1, "a frame is missing"
                if frame.sequence <= upto:
                    self.repeated += 1
                else:
                    self.frames.append(frame)
            self.news.notify_all()
        if self.lost:
            self.lost -= 1
            return False
        time.sleep(self.pause)
        self._answer(connection, self.frames[-1].sequence, *self.answer(frames))
        with self.news:
            self.answered += 1
            self.news.notify_all()
        return True

    def _answer(self, connection, sequence, command, runs):
        payload = self.attempt.frame(ANSWER, sequence, struct.pack(">BI", command, runs))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(payload), payload))

    def begin_anew(self):
        """As a listener that has heard nothing of this attempt: what had come is returned."""
        with self.news:
            former, self.frames = self.frames, []
        return former

    def wait(self, enough):
        """Until enough(frames)."""
        with self.news:
            assert self.news.wait_for(lambda: enough(self.frames), PATIENCE), self.frames

    # What it was told.

    def kinds(self):
        return [frame.kind for frame in self.frames]

    def steps(self):
        return [read_step(frame.payload[8:]) for frame in self.frames if frame.kind == STEP_ENDED]

    def end(self):
        assert self.kinds().count(ENDED) == 1 and self.kinds()[-1] == ENDED, self.kinds()
        return read_end(self.frames[-1].payload)

    def started(self):
        """(flags, Landlock's ABI)"""
        return struct.unpack(">II", next(frame.payload[8:] for frame in self.frames if frame.kind == STARTED))

    def pieces(self, run=0, compile=False):
        """(stream, bytes) in their order, offsets checked."""
        offsets = [0, 0, 0]
        for frame in self.frames:
            if frame.kind == OUTPUT:
                of_compile, stream, of_run, offset = struct.unpack(">BBIQ", frame.payload[:14])
                if (bool(of_compile), of_run) == (compile, run):
                    assert offset == offsets[stream]
                    offsets[stream] += len(frame.payload) - 14
                    yield stream, frame.payload[14:]

    def output(self, stream=1, run=0, compile=False):
        return b"".join(data for of, data in self.pieces(run, compile) if of == stream)


class Channel:
    """A listener that is a Redis, and what is said on the channel, from when it is listened to."""

    def __init__(self, attempt, redis, login=""):
        self.attempt, self.redis = attempt, redis
        self.address, self.channel = f"127.0.0.1:{redis.port}", ("attempt " + login).strip()
        self.pubsub = None

    def listen(self):
        self.pubsub = redis_client.Redis.from_url(self.redis.url).pubsub(ignore_subscribe_messages=False)
        self.pubsub.subscribe("attempt")
        assert self.pubsub.get_message(timeout=PATIENCE)["type"] == "subscribe"
        return self

    def frames(self):
        """All of them, up to the last."""
        frames = []
        while not frames or frames[-1].kind != ENDED:
            frames += self.attempt.read(self.pubsub.get_message(timeout=PATIENCE)["data"])
        return frames

    def close(self):
        if self.pubsub:
            self.pubsub.close()


def program(text, shell="/bin/sh"):
    return [shell, "-c", text]


def python(text):
    return ["/usr/bin/python3", "-c", text]


class Plan:
    def __init__(self, *runs, compile=None, files=(), env=(), flags=0, timeout=PATIENCE, **settings):
        """runs: a command line, or a dict of words, stdin, files, timeout."""
        self.runs = [run if isinstance(run, dict) else {"words": run} for run in runs]
        self.compile, self.files, self.env, self.flags, self.timeout = compile, files, env, flags, timeout
        self.settings = {"output": 1 << 20, "archive": 64 << 20, "total": 0, "grace": 1, "patience": PATIENCE,
                         "processes": 0, "progress": 0} | settings

    @staticmethod
    def record(kind, payload):
        return struct.pack("<II", kind, len(payload)) + payload

    def file(self, path, content):
        path, content = path.encode(), content if isinstance(content, bytes) else content.encode()
        head = struct.pack("<BBHIQ", 1, content[:2] == b"#!", len(path), 0, len(content))
        return self.record(6, head + path + content)

    def step(self, kind, step):
        data = self.record(kind, struct.pack("<q", int(step.get("timeout", self.timeout) * 1e6)))
        data += b"".join(self.record(9, word.encode()) for word in step["words"])
        data += b"".join(self.file(*file) for file in step.get("files", ()))
        return data + (self.record(10, step["stdin"]) if "stdin" in step else b"")

    def encode(self, attempt, addresses, box, also=(), channel=None):
        s = self.settings
        times = [int(s[name] * 1e6) for name in ("total", "grace", "patience")]
        data = b"awplan1\n" + self.record(1, attempt.task.bytes + struct.pack(
            "<IIQQqqqQq", attempt.number, self.flags, s["output"], s["archive"], *times, s["processes"],
            int(s["progress"] * 1e6)))
        data += b"".join(self.record(2, address.encode()) for address in addresses)
        if channel:
            data += self.record(12, channel.encode())
        data += self.record(3, box.encode()) + b"".join(self.record(4, path.encode()) for path in also)
        data += b"".join(self.record(5, pair.encode()) for pair in self.env)
        data += b"".join(self.file(*file) for file in self.files)
        if self.compile:
            data += self.step(7, self.compile if isinstance(self.compile, dict) else {"words": self.compile})
        return data + b"".join(self.step(8, run) for run in self.runs) + self.record(11, b"")


class Wrapped:
    """One container: a directory with the plan, the box and the termination message, and the wrapper in it."""

    def __init__(self, *, listening=True):
        self.directory = tempfile.mkdtemp(prefix="assay-wrap-")
        os.chmod(self.directory, 0o755)
        self.attempt = Attempt()
        self.listener = Listener(self.attempt) if listening else None
        self.fallback = None  # a second one, which is told of behind the first
        self.box, self.also = self.path("box"), self.path("also")
        for path in (self.box, self.also):
            os.mkdir(path)
            os.chown(path, UID, UID)
        self.termination = self.path("termination-log")
        with open(self.termination, "wb"):
            os.chmod(self.termination, 0o666)
        self.process = None
        self.mounts = []  # what else bubblewrap is to do

    def path(self, name):
        return os.path.join(self.directory, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for listener in filter(None, (self.listener, self.fallback)):
            listener.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def lay_out(self, plan, raw=None):
        addresses = [listener.address for listener in (self.listener, self.fallback) if listener]
        data = plan.encode(self.attempt, addresses, self.box, [self.also], getattr(self.listener, "channel", None)) if plan else raw
        os.makedirs(self.path("secret"), exist_ok=True)
        with open(self.path("secret/plan"), "wb") as file:
            file.write(gzip.compress(data) if plan else data)

    def launch(self, *, environment=None, pass_fds=()):
        drop = ["/usr/bin/setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--"]
        status, child = os.pipe()
        self.process = subprocess.Popen(
            [*(drop if os.geteuid() == 0 else ()), "/usr/bin/bwrap", "--unshare-pid", "--as-pid-1", "--die-with-parent",
             "--dev-bind", "/", "/", "--proc", "/proc", *self.mounts, "--json-status-fd", str(child), "--", WRAP, "run", "--plan", self.path("secret")],
            env={"PATH": "/usr/bin:/bin", "ASSAY_WRAP_KEY": self.attempt.key.hex(),
                 "ASSAY_WRAP_TERMINATION": self.termination, **(environment or {})},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/",
            pass_fds=[child, *pass_fds], pipesize=1 << 20)  # so that what it writes has room until we read it
        os.close(child)
        self.status = os.fdopen(status, "rb")  # stays open: bubblewrap writes to it once more at the end
        self.pid = json.loads(self.status.readline())["child-pid"]

    def start(self, plan, *, raw=None, **keywords):
        self.lay_out(plan, raw)
        self.launch(**keywords)

    def finish(self):
        """The exit status, as a container runtime would tell it."""
        self.out, self.err = self.process.communicate(timeout=PATIENCE)
        self.status.close()
        return self.process.returncode

    def run(self, plan, **keywords):
        self.start(plan, **keywords)
        return self.finish()

    def cgroup(self, files):
        """What the container sees as its cgroup; the code may write to it. Returns where it is outside."""
        root = self.path("cgroup")
        for path, text in files.items():
            path = os.path.join(root, path)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="ascii") as file:
                os.chmod(path, 0o666)
                file.write(text)
        self.mounts = ["--bind", root, "/sys/fs/cgroup"]
        return root

    def message(self):
        with open(self.termination, "rb") as file:
            text = file.read()
        assert len(text) <= 4096
        return read_text(self.attempt, text)

    def peak(self):
        """The most memory that was resident, in bytes, while it lives."""
        with open(f"/proc/{self.pid}/status", encoding="ascii") as file:
            return int(re.search(r"VmHWM:\s+(\d+) kB", file.read())[1]) * 1024


def gate(wrapped):
    """Lets a program go on that reads from the pipe `gate` in its directory."""
    with open(os.path.join(wrapped.box, "work", "gate"), "w", encoding="ascii") as file:
        file.write("on\n")
