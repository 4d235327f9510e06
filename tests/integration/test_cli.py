"""assay, the client, against a real service. Nothing here is timed: the tests wait for what must come."""

import hashlib
import json
import os
import pty
import select
import signal
import subprocess
import uuid

import pytest

from clients import patient_until
from service import BUILD, PATIENCE, Service, clean_environment

ASSAY = os.path.join(BUILD, "assay")


class Client:
    """Runs assay in a directory where files can be put."""

    def __init__(self, url, directory):
        self.directory = directory
        self.environment = clean_environment(ASSAY_URL=url, TERM="xterm")

    def put(self, name, text):
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return name

    def __call__(self, *arguments, given=b"", code=0, **environment):
        done = subprocess.run([ASSAY, *arguments], input=given, capture_output=True, timeout=PATIENCE, cwd=self.directory,
                              env={**self.environment, **environment}, check=False)
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return done

    def text(self, *arguments, **keywords):
        return self(*arguments, **keywords).stdout.decode()

    def json(self, *arguments, **keywords):
        return [json.loads(line) for line in self.text(*arguments, "--json", **keywords).splitlines()]

    def start(self, *arguments, **keywords):
        return subprocess.Popen([ASSAY, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=self.directory,
                                env=self.environment, **keywords)

    def on_terminal(self, *arguments, **environment):
        """Both streams on one terminal; all that was shown, and the exit code."""
        master, slave = pty.openpty()
        process = subprocess.Popen([ASSAY, *arguments], stdin=slave, stdout=slave, stderr=slave, cwd=self.directory,
                                   env={**self.environment, **environment})
        os.close(slave)
        shown = b""
        while True:
            assert select.select([master], [], [], PATIENCE)[0], shown
            try:
                piece = os.read(master, 65536)
            except OSError:  # EIO: nobody holds the other end any more
                piece = b""
            if not piece:
                break
            shown += piece
        os.close(master)
        return shown, process.wait(PATIENCE)


@pytest.fixture
def assay(service, tmp_path):
    return Client(service.url, tmp_path)


def submit_for_later(assay, *options):
    """The job of an evaluation that waits for an hour."""
    assay.put("later.py", "print('now')\n")
    return assay.text("submit", "later.py", "--run-after", "+1h", *options).strip()


# ---- submit ----


def test_streams_and_exit_code_are_the_programs(assay):
    assay.put("a.py", "import sys\nprint('out')\nprint('err', file=sys.stderr)\nsys.exit(3)\n")
    done = assay("submit", "--wait", "a.py", code=3)
    assert done.stdout == b"out\n"
    assert done.stderr.startswith(b"err\n")
    assert b"exit_code 3" in done.stderr


def test_success_adds_nothing_to_the_programs_output(assay):
    assay.put("a.py", "print('out')\n")
    done = assay("submit", "--wait", "a.py")
    assert (done.stdout, done.stderr) == (b"out\n", b"")


@pytest.mark.parametrize("how", ["--wait", "--follow"])
def test_output_is_bytes(assay, how):
    assay.put("a.py", "import os\nos.write(1, bytes(range(256)) * 3)\nos.write(2, b'\\xff\\x00')\n")
    done = assay("submit", how, "a.py")
    assert done.stdout == bytes(range(256)) * 3
    assert done.stderr == b"\xff\x00"


@pytest.mark.parametrize("program, options, code", [
    ("import os\nos.kill(os.getpid(), 11)\n", [], 139),
    ("while True:\n    pass\n", ["--timeout", "1"], 124),
    ("import sys\nsys.exit(255)\n", [], 255),
])
def test_exit_codes(assay, program, options, code):
    assay.put("a.py", program)
    assay("submit", "--wait", "a.py", *options, code=code)


def test_out_of_memory(assay):
    if "cgroup" not in json.dumps(assay.json("health")):
        pytest.skip("no cgroups here: running out of memory cannot be told")
    assay.put("a.py", "x = bytearray(1 << 30)\nfor i in range(0, len(x), 4096):\n    x[i] = 1\n")
    assay("submit", "--wait", "--memory", "64Mi", "a.py", code=137)


def test_c_and_its_compile_error(assay):
    assay.put("good.c", "#include <stdio.h>\nint main(void) { puts(\"from C\"); return 7; }\n")
    assert assay("submit", "--wait", "good.c", code=7).stdout == b"from C\n"
    assay.put("bad.c", "int main(void) { return nothing; }\n")
    done = assay("submit", "--wait", "bad.c", code=1)
    assert b"nothing" in done.stdout + done.stderr
    assert b"compile_error" in done.stderr


def test_javascript(assay):
    assay.put("a.js", "console.log(6 * 7)\n")
    assert assay("submit", "--wait", "a.js").stdout == b"42\n"


def test_standard_input_arguments_environment(assay):
    assay.put("a.py", "import os, sys\nprint(sys.stdin.read(), sys.argv[1:], os.environ['A'])\n")
    done = assay("submit", "--wait", "a.py", "--stdin", "-", "--arg", "one", "--arg=--two", "--env", "A=ä=b", given=b"given")
    assert done.stdout.decode() == "given ['one', '--two'] ä=b\n"


def test_code_from_standard_input(assay):
    assert assay("submit", "-w", "-", given=b"print('default')\n").stdout == b"default\n"
    assert assay("submit", "-w", "-", given=b"#!/bin/bash\necho shell\n").stdout == b"shell\n"
    assert assay("submit", "-w", "-l", "javascript", "-", given=b"console.log('js')\n").stdout == b"js\n"


def test_code_that_is_not_utf8(assay):
    assay.put("a.py", "# -*- coding: latin-1 -*-\nprint(ascii('ä'))\n".encode("latin-1"))
    assert assay("submit", "--wait", "a.py").stdout == b"'\\xe4'\n"


def test_a_directory(assay):
    assay.put("d/main.py", "from lib.greet import hello\nprint(hello(), open('data.bin', 'rb').read())\n")
    assay.put("d/lib/greet.py", "def hello():\n    return 'hello'\n")
    assay.put("d/data.bin", b"\xff\x00")
    assay.put("d/.git/config", "never sent")
    assay.put("d/other.py", "print('other')\n")
    assert assay("submit", "--wait", "d").stdout == b"hello b'\\xff\\x00'\n"
    assert assay("submit", "--wait", "d", "--entrypoint", "other.py").stdout == b"other\n"


def test_a_symbolic_link_is_refused(assay):
    assay.put("d/main.py", "print(1)\n")
    (assay.directory / "d/link").symlink_to("/etc/passwd")
    assert b"link is a symbolic link" in assay("submit", "d", code=66).stderr


def test_tests(assay):
    assay.put("add.py", "a, b = map(int, input().split())\nprint(a + b)\n")
    assay.put("tests.json", json.dumps([
        {"name": "small", "stdin": "1 2", "expected": "3"},
        {"name": "wrong", "stdin": "1 2", "expected": "4", "points": 2},
    ]))
    done = assay("submit", "--wait", "add.py", "--tests", "tests.json", code=1)
    shown = done.stderr.decode()
    assert "✓ small" in shown and "✗ wrong" in shown and "1 of 3 points, 1 of 2 tests" in shown
    result, = assay.json("submit", "--wait", "add.py", "--tests", "tests.json", code=1)
    assert [test["status"] for test in result["tests"]] == ["passed", "failed"]


def test_json_result_holds_the_output(assay):
    assay.put("a.py", "print('ä')\n")
    result, = assay.json("submit", "--wait", "a.py")
    assert result["status"] == "succeeded" and result["stdout"] == "ä\n" and result["stderr"] == ""


def test_an_eval_id_is_submitted_once(assay):
    name = str(uuid.uuid4())
    assay.put("a.py", "print(1)\n")
    job = assay.text("submit", "a.py", "--eval-id", name)
    assert assay.text("submit", "a.py", "--eval-id", name) == job
    assay.put("a.py", "print(2)\n")
    assert b"409" in assay("submit", "a.py", "--eval-id", name, code=65).stderr
    task, = assay.json("list", "--eval-id", name)
    assert task["job_name"] == job.strip()


def test_follow_shows_output_before_the_end(assay):
    name = str(uuid.uuid4())
    assay.put("a.py", "import time\nprint('first', flush=True)\ntime.sleep(600)\n")
    process = assay.start("submit", "--follow", "a.py", "--timeout", "10m", "--eval-id", name)
    assert process.stdout.readline() == b"first\n"
    task, = assay.json("list", "--eval-id", name)
    assert task["status"] == "running"
    assay("cancel", task["job_name"])
    assert process.wait(PATIENCE) == 125
    assert b"cancelled" in process.stderr.read()


def test_interrupting_the_wait_leaves_the_evaluation(assay):
    name = str(uuid.uuid4())
    assay.put("a.py", "import time\nprint('first', flush=True)\ntime.sleep(600)\n")
    process = assay.start("submit", "--follow", "a.py", "--timeout", "10m", "--eval-id", name)
    assert process.stdout.readline() == b"first\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 130
    task, = assay.json("list", "--eval-id", name)
    assert task["status"] == "running"
    assert f"assay logs -f {task['job_name']}".encode() in process.stderr.read()
    assay("cancel", task["job_name"])


# ---- batches ----


def test_a_batch(assay):
    assay.put("a.py", "print(1)\n")
    assay.put("b.py", "import sys\nsys.exit(4)\n")
    assay.put("c.sh", "echo shell\n")
    done = assay("submit", "--wait", "a.py", "b.py", "c.sh", code=1)
    lines = sorted(done.stdout.decode().splitlines())
    assert [line.split()[0] for line in lines] == ["a.py", "b.py", "c.sh"]
    assert "succeeded" in lines[0] and "exit_code 4" in lines[1] and "succeeded" in lines[2]
    assert "3 evaluations: 2 succeeded, 1 failed" in done.stderr.decode()
    results = assay.json("submit", "--wait", "a.py", "c.sh")
    assert {result["file"]: result["result"]["output"] for result in results} == {"a.py": "1\n", "c.sh": "shell\n"}


def test_a_batch_with_a_bad_item(assay):
    assay.put("a.py", "print(1)\n")
    assay.put("b.zig", "what")
    done = assay("submit", "--wait", "a.py", "b.zig", "--language", "nosuch", code=1)
    assert done.stderr.count(b"/language") == 2


def test_a_batch_not_waited_for(assay):
    assay.put("a.py", "print(1)\n")
    done = assay("submit", "a.py", "a.py", "--run-after", "+1h")
    jobs = [line.split()[0] for line in done.stdout.decode().splitlines()]
    batch = done.stderr.decode().split()[1].rstrip(":")
    assert sorted(task["job_name"] for task in assay.json("list", "--batch", batch)) == sorted(jobs)
    assay("cancel", "--batch", batch)
    kinds = [event["kind"] for event in read_events(assay, 4, "--batch", batch, "--since", "0")]
    assert sorted(kinds) == ["cancelled", "cancelled", "queued", "queued"]


# ---- tasks ----


def read_events(assay, count, *options):
    """The first events of a stream that does not end."""
    process = assay.start("events", "--json", *options)
    events = [json.loads(process.stdout.readline()) for _ in range(count)]
    process.terminate()
    assert process.wait(PATIENCE) == 130
    return events


def test_events_of_a_task(assay):
    assay.put("a.py", "print(1)\n")
    job = assay.text("submit", "a.py").strip()
    events = [event for event in assay.json("events", job) if "sequence" in event]
    assert [event["kind"] for event in events] == ["queued", "running", "completed"]
    assert [event["sequence"] for event in events] == [1, 2, 3]
    assert {event["job_name"] for event in events} == {job}
    shown = assay.text("events", job)
    assert [line.split()[1] for line in shown.splitlines() if " log " not in line] == ["queued", "running", "completed"]


def test_waiting_running_and_cancelling(assay):
    job = submit_for_later(assay)
    assert "queued" in assay.text("status", job)
    assert assay.text("why", job)
    assay("run", job)
    assert [event["kind"] for event in assay.json("events", job)][-1] == "completed"
    assert assay.text("logs", job) == "now\n"
    job = submit_for_later(assay)
    assert "CANCELLED" in assay.text("cancel", job)
    assert "cancelled" in assay.text("status", job)
    assert b"409" in assay("cancel", job, code=65).stderr


def test_forms_of_an_id(assay):
    job = submit_for_later(assay)
    status, = assay.json("status", job)
    task_id = status["task_id"]
    for form in (job, task_id, task_id[-8:], task_id.upper()):
        found, = assay.json("status", form)
        assert found["task_id"] == task_id
        assert assay.json("why", form)
    assay("cancel", task_id[-8:])


def test_logs(assay):
    assay.put("a.py", "import sys\nprint('one', flush=True)\nprint('two', file=sys.stderr, flush=True)\nprint('three')\n")
    job = assay.text("submit", "a.py").strip()
    shown = assay.text("logs", "-f", job)
    # What is in two pipes at once may be read in either order.
    assert sorted(shown.splitlines()) == ["one", "three", "two"]
    assert assay.text("logs", job) == shown
    assert assay.text("logs", job, "--offset", "4") == shown[4:]
    assert assay.text("logs", job, "--stream", "stderr") == "two\n"
    assert assay.text("logs", job, "--stream", "stdout", "--offset", "4") == "three\n"
    assert assay.json("logs", job)[0]["stderr"] == "two\n"
    assert b"404" in assay("logs", job, "--attempt", "9", code=66).stderr


def test_list_in_pages(assay):
    queue = "q" + uuid.uuid4().hex[:12]
    assay.put("a.py", "print(1)\n")
    assay("submit", *["a.py"] * 205, "--queue", queue, "--run-after", "+1h")
    assert len(assay.json("list", "--queue", queue)) == 20
    assert len(assay.json("list", "--queue", queue, "--limit", "3")) == 3
    tasks = assay.json("list", "--queue", queue, "--all")
    assert len({task["job_name"] for task in tasks}) == 205
    assert assay.json("list", "--queue", queue, "--status", "RUNNING") == []
    done = assay("list", "--queue", queue)
    assert len(done.stdout.splitlines()) == 21 and b"--all" in done.stderr


# ---- the service ----


def test_health_and_doctor(assay):
    assert "ready" in assay.text("health") or "degraded" in assay.text("health")
    shown = subprocess.run([ASSAY, "doctor"], capture_output=True, env=assay.environment, check=False, timeout=PATIENCE)
    assert shown.returncode in (0, 1)
    assert "✓" in shown.stdout.decode()


def test_no_service(tmp_path):
    nobody = Client("http://127.0.0.1:9", tmp_path)
    done = nobody("status", "eval-x", code=69)
    assert done.stderr == (b"assay: no service answers at http://127.0.0.1:9: start it with ./dev run, "
                           b"or name another with --url or ASSAY_URL\n")


def test_doctor_without_a_service_asks_assayd(tmp_path):
    nobody = Client("http://127.0.0.1:9", tmp_path)
    done = subprocess.run([ASSAY, "doctor"], capture_output=True, env=nobody.environment, check=False, timeout=PATIENCE)
    assert b"asking" in done.stderr and b"assayd" in done.stderr
    assert b"language python" in done.stdout and done.returncode in (0, 1), done


def test_where_the_service_is(assay, service):
    assay.environment = clean_environment()
    assay("health", ASSAY_URL=service.url, DISPATCHER_SERVICE_URL="http://127.0.0.1:9")
    assay("health", DISPATCHER_SERVICE_URL=service.url + "/")
    assay("health", "--url", service.url, ASSAY_URL="http://127.0.0.1:9")
    assay("--url", service.url, "health", ASSAY_URL="http://127.0.0.1:9")
    assay("health", ASSAY_URL=service.url + "/api")
    assert b"ASSAY_URL" in assay("health", ASSAY_URL="127.0.0.1:1", code=2).stderr


@pytest.mark.parametrize("arguments", [
    [], ["nosuch"], ["submit"], ["submit", "a", "--nosuch"], ["submit", "a", "--timeout", "soon"], ["status"], ["list", "x"],
    ["submit", "a", "--env", "novalue"], ["submit", "a", "--metadata", "{"], ["logs", "a", "--stream", "3"], ["cancel"],
    ["submit", "a", "b", "--follow"], ["submit", "a", "b", "--eval-id", "x"], ["submit", "-", "--stdin", "-"],
])
def test_usage_errors(assay, arguments):
    done = assay(*arguments, code=2)
    assert b"assay" in done.stderr or not arguments


COMMANDS = ("submit", "status", "logs", "list", "cancel", "run", "events", "why", "health", "doctor")


def test_help(assay):
    overview = assay.text("help")
    for line in overview.splitlines():
        words = line.split()
        if line.startswith("  ") and words[0] in COMMANDS:
            assert assay.text("help", words[0]) == assay.text(words[0], "--help")
    assert "124" in assay.text("help", "exit-codes")
    assert assay.text("version").startswith("assay ")


def test_a_refusal_names_the_fields(assay):
    assay.put("a.py", "print(1)\n")
    shown = assay("submit", "a.py", "--memory", "lots", "--timeout", "2h", code=65).stderr.decode()
    assert "(HTTP 422)" in shown and "/memory_limit: " in shown and "/timeout: " in shown


def test_the_token_comes_from_the_environment_only(assay):
    assay.put("token", "not a token at all\n")
    assert b"token holds a character" in assay("health", ASSAY_TOKEN_FILE="token", code=2).stderr
    assert b"cannot open" in assay("health", ASSAY_TOKEN_FILE="nowhere", code=2).stderr
    assert b"no option --token" in assay("health", "--token", "x", code=2).stderr


def test_tokens(tmp_path):
    lines = [f"{hashlib.sha256(role.encode()).hexdigest()} tenant {role}" for role in ("read", "submit")]
    (tmp_path / "tokens").write_text("\n".join(lines) + "\n")
    with Service(tmp_path, ASSAY_TOKENS_FILE=str(tmp_path / "tokens")) as service:
        assay = Client(service.url, tmp_path)
        assay.put("a.py", "print(1)\n")
        assert b"ASSAY_TOKEN" in assay("submit", "a.py", code=77).stderr
        assert b"401" in assay("list", code=77, ASSAY_TOKEN="wrong").stderr
        assert b"403" in assay("submit", "a.py", code=77, ASSAY_TOKEN="read").stderr
        assay.put("token", "submit\n")
        assert assay("submit", "--wait", "a.py", ASSAY_TOKEN_FILE="token").stdout == b"1\n"
        assay("list", ASSAY_TOKEN=" read ")


def test_a_reader_that_goes_away_ends_it(assay):
    assay.put("a.py", "print('x' * 70, flush=True)\n" + "import time\nfor _ in range(6000):\n    time.sleep(0.1)\n    print('y')\n")
    name = str(uuid.uuid4())
    process = assay.start("submit", "--follow", "a.py", "--timeout", "10m", "--env", "PYTHONUNBUFFERED=1", "--eval-id", name)
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(PATIENCE) == -signal.SIGPIPE
    task, = assay.json("list", "--eval-id", name)
    assay("cancel", task["job_name"])


def test_output_that_cannot_be_written(assay):
    assay.put("a.py", "print(1)\n")
    for command in (["help"], ["list"], ["submit", "--wait", "a.py"], ["submit", "--follow", "a.py"]):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([ASSAY, *command], stdout=full, stderr=subprocess.PIPE, timeout=PATIENCE,
                                  cwd=assay.directory, env=assay.environment, check=False)
        assert done.returncode == 74, command
        assert b"standard output cannot be written" in done.stderr


# ---- on a terminal ----

HOSTILE = "print('\\x1b]0;title\\x07\\x1b[31mred\\u202e')\n"


def test_a_terminal_is_shown_no_control_characters(assay):
    assay.put("a.py", HOSTILE)
    shown, code = assay.on_terminal("submit", "--wait", "a.py")
    assert code == 0
    assert b"\\x1b]0;title\\x07\\x1b[31mred\\u202e\r\n" in shown
    assert "✓".encode() in shown
    shown, _ = assay.on_terminal("submit", "--follow", "--raw", "a.py")
    assert b"\x1b]0;title\x07\x1b[31mred\xe2\x80\xae" in shown
    assert assay("submit", "--wait", "a.py").stdout == b"\x1b]0;title\x07\x1b[31mred\xe2\x80\xae\n"


def test_colours(assay):
    assay.put("a.py", "print(1)\n")
    shown, _ = assay.on_terminal("submit", "--wait", "a.py")
    assert b"\x1b[32m" in shown
    shown, _ = assay.on_terminal("submit", "--wait", "a.py", NO_COLOR="1")
    assert b"\x1b[" not in shown
    assert b"\x1b" not in assay("list").stdout


def test_the_progress_line_is_for_terminals(assay):
    assay.put("a.py", "import time\ntime.sleep(0.5)\n")
    shown, code = assay.on_terminal("submit", "--wait", "a.py", "a.py")
    assert code == 0
    assert b"[>                   ]  0/2" in shown
    assert b"2 evaluations: 2 succeeded, 0 failed" in shown
    done = assay("submit", "--wait", "a.py", "a.py")
    assert b"\r" not in done.stdout + done.stderr


# ---- the service goes away and comes back ----


@pytest.fixture
def mortal(tmp_path):
    """A service that the test may kill."""
    (tmp_path / "service").mkdir()
    with Service(tmp_path / "service") as running:
        yield running


SLOW = "import time\nprint('begin', flush=True)\ntime.sleep(8)\nprint('end')\n"


@pytest.mark.parametrize("command", [["submit", "--follow", "a.py"], ["submit", "--wait", "a.py"]])
def test_waiting_survives_kill_9(mortal, tmp_path, command):
    assay = Client(mortal.url, tmp_path)
    assay.put("a.py", SLOW)
    process = assay.start(*command)
    wait_for_output(assay)
    mortal.kill()
    mortal.start()
    output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    assert output.endswith(b"begin\nend\n")
    assert b"the connection was lost, trying again" in errors


def test_a_followed_log_survives_a_restart(mortal, tmp_path):
    assay = Client(mortal.url, tmp_path)
    assay.put("a.py", SLOW)
    job = assay.text("submit", "a.py").strip()
    process = assay.start("logs", "-f", job)
    assert process.stdout.readline() == b"begin\n"
    mortal.kill()
    mortal.start()
    output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    assert output.endswith(b"end\n")


def test_a_batch_survives_kill_9(mortal, tmp_path):
    assay = Client(mortal.url, tmp_path)
    assay.put("a.py", SLOW)
    process = assay.start("submit", "--wait", *["a.py"] * 5)
    wait_for_output(assay)
    mortal.kill()
    mortal.start()
    output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    assert len(output.splitlines()) == 5


def wait_for_output(assay):
    """Until the newest task has printed something."""
    patient_until(lambda: any(assay.text("logs", task["job_name"]) for task in assay.json("list")))
