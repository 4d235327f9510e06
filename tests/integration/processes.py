"""What runs on this machine for a service, as /proc and the cgroups tell it."""

import collections
import hashlib
import os
import shutil

# User ids for the slots of services: a thousand that no other process of tests has, so that what runs under them is ours.
UID_BASE = 1_000_000_000 + os.getpid() % 1_000_000 * 1000

Process = collections.namedtuple("Process", "pid parent state started command")


def _read(path):
    try:
        with open(path, "rb") as file:
            return file.read().decode(errors="replace")
    except OSError:  # it has ended meanwhile
        return ""


def process(pid):
    """None where there is none any more."""
    stat = _read(f"/proc/{pid}/stat")
    if not stat:
        return None
    command, fields = stat[stat.index("(") + 1:stat.rindex(")")], stat[stat.rindex(")") + 2:].split()
    return Process(int(pid), int(fields[1]), fields[0], int(fields[19]), command)


def all_processes():
    """pid: Process, but for those that are dead already and only not yet waited for."""
    found = (process(name) for name in os.listdir("/proc") if name.isdigit())
    return {one.pid: one for one in found if one and one.state not in "ZX"}


def descendants(root, every):
    children = collections.defaultdict(list)
    for one in every.values():
        children[one.parent].append(one.pid)
    found, heads = set(), [root]
    while heads:
        pid = heads.pop()
        found.add(pid)
        heads += children[pid]
    return found


def sandbox_id(data_directory):
    """What the sandbox executor calls its cgroups and its runtime directory (src/executor/sandbox/host.c)."""
    return hashlib.sha256(f"{os.path.realpath(data_directory)}\nsandbox".encode()).hexdigest()[:16]


def cgroups(data_directory):
    """The cgroup directories of this data directory, deepest first."""
    name = "assay-" + sandbox_id(data_directory)
    found = []
    for top, folders, _ in os.walk("/sys/fs/cgroup"):
        if f"/{name}" in top:
            found.append(top)
    return sorted(found, key=len, reverse=True)


def members(cgroup):
    return [int(line) for line in _read(f"{cgroup}/cgroup.procs").split()]


def of_service(data_directory, uids):
    """pids that run under the slots' user ids or in the slots' cgroups. Without root there are no such user ids."""
    found = {pid for cgroup in cgroups(data_directory) for pid in members(cgroup)}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.stat(f"/proc/{name}").st_uid in uids:
                    found.add(int(name))
            except OSError:
                pass
    return found


def left_over(data_directory, uids, service_pid):
    """Processes of earlier incarnations, seen while the present one runs."""
    every = all_processes()
    born = every[service_pid].started
    present = descendants(service_pid, every)
    suspects = [every[pid] for pid in of_service(data_directory, uids) if pid in every and pid not in present]
    # One of the present incarnation may have come or ended while we looked: only what is older than the service is not its own.
    return [one for one in suspects if one.started <= born and process(one.pid) == one]


def remove_runtime(data_directory):
    """What the sandbox keeps outside of the data directory, for the next start that does not come."""
    for top in ("/run/assay", "/tmp/assay"):
        shutil.rmtree(f"{top}/{sandbox_id(data_directory)}", ignore_errors=True)
    for cgroup in cgroups(data_directory):
        try:
            os.rmdir(cgroup)
        except OSError:  # in use: the test that wants it unused says so
            pass
