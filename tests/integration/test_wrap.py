"""assay-wrap as process 1 of a container, under the same user id as the code that it runs: steps, limits, reports, and a
listener that fails in every way. What it reports is judged by the signed frames that the listener got and by the
termination message."""

import base64
import contextlib
import os
import signal
import socket
import subprocess
import threading
import time

import pytest

import servers
from service import PATIENCE
from wrapped import (ABORT, ASK, ASKS, ENDED, GO_ON, INHERIT, LOG, OUTPUT, OWN_USERS, PROGRESS, STARTED, STEP_ENDED, STOP, UID, WAIT, WRAP,
                     Channel, Listener, Plan, Wrapped, gate, program, python)

SLEEP = "sleep 1000"


def alone(wrapped):
    """Nobody of this user id lives any more."""
    return not [name for name in os.listdir("/proc") if name.isdigit() and owner(name) == UID and state(name) not in "ZX"]


def owner(pid):
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None


def state(pid):
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().decode(errors="replace").rpartition(") ")[2][0]
    except OSError:
        return "X"


def one_step(wrapped):
    """The only step that ended, the same in every report."""
    end, message, steps = wrapped.listener.end(), wrapped.message(), wrapped.listener.steps()
    assert len(steps) == 1 and end.steps == steps and message.steps == steps and message.how == end.how
    return steps[0]


# ---- what was there before ----


def test_what_was_in_the_box_is_not_ours_to_remove(wrapped):
    kept = os.path.join(wrapped.box, "kept")
    with open(kept, "w", encoding="ascii") as file:
        file.write("mine")
    wrapped.run(Plan(program("echo ran")))
    assert wrapped.listener.end().how == "failed" and "not empty" in wrapped.listener.end().message
    assert STARTED not in wrapped.listener.kinds()
    with open(kept, encoding="ascii") as file:
        assert file.read() == "mine"


def test_what_was_in_another_directory_stays_there(wrapped):
    kept = os.path.join(wrapped.also, "kept")
    with open(kept, "w", encoding="ascii") as file:
        file.write("mine")
    assert wrapped.run(Plan(program(f"cat {kept}"), program(f"cat {kept}"))) == 0
    assert [step.reason for step in wrapped.listener.steps()] == ["none", "none"]
    with open(kept, encoding="ascii") as file:
        assert file.read() == "mine"


# ---- how a program ends ----


def test_success_is_reported_in_order_and_by_both_ways(wrapped):
    before = time.time()
    assert wrapped.run(Plan(program("echo out; echo err >&2"))) == 0
    step = one_step(wrapped)
    assert (step.reason, step.exit_code, step.signal, step.compile, step.run) == ("none", 0, 0, False, 0)
    assert wrapped.listener.end().how == "complete" and before - 1 < wrapped.listener.end().at < time.time() + 1
    kinds = wrapped.listener.kinds()
    assert kinds[0] == STARTED and kinds[-2:] == [STEP_ENDED, ENDED] and set(kinds[1:-2]) == {OUTPUT}
    assert [frame.sequence for frame in wrapped.listener.frames] == list(range(1, len(kinds) + 1))
    assert wrapped.listener.output(1) == b"out\n" and wrapped.listener.output(2) == b"err\n"
    assert wrapped.out == b"", "without PLAN_LOG the pod's log stays empty"


@pytest.mark.parametrize("text, status, reason, code, number", [
    ("exit 7", 7, "exit_code", 7, 0),
    ("exit 255", 255, "exit_code", 255, 0),
    ("kill -SEGV $$", 128 + 11, "signal", None, 11),
    ("kill -TERM $$", 128 + 15, "signal", None, 15),
    ("kill -KILL $$", 128 + 9, "signal", None, 9),
])
def test_the_own_status_is_told_and_exited_with(wrapped, text, status, reason, code, number):
    assert wrapped.run(Plan(program(text))) == status
    step = one_step(wrapped)
    assert (step.reason, step.exit_code, step.signal) == (reason, code, number)


@pytest.mark.parametrize("words, status, said", [
    (["no-such-program"], 127, b"cannot run no-such-program: "),
    (["/etc/passwd"], 126, b"cannot run /etc/passwd: Permission denied\n"),
    (["/no/such/program"], 127, b"cannot run /no/such/program: "),
])
def test_what_cannot_be_executed_ends_as_in_a_shell(wrapped, words, status, said):
    assert wrapped.run(Plan(words)) == status
    assert one_step(wrapped).exit_code == status and wrapped.listener.output(2).startswith(said)


def test_usage_is_that_of_the_step(wrapped):
    busy = ("import time\nend = time.process_time() + .3\nheld = b'x' * (80 << 20)\n"
            "while time.process_time() < end: pass")
    assert wrapped.run(Plan(python(busy), python("import time; time.sleep(.2)"))) == 0
    first, second = wrapped.listener.steps()
    assert first.cpu > .3 and first.memory > 80 << 20 and first.wall > .3
    # The first run's usage is not counted again.
    assert second.cpu < first.cpu and second.memory < 60 << 20 and second.wall > .2


def test_a_timeout_kills_child_and_grandchild(wrapped):
    assert wrapped.run(Plan(program(f"echo before; (setsid {SLEEP} & {SLEEP})"), timeout=5)) == 128 + 9
    step = one_step(wrapped)
    assert step.reason == "timeout" and 5 <= step.wall
    assert wrapped.listener.output() == b"before\n" and alone(wrapped)


def test_the_total_time_ends_the_run_in_progress_and_those_after_it(wrapped):
    wrapped.run(Plan(program("true"), program("echo second; " + SLEEP), program("true; " + SLEEP), total=5))
    assert [step.reason for step in wrapped.listener.steps()] == ["none", "timeout", "timeout"]
    assert wrapped.listener.output(run=1) == b"second\n"


# ---- what goes in ----


