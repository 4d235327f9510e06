"""A real assayd in a directory of its own, for the integration tests: started on a free port, killed, started again.

And the least that it takes to speak with it: `Http`, a connection that can be lost, and `follow`, a stream of events. Nothing
here sleeps: what must come is waited for, by its line in the log, by an event, by the end of a process."""

import http.client
import json
import os
import re
import signal
import subprocess
import threading
import time

import processes
import servers

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.abspath(os.environ.get("ASSAY_BUILD", os.path.join(ROOT, "build-debug")))
PATIENCE = 120  # seconds: only against hanging for ever, nothing is measured by it
SETTINGS = ("ASSAY_", "POSTGRES_", "REDIS_", "EXECUTOR_", "DISPATCHER_")
LISTENING = r"^listening on http://(\S+)$"


def clean_environment(**more):
    """The environment without what would configure the service or the client."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(SETTINGS)}
    kept.pop("NO_COLOR", None)
    return {**kept, **more}


class Service:
    """One assayd. `url` is the same from the beginning on, however often it is started again.

    `prefix` is a command that the program is started through, such as `unshare -m`."""

    def __init__(self, directory, *flags, program="assayd", prefix=(), **environment):
        self.directory = str(directory)
        self.data = os.path.join(self.directory, "data")
        self.program = os.path.join(BUILD, program)
        self.prefix = prefix
        self.flags = flags
        self.environment = clean_environment(**environment)
        self.listen = f"127.0.0.1:{servers.free_port()}"
        self.process = None
        self.log = []  # the lines of every incarnation
        self.first_line = 0  # of the present one
        self.news = threading.Condition()  # another line, or the end of the process

    @property
    def url(self):
        return "http://" + self.listen

    @property
    def pid(self):
        return self.process.pid

    @property
    def store(self):
        """Where checker.Book finds its rows."""
        return os.path.join(self.data, "assay.db")

    def launch(self):
        """Starts the process and waits for nothing."""
        self.first_line = len(self.log)
        self.process = subprocess.Popen(
            [*self.prefix, self.program, "--listen", self.listen, "--data", self.data, *self.flags],
            stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, errors="replace", env=self.environment,
            cwd=self.directory)
        self.reader = threading.Thread(target=self._read_log, args=(self.process,), daemon=True)
        self.reader.start()
        return self

    def start(self):
        """Starts it and waits until it can take work."""
        self.launch()
        self.listen = self.wait_line(LISTENING).group(1)
        return self

    def _read_log(self, process):
        for line in process.stderr:
            with self.news:
                self.log.append(line)
                self.news.notify_all()
        process.wait()
        process.stderr.close()
        with self.news:
            self.news.notify_all()

    def text(self):
        """What the present incarnation has written to its standard error."""
        return "".join(self.log[self.first_line:])

    def wait_line(self, pattern, patience=PATIENCE):
        """Waits until this incarnation has written a line that the pattern is found in; the match."""
        pattern = re.compile(pattern, re.M)
        deadline = time.monotonic() + patience
        with self.news:
            while True:
                found = pattern.search(self.text())
                if found:
                    return found
                assert self.process.poll() is None, "assayd ended:\n" + self.text()
                assert self.news.wait(max(0, deadline - time.monotonic())), f"no line {pattern.pattern}:\n{self.text()}"

    def wait_end(self, patience=PATIENCE):
        """Waits for the process to end by itself, and for the last of its lines; its exit status."""
        status = self.process.wait(patience)
        self.reader.join(patience)
        return status

    def kill(self):
        """As by a power cut; what it was running is left to whoever comes next."""
        self.process.kill()
        return self.wait_end()

    def terminate(self):
        """SIGTERM, and no waiting."""
        self.process.send_signal(signal.SIGTERM)

    def stop(self):
        """SIGTERM, and its end; the exit status."""
        if not self.process or self.process.poll() is not None:
            return self.process.returncode if self.process else None
        self.terminate()
        try:
            return self.wait_end()
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def restart(self):
        """Stops it, or finds it ended, and starts it again at the same address."""
        self.stop()
        return self.start()

    def http(self, **keywords):
        return Http(self.url, **keywords)

    def call(self, method, path, body=None, **keywords):
        """One request on a connection of its own."""
        with self.http() as http:
            return http(method, path, body, **keywords)

    def wait_status(self, job, *phases):
        """Asks until the phase is one of these; the status."""
        deadline = time.monotonic() + PATIENCE
        with self.http() as http:
            while True:
                status = http("GET", f"/status/{job}").json
                if status.get("phase") in phases:
                    return status
                assert time.monotonic() < deadline, (status, self.text())
                time.sleep(0.01)  # between two questions, so that the service has the processor

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        try:
            self.stop()
        finally:
            processes.remove_runtime(self.data)


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"<{self.status} {self.body[:2000]!r}>"


class Http:
    """A connection kept alive. Whatever is lost on the way is an OSError or an HTTPException, after which it begins anew."""

    LOST = (OSError, http.client.HTTPException)

    def __init__(self, url, patience=PATIENCE, headers=None):
        self.connection = http.client.HTTPConnection(url.split("//")[1], timeout=patience)
        self.headers = headers or {}

    def __call__(self, method, path, body=None, headers=None):
        headers = {**self.headers, **(headers or {})}
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        if body is not None:
            headers.setdefault("Content-Type", "application/json")
        try:
            self.connection.request(method, path, body, headers)
            answer = self.connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        except self.LOST:
            self.connection.close()
            raise

    def close(self):
        self.connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def follow(url, path, last_event_id=None, patience=PATIENCE, headers=None):
    """The events of a stream, as (id, kind, data), until it ends; an OSError or HTTPException where it is cut or
    refused for the moment."""
    connection = http.client.HTTPConnection(url.split("//")[1], timeout=patience)
    headers = {**(headers or {}), **({"Last-Event-ID": last_event_id} if last_event_id else {})}
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        if answer.status == 503:
            raise ConnectionRefusedError(answer.read())
        assert answer.status == 200, (answer.status, answer.read())
        fields = {}
        while True:
            line = answer.readline()
            if not line:
                return
            line = line.decode().rstrip("\n")
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif fields:
                if "data" in fields:
                    yield fields.get("id"), fields.get("event"), json.loads(fields["data"])
                fields = {}
    finally:
        connection.close()
