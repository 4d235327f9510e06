"""Code that attacks assay-wrap, beside which it runs under the same user id: it can neither read nor trace nor stop it, and
whatever it writes or sends, its end is told as it was. Each attack is made with and without what only newer kernels have
(Landlock, the seccomp filter), where it can be made without."""

import os
import signal
import subprocess

import pytest

from wrapped import CONFINE, ENDED, HIDE, UID, Plan, gate, program, python

CONFINED = pytest.mark.parametrize("flags", [0, CONFINE], ids=["unconfined", "confined"])


def attack(wrapped, text, flags):
    """Runs python code; whatever it does, its end must be told as if it had done nothing. Returns its output."""
    assert wrapped.run(Plan(python(text), program("echo next"), flags=flags)) == 0, wrapped.err
    assert [step.reason for step in wrapped.listener.steps()] == ["none", "none"]
    assert wrapped.listener.end().how == "complete"
    assert wrapped.message().steps == wrapped.listener.steps() and wrapped.listener.output(1, 1) == b"next\n"
    return wrapped.listener.output().decode()


@CONFINED
@pytest.mark.parametrize("path", ["environ", "mem", "maps", "fd", "exe", "cwd", "root", "auxv", "syscall", "stack"])
def test_process_1_cannot_be_read(wrapped, path, flags):
    text = f"""
import os
name = '{path}'
look = dict(fd=os.listdir, exe=os.readlink, cwd=os.readlink, root=os.readlink)
try:
    print('read', look.get(name, lambda path: open(path, 'rb').read(100))('/proc/1/' + name))
except OSError as error:
    print(type(error).__name__)
"""
    assert attack(wrapped, text, flags) == "PermissionError\n"


@CONFINED
def test_the_key_is_nowhere_to_be_found(wrapped, flags):
    text = """
import os
mark = 'assay_wrap'.upper().encode()  # so that it is not in this text
read, found = 0, []
for name in os.listdir('/proc'):
    for part in ('environ', 'cmdline') if name.isdigit() else ():
        try:
            text = open(f'/proc/{name}/{part}', 'rb').read()
            read += 1
            if mark in text:
                found.append((name, part))
        except OSError:
            pass
print(read, found, [name for name in os.environ if mark.decode() in name])
"""
    assert attack(wrapped, text, flags) == "3 [] []\n"  # its own two, and process 1's command line, which has none


@pytest.mark.skipif(os.geteuid() != 0, reason="nobody else may look")
def test_nor_is_it_in_the_memory_that_the_kernel_shows_to_root(wrapped):
    wrapped.start(Plan(program("mkfifo gate; echo up; read x <gate")))
    wrapped.listener.wait(lambda frames: any(b"up" in frame.payload for frame in frames))
    with open(f"/proc/{wrapped.pid}/environ", "rb") as file:
        assert file.read().strip(b"\0") == b""
    gate(wrapped)
    assert wrapped.finish() == 0


def test_descriptors_that_the_container_was_given_do_not_reach_the_code(wrapped):
    with open("/etc/passwd", "rb") as file:
        wrapped.run(Plan(python("import os; print(sorted(os.listdir('/proc/self/fd')))")), pass_fds=[file.fileno()])
    assert wrapped.listener.output() == b"['0', '1', '2', '3']\n"  # 3: the directory that is listed


@CONFINED
@pytest.mark.parametrize("call", ["ptrace(16, 1, 0, 0)", "ptrace(0x4206, 1, 0, 0)",
                                  "process_vm_readv(1, iov, 1, iov, 1, 0)", "process_vm_writev(1, iov, 1, iov, 1, 0)"])
def test_process_1_cannot_be_traced(wrapped, call, flags):
    text = f"""
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
class Iov(ctypes.Structure):
    _fields_ = [('base', ctypes.c_void_p), ('len', ctypes.c_size_t)]
room = ctypes.create_string_buffer(64)
iov = (Iov * 1)(Iov(ctypes.addressof(room), 64))
print(libc.{call}, ctypes.get_errno())
"""
    assert attack(wrapped, text, flags) == "-1 1\n"