def test_stdin_words_environment_and_files(wrapped):
    text = ('cat; printf "%s|" "$@"; echo "$NAME"; cat sub/dir/f; ./tool; pwd; env | grep -c ASSAY; '
            "ls /proc/self/fd | wc -l")
    stdin = bytes(range(256)) * 1000
    run = {"words": ["/bin/sh", "-c", text, "sh", "a b", "", "ü"], "stdin": stdin, "files": [("sub/dir/f", "run's\n")]}
    plan = Plan(run, files=[("sub/dir/f", "job's\n"), ("tool", "#!/bin/sh\necho tool\n")],
                env=["NAME=value of it", "PATH=/usr/bin:/bin"])
    wrapped.run(plan)
    assert wrapped.listener.output(1) == stdin + (
        f"a b||ü|value of it\nrun's\ntool\n{wrapped.box}/work\n0\n4\n").encode()  # 4: 0, 1, 2, and ls's own


def test_without_stdin_it_is_empty_and_the_environment_is_the_plans(wrapped):
    wrapped.run(Plan(program("cat; /usr/bin/env | sort"), env=["A=1", "PATH=/usr/bin"]), environment={"IMAGE": "yes"})
    assert wrapped.listener.output() == f"A=1\nPATH=/usr/bin\nPWD={wrapped.box}/work\n".encode()


def test_the_images_environment_is_inherited_where_wanted_but_for_ours(wrapped):
    wrapped.run(Plan(program("/usr/bin/env | sort"), env=["A=plan"], flags=INHERIT),
                environment={"A": "image", "IMAGE": "yes", "KUBERNETES_PORT": "tcp://10.0.0.1:443"})
    assert wrapped.listener.output() == f"A=plan\nIMAGE=yes\nPATH=/usr/bin:/bin\nPWD={wrapped.box}/work\n".encode()


def test_a_program_is_looked_up_in_the_plans_path(wrapped):
    plan = Plan(["tool", "x"], files=[("bin/tool", "#!/bin/sh\necho found $1\n")], env=["PATH=/nowhere:bin:/usr/bin"])
    assert wrapped.run(plan) == 0 and wrapped.listener.output() == b"found x\n"


# ---- steps ----


def test_a_compile_then_runs_each_with_a_clean_directory(wrapped):
    look = (f"ls; cat made kept; ls $HOME/ $TMPDIR/ {wrapped.also}; touch left $HOME/left $TMPDIR/left {wrapped.also}/left; "
            "echo changed >made; rm kept; ln -s / link; mkdir -p deep/er; chmod 0 deep")
    compile = ('cat source >made; echo kept >kept; echo "#!/bin/sh" >tool; chmod +x tool; touch $TMPDIR/scratch $HOME/cache; '
               "test ! -e left")
    plan = Plan(program(look), program(look), {"words": program(look), "files": [("made", "run's own\n")]},
                compile=program(compile), files=[("source", "the source\n")],
                env=[f"HOME={wrapped.box}/home", f"TMPDIR={wrapped.box}/tmp", "PATH=/usr/bin:/bin"])
    assert wrapped.run(plan) == 0
    assert [(step.compile, step.run, step.reason) for step in wrapped.listener.steps()] == [
        (True, 0, "none"), (False, 0, "none"), (False, 1, "none"), (False, 2, "none")]
    expected = (f"kept\nmade\nsource\ntool\n%s\nkept\n{wrapped.box}/home/:\ncache\n\n{wrapped.box}/tmp/:\n\n"
                f"{wrapped.also}:\n")
    seen = [sorted(wrapped.listener.output(1, run).split(b"\n")) for run in range(3)]
    for run, made in enumerate(("the source", "the source", "run's own")):
        assert seen[run] == sorted((expected % made).encode().split(b"\n")), run


def test_a_compile_with_one_run_leaves_everything_in_its_place(wrapped):
    plan = Plan(program("./tool; ls $TMPDIR; cat extra"), compile=program(
        "printf '#!/bin/sh\\necho compiled\\n' >tool; chmod +x tool; touch $TMPDIR/x; "
        f"rm -rf {wrapped.box}/home; ln -s / {wrapped.box}/home"),
        env=[f"TMPDIR={wrapped.box}/tmp", "PATH=/usr/bin:/bin"])
    plan.runs[0]["files"] = [("extra", "more\n")]
    assert wrapped.run(plan) == 0 and wrapped.listener.output() == b"compiled\nmore\n"


def test_a_failed_compile_is_the_last_step(wrapped):
    assert wrapped.run(Plan(program("echo never"), compile=program("echo why >&2; exit 2"))) == 2
    step = one_step(wrapped)
    assert (step.compile, step.reason, step.exit_code) == (True, "compile_error", 2)
    assert wrapped.listener.output(2, compile=True) == b"why\n" and wrapped.listener.output() == b""
    assert wrapped.listener.end().how == "complete"


def test_a_compile_that_leaves_too_much_is_a_disk_limit(wrapped):
    big = program("head -c 200000 /dev/zero >big")
    wrapped.run(Plan(program("true"), program("true"), compile=big, archive=100_000))
    assert one_step(wrapped).reason == "disk_limit"


def test_runs_without_a_compile_are_laid_out_anew_and_a_failed_one_is_not_the_last(wrapped):
    plan = Plan(program("cat f; echo x >f; exit 4"), program("cat f"), files=[("f", "as given\n")])
    assert wrapped.run(plan) == 0, "that of the last step"
    assert [step.reason for step in wrapped.listener.steps()] == ["exit_code", "none"]
    assert wrapped.listener.output(1, 0) == wrapped.listener.output(1, 1) == b"as given\n"


def test_as_many_steps_as_there_may_be_and_as_many_as_fit_into_the_message(wrapped):
    assert wrapped.run(Plan(*[["/bin/true"]] * 300)) == 0
    end, message = wrapped.listener.end(), wrapped.message()
    assert end.ended == message.ended == 300 and len(end.steps) == 300
    assert 100 < len(message.steps) < 300 and message.steps == end.steps[:len(message.steps)]
    assert message.how == "complete"


# ---- output ----


def test_streams_are_in_the_order_of_their_writing(wrapped):
    text = ("import fcntl, os, termios\nfor i in range(20):\n os.write(1 + i % 2, b'%d ' % i)\n"
            " while any(fcntl.ioctl(1 + i % 2, termios.FIONREAD, bytes(4))): pass")  # until it has been read
    wrapped.run(Plan(python(text)))
    assert b"".join(data for _, data in wrapped.listener.pieces()).split() == [b"%d" % i for i in range(20)]


