"""What a pod's wrapper would say, for tests against the stand-in, where no pod runs: signed frames to the attempt listener, and
the termination message. Written after src/wrap/report.h, with nothing of ours."""

import base64
import hashlib
import hmac
import http.client
import struct
import time
import uuid

STARTED, OUTPUT, STEP_ENDED, ASK, ENDED, SUMMARY = range(1, 7)
COMPLETE = 1
EXIT_CODE = 1


def job_name(task, attempt=1):
    """Of a UUID: what the service calls the attempt's Job."""
    text = base64.b32encode(uuid.UUID(str(task)).bytes).decode().lower().rstrip("=")
    return f"eval-{text}" + (f"-{attempt}" if attempt > 1 else "")


def task_of(name):
    """The UUID, as text, of the name of a first attempt's Job."""
    return str(uuid.UUID(bytes=base64.b32decode(name.removeprefix("eval-").upper() + "======")))


def labels(task, attempt=1, instance="assay"):
    return {"app": "evaluation", "assay.dev/task": str(task), "assay.dev/attempt": str(attempt),
            "app.kubernetes.io/instance": instance}


class Reporter:
    """One attempt's wrapper. `key`: the service's, as bytes."""

    def __init__(self, key, task, attempt=1):
        self.task, self.attempt, self.sequence = uuid.UUID(str(task)), attempt, 0
        self.key = hmac.new(key, b"assay attempt 1\0" + self.task.bytes + struct.pack(">I", attempt), hashlib.sha256).digest()
        self.connection = None

    def frame(self, kind, payload, sequence=None):
        if sequence is None:
            self.sequence += 1
            sequence = self.sequence
        head = b"AWF\1" + struct.pack(">B3xII16sQ", kind, len(payload), self.attempt, self.task.bytes, sequence)
        return head + payload + hmac.new(self.key, head + payload, hashlib.sha256).digest()

    @staticmethod
    def _now():
        return int(time.time() * 1e6)

    @staticmethod
    def _step(exit_code):
        return struct.pack(">BBBHIIIII", 0, EXIT_CODE if exit_code else 0, 0, exit_code, 0, 1000, 10, 1024, 1)

    def _end(self, exit_code):
        return struct.pack(">qBBHH", self._now(), COMPLETE, 0, 1, 1) + self._step(exit_code)

    def started(self):
        return self.frame(STARTED, struct.pack(">qII", self._now(), 0, 0))

    def output(self, data, offset=0):
        return self.frame(OUTPUT, struct.pack(">BBIQ", 0, 1, 0, offset) + data)

    def ended(self, exit_code=0):
        """The step, and the whole."""
        return self.frame(STEP_ENDED, struct.pack(">q", self._now()) + self._step(exit_code)) + \
            self.frame(ENDED, self._end(exit_code))

    def message(self, exit_code=0):
        """The termination message."""
        return "assay1 " + base64.b64encode(self.frame(SUMMARY, self._end(exit_code), 0)).decode()

    def connect(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self.connection.connect()

    def post(self, port, frames):
        """Sends them to the attempt listener; the status of its answer."""
        if not self.connection:
            self.connect(port)
        self.connection.request("POST", f"/attempts/{self.task}/{self.attempt}/frames", frames)
        answer = self.connection.getresponse()
        answer.read()
        return answer.status

    def close(self):
        if self.connection:
            self.connection.close()
        self.connection = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