@CONFINED
def test_a_descriptor_of_process_1_cannot_be_fetched(wrapped, flags):
    text = ("import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\nfd = os.pidfd_open(1)\n"
            "print([libc.syscall(438, fd, i, 0) for i in range(20)] == [-1] * 20, ctypes.get_errno())")
    assert attack(wrapped, text, flags) == "True 1\n"


@CONFINED
@pytest.mark.parametrize(
    "number", ["SIGSTOP", "SIGKILL", "SIGTERM", "SIGINT", "SIGCHLD", "SIGSEGV", "SIGUSR1", "SIGTSTP"])
def test_signals_do_not_reach_process_1(wrapped, number, flags):
    text = f"""
import os, signal
refused = 0
for i in range(200):
    try:
        os.kill(1, signal.{number})
    except PermissionError:
        refused += 1
print(refused)
"""
    assert attack(wrapped, text, flags) == ("200\n" if flags == CONFINE else "0\n")


def test_confined_a_descriptor_of_process_1_takes_no_signals(wrapped):
    text = """
import errno, os, signal
fd = os.pidfd_open(1)
try:
    signal.pidfd_send_signal(fd, signal.SIGTERM)
except OSError as error:
    print(error.errno == errno.ENOSYS)
"""
    assert attack(wrapped, text, CONFINE) == "True\n"


def test_confined_the_kernel_is_not_made_to_send_them(wrapped):
    text = """
import fcntl, os, struct
refused = 0
for what, about in ((fcntl.F_SETOWN, 1), (fcntl.F_SETOWN, -1), (15, struct.pack('ii', 1, 1))):
    try:
        fcntl.fcntl(os.pipe()[0], what, about)
    except PermissionError:
        refused += 1
print(refused)
"""
    assert attack(wrapped, text, CONFINE) == "3\n"


@CONFINED
def test_a_forged_sender_of_sigterm_is_not_believed(wrapped, flags):
    text = """
import ctypes, os, struct
libc = ctypes.CDLL(None, use_errno=True)
# siginfo: signal, errno, code SI_QUEUE, pad, pid 0, uid 0
info = ctypes.create_string_buffer(struct.pack('iiiiii', 15, 0, -1, 0, 0, 0) + bytes(104))
for i in range(100):
    libc.syscall(138 if os.uname().machine == 'aarch64' else 129, 1, 15, info)
print('sent')
"""
    assert attack(wrapped, text, flags) == "sent\n"


def test_confined_nobody_changes_the_limits_or_the_scheduling_of_process_1(wrapped):
    text = """
import os, resource
def tried(what):
    try:
        what()
        return 'done'
    except OSError as error:
        return type(error).__name__
print(tried(lambda: resource.prlimit(1, resource.RLIMIT_CPU, (0, 0))),
      tried(lambda: resource.prlimit(1, resource.RLIMIT_FSIZE, (0, 0))),
      tried(lambda: os.setpriority(os.PRIO_PROCESS, 1, 19)), tried(lambda: os.setpriority(os.PRIO_USER, 0, 19)),
      tried(lambda: os.sched_setscheduler(1, os.SCHED_IDLE, os.sched_param(0))),
      tried(lambda: os.sched_setaffinity(1, {0})))
print(tried(lambda: resource.prlimit(os.getpid(), resource.RLIMIT_CPU, (100, 100))),
      tried(lambda: os.setpriority(os.PRIO_PROCESS, 0, 19)),
      tried(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))))
"""
    assert attack(wrapped, text, CONFINE) == "PermissionError " * 5 + "PermissionError\n" + "done done done\n"
    assert wrapped.listener.started()[0] == 1


@CONFINED
def test_a_termination_message_written_by_the_code_does_not_stay(wrapped, flags):
    text = f"""
import os, subprocess
def writes():
    try:
        with open({wrapped.termination!r}, 'r+b') as file:
            file.write(b'assay1 forged' + b'x' * 5000)
        return 'written'
    except OSError as error:
        return type(error).__name__
print(writes(), flush=True)
if os.fork() == 0:
    os.setsid()
    while True:
        writes()
"""
    landlock = flags == CONFINE
    assert attack(wrapped, text, flags) == ("PermissionError\n" if landlock else "written\n")
    if landlock:
        assert wrapped.listener.started()[1] >= 2