@pytest.mark.parametrize("stream", [1, 2])
def test_more_than_the_limit_is_cut_to_the_byte_and_killed(wrapped, stream):
    text = f"import os\nos.write({3 - stream}, b'other')\nwhile True: os.write({stream}, b'0123456789')"
    assert wrapped.run(Plan(python(text), output=123_457)) == 128 + 9
    step = one_step(wrapped)
    assert step.reason == "output_limit" and step.truncated == (stream == 1, stream == 2)
    assert step.dropped == (False, False) and wrapped.listener.output(3 - stream) == b"other"
    assert wrapped.listener.output(stream) == (b"0123456789" * 12346)[:123_457]


def test_exactly_the_limit_is_no_fault(wrapped):
    assert wrapped.run(Plan(program("head -c 100000 /dev/zero; head -c 100000 /dev/zero >&2"), output=100_000)) == 0
    assert len(wrapped.listener.output(1)) == len(wrapped.listener.output(2)) == 100_000
    assert one_step(wrapped).truncated == (False, False)


HUNDRED = "import os\nline = bytes(range(250)) * 400\nfor i in range(1000):\n os.write(1, line)"


@pytest.mark.slow
def test_no_byte_of_100_mb_is_lost(wrapped):
    assert wrapped.run(Plan(python(HUNDRED), output=200_000_000)) == 0
    assert one_step(wrapped).dropped == (False, False) and wrapped.listener.output() == bytes(range(250)) * 400_000


@pytest.mark.slow
def test_of_100_mb_every_byte_up_to_the_bound_arrives_and_memory_stays_small(wrapped):
    plan = Plan(program("true"), python(HUNDRED), output=16 << 20)
    peaks = []
    wrapped.listener.answer = lambda frames: peaks.append(wrapped.peak()) or (GO_ON, 9)
    assert wrapped.run(plan) == 128 + 9
    assert wrapped.listener.output(1, 1) == (bytes(range(250)) * 400_000)[:16 << 20]
    assert wrapped.listener.steps()[1].reason == "output_limit" and max(peaks) < 2 << 20, max(peaks)


def test_the_pods_log_gets_the_output_where_it_is_wanted():
    with Wrapped(listening=False) as wrapped:
        assert wrapped.run(Plan(program("echo out; echo err >&2; head -c 300000 /dev/zero"), flags=LOG)) == 0
        assert wrapped.out == b"out\n" + bytes(300_000) and wrapped.err == b"err\n"
        assert wrapped.message().steps[0].reason == "none" and wrapped.message().steps[0].dropped == (False, False)


# ---- what a program leaves behind ----


def test_orphans_and_background_writers_are_gone_before_the_report(wrapped):
    writer = ("import os\nif os.fork() == 0:\n os.setsid()\n if os.fork() == 0:\n"
              "  while True:\n   os.write(1, b'x')\n   open('f', 'a').write('x')\n os._exit(0)")
    seen = []

    def answer(frames):
        if any(frame.kind == STEP_ENDED for frame in frames):
            seen.append(pids(wrapped))
        return GO_ON, 9
    wrapped.listener.answer = answer
    assert wrapped.run(Plan(python(writer), flags=0, output=16 << 20)) in (0, 137)
    assert seen and all(len(one) <= 1 for one in seen), "process 1 alone is left when a step's end is told"


def pids(wrapped):
    """All processes of the container, process 1 among them."""
    try:
        space = os.readlink(f"/proc/{wrapped.pid}/ns/pid")
    except OSError:
        return []
    found = []
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and os.readlink(f"/proc/{name}/ns/pid") == space:
                found.append(int(name))
        except OSError:
            pass
    return found


def test_a_program_ends_though_a_background_process_holds_its_output(wrapped):
    begin = time.monotonic()
    assert wrapped.run(Plan(program(f"{SLEEP} & echo done"))) == 0
    assert wrapped.listener.output() == b"done\n" and time.monotonic() - begin < PATIENCE / 2


def test_orphans_are_reaped_while_the_program_runs(wrapped):
    text = ("import os, time\nfor i in range(20):\n if os.fork() == 0:\n  os.fork() or time.sleep(.1)\n  os._exit(0)\n os.wait()\n"
            "end = time.time() + 20\n"
            "while time.time() < end and len([p for p in os.listdir('/proc') if p.isdigit()]) > 2: time.sleep(.01)\n"
            "print(sorted(int(p) for p in os.listdir('/proc') if p.isdigit()) == [1, os.getpid()])")
    assert wrapped.run(Plan(python(text))) == 0 and wrapped.listener.output() == b"True\n"


BOMB = "import os\nwhile True:\n try:\n  os.fork()\n except OSError: pass"
# For a bomb that nobody bounds, where its processes alone are counted: whoever ends it has to get a processor.
BOUNDED = "import resource\nresource.setrlimit(resource.RLIMIT_NPROC, (300, 300))\n" if os.geteuid() == 0 else ""
needs_own_users = pytest.mark.skipif(os.geteuid() != 0, reason="needs a user id of its own, whose processes are counted")


@needs_own_users
def test_a_fork_bomb_is_bounded_and_ends_with_its_time(wrapped):
    wrapped.run(Plan({"words": python(BOMB), "timeout": 1}, program("echo after"), flags=OWN_USERS, processes=50))
    assert [step.reason for step in wrapped.listener.steps()] == ["timeout", "none"]
    assert wrapped.listener.output(1, 1) == b"after\n" and alone(wrapped)


def forks(count, then):
    """Forks so many that stay, says how many it has had, and goes on."""
    return python("import os, signal, sys, threading\nhad = 0\ntry:\n"
                  f" for _ in range({count}):\n  if os.fork() == 0: signal.pause()\n  had += 1\n"
                  f"except OSError: pass\nprint(had, flush=True)\n{then}")


