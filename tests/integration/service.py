"""A real assayd in a directory of its own, for the integration tests: started on a free port, killed, started again."""

import os
import re
import signal
import subprocess
import threading

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.abspath(os.environ.get("ASSAY_BUILD", os.path.join(ROOT, "build-debug")))
PATIENCE = 120  # seconds: only against hanging for ever, nothing is measured by it
SETTINGS = ("ASSAY_", "POSTGRES_", "REDIS_", "EXECUTOR_", "DISPATCHER_")


def clean_environment(**more):
    """The environment without what would configure the service or the client."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(SETTINGS)}
    kept.pop("NO_COLOR", None)
    return {**kept, **more}


class Service:
    """One assayd. `url` stays the same when it is started again."""

    def __init__(self, directory, *flags, **environment):
        self.directory = str(directory)
        self.flags = flags
        self.environment = clean_environment(**environment)
        self.listen = "127.0.0.1:0"
        self.process = None
        self.log = []

    @property
    def url(self):
        return "http://" + self.listen

    def start(self):
        self.process = subprocess.Popen(
            [os.path.join(BUILD, "assayd"), "--listen", self.listen, "--data", os.path.join(self.directory, "data"),
             *self.flags],
            stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, errors="replace", env=self.environment,
            cwd=self.directory)
        listening = threading.Event()
        threading.Thread(target=self._read_log, args=(self.process, listening), daemon=True).start()
        assert listening.wait(PATIENCE), "assayd does not come up:\n" + "".join(self.log)
        assert self.process.poll() is None, "assayd ended:\n" + "".join(self.log)
        return self

    def _read_log(self, process, listening):
        for line in process.stderr:
            self.log.append(line)
            found = re.search(r"listening on http://([0-9.:]+)", line)
            if found:
                self.listen = found.group(1)
                listening.set()
        process.wait()
        listening.set()

    def kill(self):
        """As by a power cut; what it was running is left to whoever comes next."""
        self.process.kill()
        self.process.wait(PATIENCE)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.kill()

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()