def test_the_message_of_the_steps_so_far_stands_there_and_is_not_the_codes(wrapped):
    wrapped.start(Plan(program("exit 3"), program("echo up; sleep 1000")))
    wrapped.listener.wait(lambda frames: any(b"up" in frame.payload for frame in frames))
    message = wrapped.message()
    assert message.how == "unfinished" and [step.exit_code for step in message.steps] == [3]
    os.kill(wrapped.pid, signal.SIGKILL)
    wrapped.finish()
    assert wrapped.message() == message, "what the container's death leaves"


def test_frames_forged_by_the_code_are_not_of_the_attempt(wrapped):
    forged = wrapped.attempt.frame(ENDED, 1, bytes(14), key=b"guess")
    text = f"""
import socket
body = bytes.fromhex('{forged.hex()}')
path = '/attempts/{wrapped.attempt.task}/{wrapped.attempt.number}/frames'
head = 'POST %s HTTP/1.1\\r\\nContent-Length: %d\\r\\n\\r\\n' % (path, len(body))
with socket.create_connection(('127.0.0.1', {wrapped.listener.port})) as s:
    s.sendall(head.encode() + body)
    print(s.recv(100)[:12].decode())
"""
    assert attack(wrapped, text, CONFINE) == "HTTP/1.1 403\n" and wrapped.listener.bad == 1


def test_confined_the_code_writes_where_it_may_and_nowhere_else(wrapped):
    outside = wrapped.path("outside")
    os.mkdir(outside)
    os.chmod(outside, 0o777)
    text = f"""
import os
def tried(path):
    try:
        open(path, 'w').close()
        return 'written'
    except OSError as error:
        return type(error).__name__
print(*map(tried, ('f', '{wrapped.box}/tmp/f', '{wrapped.also}/f', '/dev/null', '/dev/stdout', '{outside}/f',
                   '/tmp/assay-wrap-test-f')))
os.mkdir('a')
os.mkdir('b')
open('a/x', 'w').close()
os.rename('a/x', 'b/x')
os.symlink('b', 'c')
os.truncate('f', 10)
print(open('/etc/hostname').read() != '', os.listdir('b'))
"""
    assert attack(wrapped, text, CONFINE) == "written " * 5 + "PermissionError PermissionError\nTrue ['x']\n"
    assert os.listdir(outside) == []


def test_hidden_the_plan_cannot_be_read_and_what_runs_can(wrapped):
    text = f"""
import os
def tried(path):
    try:
        return len(open(path, 'rb').read())
    except OSError as error:
        return type(error).__name__
open('f', 'w').write('four')
print(tried('{wrapped.path("secret/plan")}'), tried('f'), tried('/proc/self/stat') > 0, tried('/etc/passwd') > 0)
"""
    assert attack(wrapped, text, CONFINE | HIDE) == "PermissionError 4 True True\n"


def test_a_child_with_a_user_namespace_of_its_own_gets_no_further(wrapped):
    text = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
print(libc.unshare(0x10000000 | 0x00020000) in (0, -1))
try:
    print(open('/proc/1/environ').read())
except OSError as error:
    print(type(error).__name__)
"""
    assert attack(wrapped, text, 0) == "True\nPermissionError\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_code_that_fills_its_disk_is_told_so_and_leaves_room_for_the_next(wrapped):
    options = f"size=1m,mode=755,uid={UID},gid={UID}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "assay-disk", wrapped.box], check=True)
    try:
        wrapped.run(Plan(python("open('f', 'wb').write(bytes(2 << 20))"), program("echo next >f; cat f"), flags=CONFINE))
    finally:
        subprocess.run(["umount", "-l", wrapped.box], check=True)
    assert [step.reason for step in wrapped.listener.steps()] == ["disk_limit", "none"]
    assert wrapped.listener.output(1, 1) == b"next\n" and wrapped.listener.end().how == "complete"