@needs_own_users
def test_where_the_kernel_counts_no_more_are_forked_than_may_be(wrapped):
    wrapped.run(Plan(forks(49, "sys.exit(0)"), forks(1000, "sys.exit(3)"), forks(1000, "sys.exit(0)"), forks(5, "sys.exit(3)"),
                     flags=OWN_USERS, processes=50))
    assert [step.reason for step in wrapped.listener.steps()] == ["none", "process_limit", "none", "exit_code"]
    assert [wrapped.listener.output(1, run) for run in range(4)] == [b"49\n", b"49\n", b"49\n", b"5\n"]


def test_a_step_that_is_seen_to_have_too_many_processes_is_killed(wrapped):
    wrapped.run(Plan(forks(49, "sys.exit(3)"), forks(50, "signal.pause()"), python(BOUNDED + BOMB), program("echo after"),
                     processes=50))
    steps = wrapped.listener.steps()
    assert [step.reason for step in steps] == ["exit_code", "process_limit", "process_limit", "none"]
    # It has all of them before it says so.
    assert steps[1].signal == signal.SIGKILL and wrapped.listener.output(1, 1) in (b"", b"50\n")
    assert wrapped.listener.output(1, 3) == b"after\n" and alone(wrapped)


def test_threads_count_as_processes_and_what_is_left_at_the_end_too(wrapped):
    threads = python("import threading\nfor _ in range(50): threading.Thread(target=threading.Event().wait).start()")
    wrapped.run(Plan(threads, forks(50, "sys.exit(3)"), forks(50, "sys.exit(0)"), processes=50))
    reasons = [step.reason for step in wrapped.listener.steps()]
    # The last two may have been seen, and killed, before they ended by themselves.
    assert reasons[:2] == ["process_limit", "process_limit"] and reasons[2] in ("none", "process_limit")
    assert [step.exit_code for step in wrapped.listener.steps()][0] is None


# ---- told to end ----


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGRTMIN + 3])
def test_a_signal_from_outside_is_forwarded_and_the_end_is_told(wrapped, number):
    # Waited for with the signal blocked: a handler could run just before the process goes to sleep.
    text = (f"import os, signal, sys\nsignal.pthread_sigmask(signal.SIG_BLOCK, [{int(number)}])\nos.write(1, b'up\\n')\n"
            f"signal.sigwait([{int(number)}])\nos.write(1, b'bye\\n')\nsys.exit(5)")
    wrapped.start(Plan(python(text), program("echo never"), grace=PATIENCE))
    wrapped.listener.wait(lambda frames: any(b"up" in frame.payload for frame in frames))
    os.kill(wrapped.pid, number)
    assert wrapped.finish() == 5
    assert one_step(wrapped).reason == "stopped" and wrapped.listener.end().how == "terminated"
    assert wrapped.listener.output() == b"up\nbye\n"


def test_what_ignores_sigterm_is_killed_after_the_grace(wrapped):
    wrapped.start(Plan(program(f"trap '' TERM; echo up; {SLEEP} & wait; {SLEEP}"), grace=.3))
    wrapped.listener.wait(lambda frames: any(b"up" in frame.payload for frame in frames))
    os.kill(wrapped.pid, signal.SIGTERM)
    assert wrapped.finish() == 128 + 9
    message = wrapped.message()  # it does not stay long for the listener
    assert [step.reason for step in message.steps] == ["stopped"] and message.how == "terminated"


# ---- the listener's word ----


def test_between_runs_the_listener_is_asked_and_says_go_on_or_stop(wrapped):
    def answer(frames):
        asked = [frame for frame in frames if frame.kind == ASK]
        if not asked:
            return WAIT, 0
        run = int.from_bytes(asked[-1].payload, "big")
        return (GO_ON, run + 1) if run < 3 else (STOP, 0)
    wrapped.listener.answer = answer
    assert wrapped.run(Plan(*[program("echo run")] * 6, flags=ASKS)) == 0
    assert len(wrapped.listener.steps()) == 3 and wrapped.listener.end().how == "stopped"


def test_a_listener_that_says_wait_is_asked_again(wrapped):
    asked = []

    def answer(frames):
        asked.extend(frame for frame in frames if frame.kind == ASK)
        return (GO_ON, 2) if len(asked) > 3 else (WAIT, 0)
    wrapped.listener.answer = answer
    assert wrapped.run(Plan(program("true"), program("true"), flags=ASKS)) == 0
    assert len(wrapped.listener.steps()) == 2 and len(asked) == 4


def test_who_said_go_on_ahead_is_not_asked(wrapped):
    wrapped.listener.answer = lambda frames: (GO_ON, 3)
    wrapped.start(Plan(program("mkfifo gate; echo up; read x <gate"), program("true"), program("true"), flags=ASKS))
    wrapped.listener.wait(lambda frames: wrapped.listener.answered and any(b"up" in frame.payload for frame in frames))
    gate(wrapped)
    assert wrapped.finish() == 0
    assert len(wrapped.listener.steps()) == 3 and wrapped.listener.kinds().count(ASK) == 0


def test_a_listener_that_is_away_when_asked_is_given_up(wrapped):
    wrapped.listener.answer = lambda frames: wrapped.listener.close() or (WAIT, 0)
    wrapped.run(Plan(program("true"), program("true"), flags=ASKS, patience=.6))
    assert wrapped.message().how == "unanswered" and len(wrapped.message().steps) == 1


def test_abort_ends_what_runs(wrapped):
    wrapped.listener.answer = lambda frames: (ABORT, 0)
    assert wrapped.run(Plan(program(SLEEP), program("true"))) == 128 + 9
    assert one_step(wrapped).reason == "stopped" and wrapped.listener.end().how == "stopped"


# ---- a listener that fails ----


@pytest.mark.parametrize("where", list(range(0, 40, 7)) + [120, 190, 200, 260, 300, 350, 400])
def test_a_connection_cut_at_any_byte_loses_and_repeats_nothing(wrapped, where):
    wrapped.listener.cuts = [where, where + 1, where + 90, where]
    assert wrapped.run(Plan(program("echo one; echo two >&2"), program("echo three"))) == 0
    assert wrapped.listener.connections > 4 and wrapped.listener.bad == 0
    assert wrapped.listener.output(1) == b"one\n" and wrapped.listener.output(2) == b"two\n"
    assert wrapped.listener.output(1, 1) == b"three\n"
    assert wrapped.listener.end().steps == wrapped.listener.steps() and len(wrapped.listener.steps()) == 2


