"""`./dev kubernetes up|down`: what a person gets of it, beside the cluster of the other tests, and that nothing of it stays."""

import os
import signal
import subprocess
import sys

import pytest

import servers
from clients import patient_until
from kubernetes import private
from service import PATIENCE, Service

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("kubernetes-2")]
TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SYSCTLS = ("vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys",
           "kernel/keys/root_maxbytes", "net/ipv4/ip_forward")


def sysctls():
    values = {}
    for name in SYSCTLS:
        with open("/proc/sys/" + name, encoding="ascii") as file:
            values[name] = file.read().strip()
    return values


@pytest.fixture
def cli(kubernetes, tmp_path):
    """cli(WORD): `./dev kubernetes WORD` with a cache of its own, but for the programs."""
    if not kubernetes.private:
        pytest.skip("the cluster is not our own")
    cache = tmp_path / "cache"
    (cache / "assay").mkdir(parents=True)
    (cache / "assay" / os.path.basename(kubernetes.private.programs)).symlink_to(kubernetes.private.programs)
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}

    def command(word):
        return subprocess.Popen([sys.executable, "-m", "kubernetes", word], cwd=TESTS, env=environment,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    yield command
    command("down").wait()


def said(process):
    text, _ = process.communicate()
    return process.returncode, text


def left_over(directory):
    """What is still there of a cluster."""
    name = os.path.basename(directory)
    groups = [top for top, _, _ in os.walk("/sys/fs/cgroup") if name in top]
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        mounts = [line for line in file if name in line]
    processes = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if name.encode() in file.read() and private.started_at(pid) is not None:
                    processes.append(pid)
        except OSError:
            pass
    return [*groups, *mounts, *processes, *([directory] if os.path.exists(directory) else [])]


def nothing_is_left(directory):
    """What has been killed ends when it has a processor."""
    patient_until(lambda: not left_over(directory), explain=lambda: left_over(directory))


def check_that_evaluations_run(tmp_path, settings):
    """With these settings and no other, but for the port, which may be somebody's."""
    with Service(tmp_path, ASSAY_ATTEMPT_LISTEN=f"0.0.0.0:{servers.free_port()}", **settings) as service:
        for language, code in (("python", "print(6 * 7)"), ("bash", "echo $((6 * 7))")):
            told = service.call("POST", f"/execute?wait={PATIENCE}", {"language": language, "code": code}).json
            assert (told["phase"], told["stdout"], told["executor"]) == ("succeeded", "42\n", "kubernetes"), (told, service.text())


def test_up_and_down(cli, tmp_path):
    before = sysctls()
    assert said(cli("status"))[0] == 3
    status, text = said(cli("up"))
    assert status == 0, text
    lines = text.splitlines()
    assert lines[-1] == "export ASSAY_EXECUTORS=kubernetes" and lines[-2].startswith("export ASSAY_KUBECONFIG=")
    settings = dict(line.removeprefix("export ").split("=") for line in lines[-2:])
    assert sysctls() == before
    check_that_evaluations_run(tmp_path, settings)
    status, text = said(cli("status"))
    assert status == 0 and "node node1: ready" in text
    directory = os.readlink(tmp_path / "cache/assay/kubernetes-up")
    assert said(cli("down")) == (0, "")
    nothing_is_left(directory)
    assert said(cli("status"))[0] == 3
    assert sysctls() == before


def test_up_that_is_killed_leaves_nothing(cli, tmp_path):
    process = cli("up")
    link = tmp_path / "cache/assay/kubernetes-up"
    while not os.path.lexists(link) or not private.runs(os.readlink(link)):
        assert process.poll() is None, said(process)
    directory = os.readlink(link)
    keeper, _ = private.runs(directory)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    private.wait_ended(keeper)
    nothing_is_left(directory)
    assert said(cli("down")) == (0, "")
    assert not os.path.lexists(link)
