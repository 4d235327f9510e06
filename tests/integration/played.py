"""assay-wrap as a test plays it, for an attempt that no node runs: it finds the attempt's Secret as a pod would, sends the
frames that the wrapper would send, signed with its key, to the listener that its plan names, and ends the pod."""

import base64
import gzip
import http.client
import struct
import time
import uuid

from service import PATIENCE
from wrapped import ENDED, HOWS, OUTPUT, PROGRESS, REASONS, STARTED, STEP_ENDED, SUMMARY, Attempt

LISTENER = 2  # the plan's record


def attempt_name(job, number):
    """Of the Job that is the task's attempt of that number."""
    return job if number == 1 else f"{job}-{number}"


def listener_of(plan):
    at = 8
    while True:
        kind, length = struct.unpack_from("<II", plan, at)
        if kind == LISTENER:
            return plan[at + 8:at + 8 + length].decode()
        at += 8 + length


class Played:
    """The wrapper of the job's attempt; waits for its Secret. `skew`: seconds that its node's clock is ahead."""

    def __init__(self, api, job, number=1, skew=0):
        self.api, self.name, self.skew = api, attempt_name(job, number), skew
        secret = api.wait("secrets", lambda one: one["metadata"]["name"] == self.name)
        task = secret["metadata"]["labels"]["assay.dev/task"]
        key, plan = (base64.b64decode(secret["data"][name]) for name in ("key", "plan"))
        self.attempt = Attempt(uuid.UUID(task), number, bytes.fromhex(key.decode()))
        self.listener = listener_of(gzip.decompress(plan))
        self.sequence, self.steps = 0, []
        self.pod_name = None  # once it was looked for

    # ---- frames ----

    def _at(self):
        return int((time.time() + self.skew) * 1e6)

    def frame(self, kind, payload, key=None):
        self.sequence += 1
        return self.attempt.frame(kind, self.sequence, payload, key)

    def started(self):
        return self.frame(STARTED, struct.pack(">qII", self._at(), 0, 0))

    def output(self, data, stream=1, run=0, compile=False):
        return self.frame(OUTPUT, struct.pack(">BBIQ", compile, stream, run, 0) + data)

    def progress(self, wall, cpu=-1, memory=-1, run=0, compile=False):
        return self.attempt.frame(PROGRESS, 0, struct.pack(">BIqqq", compile, run, int(wall * 1e6), int(cpu * 1e6) if cpu >= 0 else -1, memory))

    def step_ended(self, reason="none", code=0, signal=0, run=0, compile=False):
        self.steps.append(struct.pack(">BBBHIIIII", compile, REASONS.index(reason), signal, 0xffff if code is None else code,
                                      run, 1000, 1, 1024, 1))
        return self.frame(STEP_ENDED, struct.pack(">q", self._at()) + self.steps[-1])

    def _end(self, how):
        count = len(self.steps)
        return struct.pack(">qBBHH", self._at(), HOWS.index(how), 0, count, count) + b"".join(self.steps)

    def ended(self, how="complete"):
        return self.frame(ENDED, self._end(how))

    def message(self, how="complete"):
        """What it leaves as termination message."""
        return b"assay1 " + base64.b64encode(self.attempt.frame(SUMMARY, 0, self._end(how)))

    def ask(self, *frames, listener=None, query=""):
        """One body of them; the status that it is answered with, and the answer."""
        connection = http.client.HTTPConnection(listener or self.listener, timeout=PATIENCE)
        try:
            connection.request("POST", f"/attempts/{self.attempt.task}/{self.attempt.number}/frames{query}", b"".join(frames))
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def send(self, *frames, listener=None):
        return self.ask(*frames, listener=listener)[0]

    def start(self):
        """Its code runs."""
        assert self.send(self.started()) == 200

    def finish(self, output=b"", listener=None):
        """Its code, which runs, has printed that and ended."""
        frames = [self.output(output)] if output else []
        assert self.send(*frames, self.step_ended(), self.ended(), listener=listener) == 200

    def run(self, output=b""):
        """All of it."""
        self.start()
        self.finish(output)

    # ---- the pod ----

    def pod(self, condition=lambda pod: pod["status"].get("phase") == "Running"):
        found = self.api.wait("pods", condition, labelSelector="job-name=" + self.name)
        self.pod_name = found["metadata"]["name"]
        return found

    def pod_becomes(self, **status):
        """Members of its pod's status, once it runs."""
        if not self.pod_name:
            self.pod()
        self.api.patch("pods", self.pod_name, {"status": status}, "status")

    def pod_ends(self, code=0, said=None, exit_reason=None, **status):
        """Its container ends: `said` is the termination message; with further members of the pod's status."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + self.skew))
        terminated = {"exitCode": code, "reason": exit_reason or ("Error" if code else "Completed"), "startedAt": stamp,
                      "finishedAt": stamp, **({"message": said.decode()} if said else {})}
        self.pod_becomes(**{"phase": "Failed" if code else "Succeeded", "containerStatuses": [
            {"name": "evaluation", "state": {"terminated": terminated}, "image": "", "imageID": "", "ready": False,
             "restartCount": 0}], **status})