def test_frames_are_sent_again_until_they_are_answered_for(wrapped):
    wrapped.listener.lost = 4
    assert wrapped.run(Plan(program("echo one"), program("echo two"))) == 0
    assert wrapped.listener.repeated >= 4 and len(wrapped.listener.steps()) == 2
    assert wrapped.listener.output(1, 0) == b"one\n" and wrapped.listener.output(1, 1) == b"two\n"


def test_refusals_are_tried_again(wrapped):
    wrapped.listener.refused = 3
    assert wrapped.run(Plan(program("echo one"))) == 0
    assert wrapped.listener.output() == b"one\n" and wrapped.listener.connections == 4


def test_a_listener_that_comes_late_gets_everything(wrapped):
    port = wrapped.listener.port
    wrapped.listener.close()
    wrapped.start(Plan(program("echo one; echo two >&2; exit 6")))
    until(lambda: wrapped.message() and wrapped.message().how == "complete")
    wrapped.listener = Listener(wrapped.attempt, port)
    assert wrapped.finish() == 6
    assert wrapped.listener.output(1) == b"one\n" and wrapped.listener.output(2) == b"two\n"
    assert one_step(wrapped).exit_code == 6


def all_is_answered(wrapped, word):
    wrapped.listener.wait(lambda frames: any(word in frame.payload for frame in frames) and
                          wrapped.listener.answered == wrapped.listener.requests)


def test_who_has_heard_nothing_gets_everything_again(wrapped):
    wrapped.start(Plan(program("echo one; echo two >&2; exit 3"), program("mkfifo gate; echo up; read x <gate; echo down")))
    all_is_answered(wrapped, b"up")
    former = wrapped.listener.begin_anew()
    gate(wrapped)
    assert wrapped.finish() == 0
    assert wrapped.listener.frames[:len(former)] == former and wrapped.listener.frames[0].sequence == 1
    assert wrapped.listener.output(1, 0) == b"one\n" and wrapped.listener.output(1, 1) == b"up\ndown\n"
    assert wrapped.listener.end().steps == wrapped.listener.steps() and len(wrapped.listener.steps()) == 2


def test_who_has_heard_nothing_is_told_from_where_on_it_is_kept(wrapped):
    text = "import os\nfor i in range(200): os.write(1, b'x' * 10000)\nos.mkfifo('gate')\nos.write(1, b'up')\nopen('gate').read()"
    wrapped.start(Plan(python(text), output=16 << 20))
    all_is_answered(wrapped, b"up")
    former = wrapped.listener.begin_anew()
    gate(wrapped)
    assert wrapped.finish() == 0
    kept = wrapped.listener.frames[0].sequence
    assert kept == wrapped.listener.kept > 1 and wrapped.listener.frames[:len(former) - kept + 1] == former[kept - 1:]
    assert sum(len(frame.payload) for frame in wrapped.listener.frames) > 500_000


@pytest.mark.parametrize("how", ["away", "misdirected"])
def test_the_second_address_is_for_when_the_first_fails(wrapped, how):
    wrapped.fallback = Listener(wrapped.attempt)
    wrapped.listener.misdirected = 1 << 30
    if how == "away":
        wrapped.listener.close()
    assert wrapped.run(Plan(program("echo one"), program("echo two"))) == 0
    assert wrapped.fallback.output(1, 0) == b"one\n" and wrapped.fallback.output(1, 1) == b"two\n"
    assert wrapped.fallback.end().how == "complete"


def test_the_first_address_is_tried_again(wrapped):
    wrapped.fallback = Listener(wrapped.attempt)
    wrapped.listener.refused, wrapped.fallback.misdirected = 1, 1 << 30
    assert wrapped.run(Plan(program("echo one"))) == 0
    assert wrapped.listener.output() == b"one\n" and wrapped.listener.end().how == "complete"


def until(condition):
    """Until it holds: what changes here gives no notice."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        threading.Event().wait(.01)


def test_a_listener_that_stays_away_is_given_up_and_the_message_tells_the_end(wrapped):
    wrapped.listener.close()
    begin = time.monotonic()
    assert wrapped.run(Plan(program("exit 6"), patience=.5)) == 6
    assert .5 <= time.monotonic() - begin
    assert wrapped.message().steps[0].exit_code == 6 and wrapped.message().how == "complete"


def left(wrapped):
    """The frames that it left in the pod's log."""
    lines = wrapped.out.splitlines()
    assert all(line.startswith(b"assay1 ") for line in lines), wrapped.out
    return wrapped.attempt.read(b"".join(base64.b64decode(line[7:], validate=True) for line in lines))


def test_what_the_listener_did_not_take_is_left_in_the_pods_log(wrapped):
    wrapped.listener.close()
    assert wrapped.run(Plan(program("echo out; echo err >&2; exit 6"), patience=.1)) == 6
    frames = left(wrapped)
    assert [frame.sequence for frame in frames] == list(range(1, len(frames) + 1))
    assert (frames[0].kind, frames[-2].kind, frames[-1].kind) == (STARTED, STEP_ENDED, ENDED)
    outputs = {frame.payload[1]: frame.payload[14:] for frame in frames if frame.kind == OUTPUT}
    assert outputs == {1: b"out\n", 2: b"err\n"}


def test_what_the_listener_took_is_left_there_too_as_far_as_it_was_kept(wrapped):
    wrapped.start(Plan(program("mkfifo gate; echo one; read on < gate; echo two"), patience=.1))
    wrapped.listener.wait(lambda frames: any(frame.kind == OUTPUT for frame in frames))
    with wrapped.listener.news:
        assert wrapped.listener.news.wait_for(lambda: wrapped.listener.answered == wrapped.listener.requests, PATIENCE)
        wrapped.listener.close()
    gate(wrapped)
    assert wrapped.finish() == 0
    frames = left(wrapped)
    assert [frame.sequence for frame in frames] == list(range(1, len(frames) + 1)) and frames[-1].kind == ENDED
    assert [frame.payload[14:] for frame in frames if frame.kind == OUTPUT] == [b"one\n", b"two\n"]


