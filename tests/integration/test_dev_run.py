"""`./dev run --full`, as a developer starts it and ends it: a service with a PostgreSQL and a Redis of its own, of which nothing stays."""

import contextlib
import os
import select
import signal
import subprocess

import pytest

import processes
from service import PATIENCE, ROOT, Service

DEV = os.path.join(ROOT, "dev")


class Full(Service):
    """The command, in a session of its own as a terminal's would be; the flags that every service of tests has stand behind it."""

    def __init__(self, directory):
        super().__init__(directory, prefix=("setsid", DEV, "run"))
        self.program = "--full"

    def started(self):
        """{process: a descriptor that tells its end}, of all that it has running."""
        found = {}
        every = processes.all_processes()
        for pid in processes.descendants(self.pid, every):
            with contextlib.suppress(ProcessLookupError):
                found[every[pid]] = os.pidfd_open(pid)
        return found


def server_directories(running):
    """Where its servers have what they write, by the name of the server."""
    found = {}
    for one in running:
        if one.command in ("postgres", "redis-server"):
            with contextlib.suppress(OSError):  # one of PostgreSQL's that has ended since
                found[one.command] = "/".join(os.readlink(f"/proc/{one.pid}/cwd").split("/")[:3])
    return found


@pytest.mark.slow
@pytest.mark.xdist_group("release")  # one build at a time
@pytest.mark.parametrize("end", ("SIGTERM", "Ctrl-C"))
def test_run_full_leaves_nothing(services, end):
    subprocess.run([DEV, "build"], check=True, stdout=subprocess.DEVNULL)
    with services(kind=Full) as service:
        assert "kind=postgres" in service.wait_line("store chosen.*").group(0)
        assert "kind=redis" in service.wait_line("bus chosen.*").group(0)
        answer = service.call("POST", "/execute?wait=100", {"code": "print(6 * 7)"})
        assert (answer.json["phase"], answer.json["exit_code"]) == ("succeeded", 0), answer
        running = service.started()
        directories = server_directories(running)
        assert directories.keys() == {"postgres", "redis-server"}
        assert all(os.path.isdir(path) for path in directories.values()), directories
        if end == "SIGTERM":
            service.terminate()
        else:
            os.killpg(service.pid, signal.SIGINT)
        assert service.wait_end() == 0, service.text()
        for one, descriptor in running.items():
            assert select.select([descriptor], [], [], PATIENCE)[0], one
            os.close(descriptor)
        assert not [path for path in directories.values() if os.path.exists(path)]
