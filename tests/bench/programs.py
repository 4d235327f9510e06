"""The programs that a bench starts, and how it talks to them: the service, its peers, the load client."""

import http.client
import json
import os
import re
import select
import shutil
import signal
import statistics
import subprocess
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, "build")
BENCH = os.path.join(BUILD, "tests", "bench")
SOURCE = os.path.join(ROOT, "tests", "bench")
PATIENCE_S = 300


def median(values):
    return statistics.median(values)


def pinned(core):
    """The prefix that keeps a program on one core; nothing where there is only one."""
    return ["taskset", "-c", str(core)] if (os.cpu_count() or 1) > 1 else []


class Program:
    """A child process with a temporary directory and a log of what it says; a context manager that ends it."""

    def __init__(self, command, port_on_stdout=False, core=None, environment=None):
        self.directory = tempfile.mkdtemp(prefix="assay-bench-")
        self.log = open(os.path.join(self.directory, "log"), "w+", encoding="utf-8", errors="replace")
        prefix = pinned(core) if core is not None else []
        command = [word.replace("{directory}", self.directory) for word in command]
        self.process = subprocess.Popen(prefix + command, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if port_on_stdout else self.log, stderr=self.log, env={**os.environ, **(environment or {})})
        self.port = int(self.process.stdout.readline() or 0) if port_on_stdout else self._wait_for_port()
        if not self.port:
            self.fail("did not start")

    def said(self):
        self.log.flush()
        with open(self.log.name, encoding="utf-8", errors="replace") as text:
            return text.read()

    def fail(self, what):
        said = self.said()[-2000:]
        self.stop()
        raise SystemExit(f"bench: {self.process.args[-1]} {what}\n{said}")

    def _wait_for_port(self):
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and self.process.poll() is None:
            found = re.search(r"listening on http://127\.0\.0\.1:(\d+)", self.said())
            if found:
                return int(found.group(1))
            time.sleep(0.02)
        return 0

    def memory(self):
        """Resident bytes, and those of them that are the process's own, by /proc/PID/smaps_rollup."""
        figures = {}
        with open(f"/proc/{self.process.pid}/smaps_rollup", encoding="ascii") as lines:
            for line in lines:
                name, _, value = line.partition(":")
                if value.strip().endswith("kB"):
                    figures[name] = int(value.split()[0]) * 1024
        return figures["Rss"], figures["Private_Dirty"] + figures["Private_Clean"]

    def peak_memory(self):
        """The most resident bytes that it ever had."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii", errors="replace") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))

    def writes(self):
        """How many bytes it has written, to sockets too, and in how many calls."""
        with open(f"/proc/{self.process.pid}/io", encoding="ascii") as lines:
            figures = dict(line.split(": ") for line in lines)
        return int(figures["wchar"]), int(figures["syscw"])

    def cpu_s(self):
        """The processor time that it has taken, in user and system mode."""
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii", errors="replace") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()
        self.log.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Service(Program):
    """assayd, with a data directory of its own."""

    def __init__(self, *flags, core=None, environment=None):
        super().__init__([os.path.join(BUILD, "assayd"), "--listen", "127.0.0.1:0", "--data", "{directory}/data",
            "--drain", "0", *flags], core=core, environment=environment)

    def request(self, method, path, body=None, connection=None):
        own = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            own.request(method, path, json.dumps(body) if body is not None else None,
                {"Content-Type": "application/json"} if body is not None else {})
            answer = own.getresponse()
            text = answer.read()
        finally:
            if not connection:
                own.close()
        if answer.status >= 300:
            self.fail(f"answered {answer.status} to {method} {path}: {text[:300]}")
        return json.loads(text)

    def submit(self, items):
        """Submits a batch and returns its id and the names of its jobs."""
        answer = self.request("POST", "/execute/batch", items)
        items = answer.get("results") or answer.get("items")
        bad = [item for item in items if item.get("status") not in (200, 201)]
        if bad:
            self.fail(f"refused {len(bad)} items: {bad[0]}")
        return answer["batch_id"], [item["job_name"] for item in items]

    def metric(self, name):
        """The sum of a metric over its labels."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines()
            if line.startswith((name + " ", name + "{")))

    def wait_until(self, done, what):
        deadline = time.monotonic() + PATIENCE_S
        while not done():
            if time.monotonic() > deadline or self.process.poll() is not None:
                self.fail(f"waited in vain: {what}")
            time.sleep(0.02)


class Followers:
    """Clients of a stream of events that only read."""

    def __init__(self, port, path, count):
        self.sockets = []
        for _ in range(count):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request("GET", path, headers={"Accept": "text/event-stream"})
            answer = connection.getresponse()
            if answer.status != 200:
                raise SystemExit(f"bench: GET {path} answered {answer.status}")
            self.sockets.append((connection, answer))

    def close(self):
        for connection, answer in self.sockets:
            answer.close()
            connection.close()


class EventCounter:
    """Reads GET /events and counts ends, to know when work has been settled without asking again and again."""

    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        self.connection.request("GET", "/events", headers={"Accept": "text/event-stream"})
        self.connection.sock.settimeout(None)
        self.socket = self.connection.sock
        self.rest = b""
        self.ends = 0

    def wait_for(self, count):
        deadline = time.monotonic() + PATIENCE_S
        while self.ends < count:
            readable, _, _ = select.select([self.socket], [], [], max(0, deadline - time.monotonic()))
            data = self.socket.recv(1 << 20) if readable else b""
            if not data:
                raise SystemExit(f"bench: the events stopped at {self.ends} of {count} ends")
            self.rest += data
            lines = self.rest.split(b"\n")
            self.rest = lines.pop()
            self.ends += sum(line in (b"event: completed", b"event: failed") for line in lines)

    def close(self):
        self.connection.close()


class Load:
    """What wrk measured."""

    def __init__(self, requests, microseconds, p50_us, p99_us, errors, refused):
        self.requests = requests
        self.rate = requests / (microseconds / 1e6)
        self.p50_us, self.p99_us = p50_us, p99_us
        self.failures = errors + refused


def wrk(port, path, connections, seconds, method="GET", body="-", paths="-", core=None, more=()):
    command = (pinned(core) if core is not None else []) + ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s",
        "--timeout", "30s", "-s", os.path.join(SOURCE, "load.lua"), f"http://127.0.0.1:{port}{path}", "--", method, body,
        paths, *more]
    text = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    found = re.search(r"^RESULT (.*)$", text, re.M)
    load = Load(*(int(word) for word in found.group(1).split()))
    if load.failures:
        raise SystemExit(f"bench: {load.failures} requests failed: {' '.join(command)}")
    return load


def bare_sqlite(batch, rows):
    """Rows/s and the median of one transaction in microseconds."""
    with tempfile.TemporaryDirectory(prefix="assay-bench-") as directory:
        text = subprocess.run([os.path.join(BENCH, "bare-sqlite"), directory, str(batch), str(rows)],
            stdout=subprocess.PIPE, check=True, text=True).stdout
    found = re.search(r"rows/s=([\d.]+) p50_us=([\d.]+)", text)
    return float(found.group(1)), float(found.group(2))


def bare_launch(concurrency, launches):
    """Launches/s and their median in milliseconds."""
    text = subprocess.run([os.path.join(BENCH, "bare_launch"), "-c", str(concurrency), "-n", str(launches),
        os.path.join(BUILD, "assay-launch"), "/usr/bin/true"], stdout=subprocess.PIPE, check=True, text=True).stdout
    found = re.search(r"([\d.]+) /s, p50 ([\d.]+) ms", text)
    return float(found.group(1)), float(found.group(2))