# ---- progress ----


WAITS = "mkfifo gate; echo up; read on <gate; echo down"


def told(wrapped, count):
    """Waits for so much progress; what came up to then."""
    wrapped.listener.wait(lambda frames: len(wrapped.listener.progress) >= count)
    return list(wrapped.listener.progress)


def test_progress_comes_while_a_step_is_silent(wrapped):
    wrapped.start(Plan(program(WAITS), compile=program(WAITS), progress=.02))
    of_compile = told(wrapped, 3)
    gate(wrapped)
    wrapped.listener.wait(lambda frames: any(frame.kind == STEP_ENDED for frame in frames))
    before = len(wrapped.listener.progress)
    of_run = told(wrapped, before + 3)[before:]
    gate(wrapped)
    assert wrapped.finish() == 0
    assert all(one.compile for one in of_compile) and not any(one.compile or one.run for one in of_run)
    for seen in of_compile, of_run:
        assert all(a.wall < b.wall for a, b in zip(seen, seen[1:], strict=False)) and seen[0].wall > 0
        assert all(one.cpu >= 0 and one.memory >= -1 for one in seen) and seen[0].after > 0
    assert wrapped.listener.output() == b"up\ndown\n" and wrapped.listener.repeated == 0


def test_the_processor_time_of_what_still_runs_is_told(wrapped):
    wrapped.start(Plan(python("import os\nos.mkfifo('gate')\ng = os.open('gate', os.O_RDONLY | os.O_NONBLOCK)\n"
                              "while not os.read(g, 1): pass"), progress=.02))
    wrapped.listener.wait(lambda frames: any(one.cpu > .1 for one in wrapped.listener.progress))
    gate(wrapped)
    assert wrapped.finish() in (0, 1)


CGROUPS = {
    "v2": ("cpu.stat", "usage_usec {}\nuser_usec 1\n", 10 ** 6, {"cgroup.type": "domain\n", "memory.current": "123456\n"}),
    "v1": ("cpuacct/cpuacct.usage", "{}\n", 10 ** 9, {"memory/memory.usage_in_bytes": "123456\n"}),
}


@pytest.mark.parametrize("version", CGROUPS)
def test_progress_tells_what_the_containers_cgroup_says(wrapped, version):
    usage, text, unit, others = CGROUPS[version]
    root = wrapped.cgroup({usage: text.format(5 * unit), **others})
    wrapped.start(Plan(program(WAITS), progress=.02))
    told(wrapped, 1)
    with open(os.path.join(root, "new"), "w", encoding="ascii") as file:
        file.write(text.format(int(7.5 * unit)))
    os.rename(os.path.join(root, "new"), os.path.join(root, usage))
    wrapped.listener.wait(lambda frames: wrapped.listener.progress[-1].cpu == 2.5)
    gate(wrapped)
    assert wrapped.finish() == 0
    seen = [(one.cpu, one.memory) for one in wrapped.listener.progress]
    assert seen[0] == (0, 123456) and set(seen) == {(0, 123456), (2.5, 123456)}


@pytest.mark.parametrize("files", [
    {"cpu.stat": "usage_usec 5000000000\n"},
    {"cpuacct/cpuacct.usage": "5000000000000\n", "cpuacct/release_agent": "\n", "memory/memory.usage_in_bytes": "1\n",
     "memory/release_agent": "\n"}], ids=["v2", "v1"])
def test_what_the_machine_uses_is_not_the_containers(wrapped, files):
    wrapped.cgroup(files)
    wrapped.start(Plan(program(WAITS), progress=.02))
    seen = told(wrapped, 2)
    gate(wrapped)
    assert wrapped.finish() == 0 and all(one.memory == -1 and one.cpu < 1000 for one in seen)


@pytest.mark.parametrize("events", ["pids.events", "pids/pids.events"])
def test_forks_that_the_container_was_refused_are_a_process_limit_where_the_step_failed(wrapped, events):
    wrapped.cgroup({events: "max 7\n"})
    wrapped.run(Plan(program("exit 3"), program(f"echo max 8 >/sys/fs/cgroup/{events}; exit 3"),
                     program(f"echo max 9 >/sys/fs/cgroup/{events}")))
    assert [step.reason for step in wrapped.listener.steps()] == ["exit_code", "process_limit", "none"]


def test_without_an_interval_there_is_none(wrapped):
    wrapped.start(Plan(program(WAITS)))
    all_is_answered(wrapped, b"up")
    gate(wrapped)
    assert wrapped.finish() == 0 and not wrapped.listener.progress


def test_progress_disturbs_no_output_and_waits_for_no_pause_in_it(wrapped):
    # It goes on, less fast, until progress has come, however late that is.
    text = ("import os, select\nos.mkfifo('gate')\ngate = os.open('gate', os.O_RDWR)\ni = 0\n"
            "while i < 8000 or not select.select([gate], [], [], .001)[0]:\n os.write(1 + i % 2, b'%d\\n' % i)\n i += 1")
    wrapped.listener.cuts = [30000, 3000, 70000]
    wrapped.start(Plan(python(text), output=16 << 20, progress=.01))
    wrapped.listener.wait(lambda frames: any(one.after > 1 for one in wrapped.listener.progress))
    gate(wrapped)
    assert wrapped.finish() == 0
    lines = b"".join(data for _, data in wrapped.listener.pieces()).split()
    assert sorted(lines, key=int) == [b"%d" % i for i in range(len(lines))] and len(lines) >= 8000
    for stream in 1, 2:
        own = wrapped.listener.output(stream).split()
        assert own == sorted(own, key=int)
    assert one_step(wrapped).dropped == (False, False) and wrapped.listener.bad == 0
    assert [frame.kind for frame in wrapped.listener.frames].count(OUTPUT) > 1
    walls = [one.wall for one in wrapped.listener.progress]
    assert walls == sorted(walls)


def test_progress_whose_answer_is_lost_is_not_sent_again(wrapped):
    wrapped.start(Plan(program(WAITS), progress=.02))
    all_is_answered(wrapped, b"up")
    wrapped.listener.lost = 2
    seen = told(wrapped, len(wrapped.listener.progress) + 5)
    gate(wrapped)
    assert wrapped.finish() == 0 and wrapped.listener.repeated == 0
    assert all(a.wall < b.wall for a, b in zip(seen, seen[1:], strict=False))
    assert wrapped.listener.output() == b"up\ndown\n"


def test_the_answer_to_progress_brings_a_command(wrapped):
    aborted = threading.Event()

    def answer(frames):
        if not frames:  # what came beside them has none
            aborted.set()
        return (ABORT, 0) if aborted.is_set() else (GO_ON, 9)
    wrapped.listener.answer = answer
    assert wrapped.run(Plan(program(f"echo up; {SLEEP}"), program("true"), progress=.02)) == 128 + 9
    assert one_step(wrapped).reason == "stopped" and wrapped.listener.end().how == "stopped"


def test_by_its_progress_who_has_heard_nothing_gets_everything_again(wrapped):
    wrapped.start(Plan(program(WAITS), progress=.02))
    all_is_answered(wrapped, b"up")
    former = wrapped.listener.begin_anew()
    wrapped.listener.wait(lambda frames: len(frames) >= len(former))
    gate(wrapped)
    assert wrapped.finish() == 0 and wrapped.listener.frames[:len(former)] == former
    assert wrapped.listener.output() == b"up\ndown\n"


def test_progress_is_not_left_in_the_pods_log(wrapped):
    wrapped.start(Plan(program(WAITS), patience=.1, progress=.02))
    told(wrapped, 2)
    wrapped.listener.close()
    gate(wrapped)
    assert wrapped.finish() == 0
    frames = left(wrapped)
    assert [frame.sequence for frame in frames] == list(range(1, len(frames) + 1)) and frames[-1].kind == ENDED


def test_progress_before_the_listener_is_there_is_forgotten(wrapped):
    port = wrapped.listener.port
    wrapped.listener.close()
    wrapped.start(Plan(program("mkfifo gate; exec 3<>gate; read on <&3"), progress=.01))
    until(lambda: os.path.exists(os.path.join(wrapped.box, "work", "gate")))
    wrapped.listener = Listener(wrapped.attempt, port)
    assert told(wrapped, 2)[0].after > 0
    gate(wrapped)
    assert wrapped.finish() == 0 and wrapped.listener.repeated == 0


@pytest.fixture
def on_a_channel(wrapped):
    """The listener is a Redis, where the wrapper may publish and nothing else."""
    wrapped.listener.close()
    with servers.Redis() as redis:
        redis.cli("ACL", "SETUSER", "wrapper", "on", ">word", "resetchannels", "&attempt", "+publish")
        wrapped.listener = Channel(wrapped.attempt, redis, "wrapper word")
        yield wrapped


def test_reports_go_over_a_redis(on_a_channel):
    on_a_channel.listener.listen()
    assert on_a_channel.run(Plan(program("echo err >&2; head -c 700000 /dev/zero; exit 3"))) == 3
    frames = on_a_channel.listener.frames()
    assert [frame.sequence for frame in frames] == list(range(1, len(frames) + 1))
    outputs = {1: b"", 2: b""}
    for frame in frames:
        if frame.kind == OUTPUT:
            outputs[frame.payload[1]] += frame.payload[14:]
    assert outputs == {1: bytes(700_000), 2: b"err\n"}
    assert on_a_channel.out == b"" and on_a_channel.message().steps[0].dropped == (False, False)


def test_progress_goes_over_a_redis(on_a_channel):
    on_a_channel.listener.listen()
    on_a_channel.start(Plan(program(WAITS), progress=.02))
    pubsub, seen = on_a_channel.listener.pubsub, []
    while [frame.kind for frame in seen].count(PROGRESS) < 2:
        seen += on_a_channel.attempt.read(pubsub.get_message(timeout=PATIENCE)["data"])
    gate(on_a_channel)
    assert on_a_channel.finish() == 0
    seen += on_a_channel.listener.frames()
    numbers = [frame.sequence for frame in seen if frame.kind != PROGRESS]
    assert numbers == list(range(1, len(numbers) + 1)) and not any(f.sequence for f in seen if f.kind == PROGRESS)
    outputs = [frame.payload[14:] for frame in seen if frame.kind == OUTPUT]
    assert b"".join(outputs) == b"up\ndown\n"


def test_what_nobody_hears_there_is_kept_until_somebody_does(on_a_channel):
    on_a_channel.start(Plan(program("echo out")))
    until(lambda: on_a_channel.message() and on_a_channel.message().how == "complete")
    on_a_channel.listener.listen()
    assert on_a_channel.finish() == 0
    frames = on_a_channel.listener.frames()
    assert frames[0].sequence == 1 and [frame.payload[14:] for frame in frames if frame.kind == OUTPUT] == [b"out\n"]


@pytest.mark.parametrize("login", ["wrapper wrong", "wrong", ""])
def test_a_redis_that_does_not_let_it_in_is_given_up(on_a_channel, login):
    on_a_channel.listener.listen()
    on_a_channel.listener.channel = ("attempt " + login).strip()
    assert on_a_channel.run(Plan(program("echo out"), patience=.3)) == 0
    assert [frame.payload[14:] for frame in left(on_a_channel) if frame.kind == OUTPUT] == [b"out\n"]


@pytest.mark.parametrize("how", ["away", "silent"])
def test_without_a_listener_output_beyond_the_queue_is_dropped_and_marked_and_the_code_runs_on(wrapped, how):
    port = wrapped.listener.port
    wrapped.listener.silent = True
    if how == "away":
        wrapped.listener.close()
    text = "import os\nfor i in range(400): os.write(1, b'x' * 10000)\nos.write(2, b'end')"
    wrapped.start(Plan(python(text), output=16 << 20, patience=PATIENCE))
    until(lambda: wrapped.message() and wrapped.message().how == "complete")
    assert wrapped.message().steps[0].reason == "none"
    wrapped.listener.close()
    wrapped.listener = Listener(wrapped.attempt, port)
    assert wrapped.finish() == 0
    step = one_step(wrapped)
    assert step.dropped[0] and step.truncated == (False, False) and 500_000 < len(wrapped.listener.output()) < 1 << 20


def test_a_slow_listener_gets_everything(wrapped):
    wrapped.listener.pause = .05
    assert wrapped.run(Plan(python("import os\nfor i in range(400): os.write(1, b'x' * 10000)"), output=16 << 20)) == 0
    assert one_step(wrapped).dropped == (False, False) and len(wrapped.listener.output()) == 4_000_000


def test_an_answer_that_is_not_signed_is_no_answer(wrapped):
    real, wrapped.attempt.key = wrapped.attempt.key, bytes(32)  # the listener's; the wrapper was given the real one
    wrapped.listener.attempt = wrapped.attempt
    frame = wrapped.attempt.frame
    wrapped.attempt.key = real
    wrapped.attempt.frame = lambda kind, sequence, payload: frame(kind, sequence, payload, key=bytes(32))
    wrapped.start(Plan(program(WAITS), patience=.4))
    wrapped.listener.wait(lambda frames: wrapped.listener.repeated > 0 and any(b"up" in frame.payload for frame in frames))
    gate(wrapped)
    assert wrapped.finish() == 0 and wrapped.message().how == "complete"


def test_it_does_not_keep_the_code_waiting_for_the_listener(wrapped):
    def answer(_):  # the first comes when all is over
        until(lambda: wrapped.message() and wrapped.message().how == "complete")
        return GO_ON, 9
    wrapped.listener.answer = answer
    assert wrapped.run(Plan(program("true"))) == 0
    assert one_step(wrapped).wall < 10, "it would have waited for 15"


# ---- the program itself ----


def test_it_refuses_to_be_anything_but_process_1(wrapped):
    done = subprocess.run([WRAP, "run", "--plan", "/x", "--termination", wrapped.termination], capture_output=True,
                          check=False)
    with open(wrapped.termination, encoding="ascii") as file:
        text = file.read()
    assert done.returncode == 125 and "not process 1" in text and wrapped.message() is None


@pytest.mark.parametrize("raw, said", [
    (b"", "Bad message"),
    (b"awplan1\n", "malformed"),
    (b"awplan1\n" + b"\xff" * 40, "malformed"),
    (b"\x1f\x8b\x08\x00" + b"\xff" * 40, "Bad message"),
    (b"something else altogether", "Bad message"),
])
def test_a_plan_that_is_none_is_said_in_the_message(wrapped, raw, said):
    assert wrapped.run(None, raw=raw) == 125
    with open(wrapped.termination, encoding="ascii") as file:
        assert said in file.read()


def test_a_plan_cut_off_anywhere_is_refused(wrapped):
    plan = Plan(program("true"), files=[("f", "text")], env=["A=1"])
    data = plan.encode(wrapped.attempt, [wrapped.listener.address], wrapped.box)
    for size in (*range(8, len(data), 11), len(data) - 8):
        assert wrapped.run(None, raw=data[:size]) == 125
    assert wrapped.listener.requests == 0


def test_it_copies_itself_for_an_init_container(tmp_path):
    subprocess.run([WRAP, "--install", tmp_path], check=True)
    other = tmp_path / "other"
    other.write_bytes(b"")
    os.symlink(other, tmp_path / "assay-wrap.new")
    subprocess.run([WRAP, "--install", tmp_path], check=True)  # over what is there, and what an earlier try left
    assert other.read_bytes() == b""
    other.unlink()
    assert os.listdir(tmp_path) == ["assay-wrap"] and os.stat(tmp_path / "assay-wrap").st_mode & 0o777 == 0o555
    with open(WRAP, "rb") as one, open(tmp_path / "assay-wrap", "rb") as other:
        assert one.read() == other.read()
    failed = subprocess.run([WRAP, "--install", "/no/such"], capture_output=True, check=False)
    assert failed.returncode == 1 and b"cannot install into /no/such" in failed.stderr
    assert subprocess.run([WRAP], capture_output=True, check=False).returncode == 2


def test_the_key_must_be_one(wrapped):
    assert wrapped.run(Plan(program("true")), environment={"ASSAY_WRAP_KEY": "12"}) == 125
    assert wrapped.message() is None and wrapped.listener.requests == 0


def test_a_box_that_is_not_there_is_told_as_a_failure_of_ours(wrapped):
    os.rmdir(wrapped.box)
    assert wrapped.run(Plan(program("true"))) == 125
    assert wrapped.message().how == "failed" and "the directory for the code" in wrapped.message().message
    assert wrapped.listener.end().how == "failed" and wrapped.listener.kinds() == [ENDED]


def test_idle_connections_may_be_closed_by_the_listener(wrapped):
    wrapped.start(Plan(program("mkfifo gate; echo up; read x <gate; echo down")))
    wrapped.listener.wait(lambda frames: wrapped.listener.answered and any(b"up" in frame.payload for frame in frames))
    for one in list(wrapped.listener.open):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
    gate(wrapped)
    assert wrapped.finish() == 0 and wrapped.listener.output() == b"up\ndown\n" and wrapped.listener.connections == 2


def test_the_listener_may_have_an_address_of_version_6(wrapped):
    wrapped.listener.close()
    wrapped.listener = Listener(wrapped.attempt, host="::1")
    assert wrapped.run(Plan(program("echo six"))) == 0 and wrapped.listener.output() == b"six\n"


@pytest.mark.parametrize("address", ["localhost:1", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "[::1",
                                     "::1:80", "[127.0.0.1]:80"])
def test_a_listener_without_an_address_is_a_failure_of_ours(wrapped, address):
    wrapped.listener.address = address
    assert wrapped.run(Plan(program("true"))) == 125
    assert wrapped.message().how == "failed" and "the listener's address" in wrapped.message().message
