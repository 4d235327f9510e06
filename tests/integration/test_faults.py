"""The disk is full, the file is damaged, the port is taken …: a clear message, and nothing lost.

Where root is needed (a file system of a given size, mounted where only the service sees it) and is not there, the test is skipped."""

import contextlib
import json
import fcntl
import os
import pathlib
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import threading

import pytest

import checker
import processes
from service import BUILD, LISTENING, PATIENCE, Service, clean_environment, follow

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
NOOP = ("--executors", "noop,sandbox")


def fails(service, *words, status=1):
    """It does not start: this exit status, and a message of one line with all these words, from its first line on."""
    service.launch()
    assert service.wait_end() == status, (service.process.returncode, service.text())
    said = service.text()
    assert "listening on" not in said and "ERROR: AddressSanitizer" not in said and "runtime error" not in said, said
    told = [line for line in said.splitlines() if line.startswith("assayd: ")]
    assert len(told) == 1, said
    for word in words:
        assert word in told[0], (word, told[0])
    return told[0]


def run_noops(service, count, prefix="eval"):
    """So many evaluations ended; their job names."""
    items = [{"executor": "noop", "code": "", "eval_id": f"{prefix}-{i}"} for i in range(count)]
    answer = service.call("POST", "/execute/batch", items)
    assert answer.status == 200, answer
    jobs = [result["job_name"] for result in answer.json["results"]]
    for job in jobs:
        service.wait_status(job, "succeeded")
    return jobs


# ---- the disk ----


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 6 MiB, mounted in a mount namespace of its own: (prefix of commands that see it, path, process id)."""
    path = tmp_path / "disk"
    path.mkdir()
    holder = subprocess.Popen(["unshare", "-m", "--propagation", "private", "sh", "-c",
                               f"mount -t tmpfs -o size=6m assay-test {path} && echo ready && exec cat"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        if holder.stdout.readline() != "ready\n":
            pytest.skip("no file system can be mounted here")
        yield path, holder.pid
    finally:
        holder.stdin.close()
        holder.stdout.close()
        holder.wait(PATIENCE)


def enter(pid):
    return ("nsenter", f"--mount=/proc/{pid}/ns/mnt", "--")


def fill(path):
    """Writes until the disk takes no more."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    with pytest.raises(OSError, match="No space left"):
        while True:
            os.write(file, bytes(4096))
    os.close(file)


@needs_root
def test_disk_full(services, small_disk, tmp_path):
    """Submissions are refused and to be tried again, what was accepted is there, and all goes on when there is room."""
    path, pid = small_disk
    service = services(*NOOP, "--retry-base", "1", "--heartbeat", "1", "--lease", "2", directory=path, prefix=enter(pid))
    inside = f"/proc/{pid}/root{path}"
    service.start()
    before = run_noops(service, 20, "before")
    slow = service.call("POST", "/execute", {"language": "bash", "code": "sleep 1; echo done"}).json["job_name"]
    filler = f"{inside}/filler"
    fill(filler)
    accepted, refused = [], None
    with service.http() as http:
        for i in range(2000):
            answer = http("POST", "/execute", {"executor": "noop", "code": "# " + "x" * 8000, "eval_id": f"full-{i}"})
            if answer.status == 503:
                refused = answer, f"full-{i}"
                break
            assert answer.status == 201, answer
            accepted.append(answer.json["job_name"])
        assert refused, service.text()
        answer, name = refused
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.headers["Content-Type"] == "application/problem+json"
        ready = http("GET", "/readyz")
        assert (ready.status, ready.json["status"], ready.json["degraded"]) == (503, "unavailable", ["store"])
        assert "disk is full" in ready.json["store"]["error"]
        assert http("GET", "/health").status == 200
        assert http("GET", f"/status/{before[0]}").json["phase"] == "succeeded"
    assert "disk is full" in service.text()
    os.unlink(filler)
    service.wait_line(r"store is away[\s\S]*store is available")
    for job in [*before, *accepted, slow]:
        service.wait_status(job, "succeeded")
    assert service.call("GET", "/readyz").status == 200
    again = service.call("POST", "/execute", {"executor": "noop", "code": "", "eval_id": name})
    assert again.status == 201, again  # what was refused is not there
    service.wait_status(again.json["job_name"], "succeeded")
    assert service.stop() == 0, service.text()
    book = checker.Book(shutil.copy(f"{inside}/data/assay.db", tmp_path / "copy.db"))
    assert not book.damage
    assert {task.eval_id for task in book.rows.values()} >= {f"before-{i}" for i in range(20)} | {name}
    assert not [fault for task in book.rows.values() for fault in checker.faults_of_history(task, book.events[task.id])]


@needs_root
def test_killed_while_the_disk_is_full(services, small_disk):
    path, pid = small_disk
    service = services(*NOOP, directory=path, prefix=enter(pid))
    inside = f"/proc/{pid}/root{path}"
    service.start()
    jobs = run_noops(service, 50)
    fill(f"{inside}/filler")
    service.kill()
    service.launch()
    # With no room for its log it may refuse to start, and says so; or it starts, and refuses work.
    ended = threading.Thread(target=service.process.wait)
    ended.start()
    try:
        service.wait_line(r"listening on|disk is full|disk fails|No space left")
    finally:
        if service.process.poll() is None:
            service.kill()
        ended.join()
    os.unlink(f"{inside}/filler")
    service.start()
    for job in jobs:
        service.wait_status(job, "succeeded")


@needs_root
def test_told_to_end_while_the_disk_is_full(services, small_disk):
    """What ended meanwhile cannot be written down: it is run again by the next start, and counts as a failure of ours."""
    path, pid = small_disk
    service = services("--executors", "sandbox,noop", "--drain", "10", directory=path, prefix=enter(pid)).start()
    inside = f"/proc/{pid}/root{path}"
    job = service.call("POST", "/execute", {"language": "bash", "code": "sleep 8; echo done"}).json["job_name"]
    service.wait_status(job, "running")
    fill(f"{inside}/filler")
    with service.http() as http:
        for i in range(2000):
            answer = http("POST", "/execute", {"executor": "noop", "code": "# " + "x" * 8000})
            if answer.status == 503:
                break
        assert answer.status == 503, answer
        batch = http("POST", "/execute/batch", [{"executor": "noop", "code": ""}])
        assert batch.status == 503 and int(batch.headers["Retry-After"]) > 0, batch
        cancel = http("POST", f"/tasks/{job}/cancel")
        assert cancel.status == 503, cancel
    assert service.stop() == 0, service.text()
    os.unlink(f"{inside}/filler")
    service.start()
    status = service.wait_status(job, "succeeded")
    assert (status["attempt"], status["attempts"]) == (2, 1), status
    assert service.call("GET", f"/logs/{job}").json["stdout"] == "done\n"


@needs_root
def test_disk_becomes_read_only(services, small_disk):
    path, pid = small_disk
    service = services(*NOOP, directory=path, prefix=enter(pid))
    service.start()
    jobs = run_noops(service, 5)
    remount = [*enter(pid), "mount", "-o"]
    # Files that are open for writing keep a mount from becoming read-only: the service is stopped first.
    assert service.stop() == 0
    subprocess.run([*remount, "remount,ro", str(path)], check=True)
    fails(service, "data", "ead-only")
    subprocess.run([*remount, "remount,rw", str(path)], check=True)
    service.start()
    for job in jobs:
        service.wait_status(job, "succeeded")


def test_data_directory_cannot_be_written(services):
    """For a service that is not root: root can write everywhere."""
    with tempfile.TemporaryDirectory() as folder:
        service = services(*NOOP, directory=pathlib.Path(folder))
        os.mkdir(service.data, 0o500)
        if os.geteuid() == 0:
            os.chmod(folder, 0o755)
            service.program = shutil.copy(service.program, folder)
            service.prefix = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
        fails(service, service.data, "ermission denied")


def test_data_directory_is_a_file(services):
    service = services(*NOOP)
    with open(service.data, "w", encoding="utf-8") as file:
        file.write("mine\n")
    fails(service, service.data)
    assert open(service.data, encoding="utf-8").read() == "mine\n"


def test_data_directory_cannot_be_made(services):
    service = services(*NOOP)
    service.data = "/proc/nothing/data"
    fails(service, "/proc/nothing")


# ---- the file ----


@pytest.fixture
def stopped(services):
    """A service with a database of a few hundred tasks, stopped; and its path."""
    service = services(*NOOP).start()
    run_noops(service, 300)
    assert service.stop() == 0
    path = os.path.join(service.data, "assay.db")
    # Of connections that close at the same moment none may be the last, which would have emptied the log into the file.
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    return service, path


def untouched(path, action):
    """The file is afterwards as it was."""
    before = open(path, "rb").read()
    action()
    assert open(path, "rb").read() == before


def test_garbage_in_place_of_the_header(stopped):
    service, path = stopped
    with open(path, "r+b") as file:
        file.write(b"garbage " * 12)
    untouched(path, lambda: fails(service, path, "damaged"))


def test_garbage_in_a_page(stopped):
    service, path = stopped
    with open(path, "r+b") as file:
        for page in range(1, os.path.getsize(path) // 4096, 3):
            file.seek(page * 4096)
            file.write(b"\xa5" * 4096)
    fails(service, path, "damaged")


def test_a_file_cut_short(stopped):
    service, path = stopped
    os.truncate(path, os.path.getsize(path) // 2 // 4096 * 4096)
    untouched(path, lambda: fails(service, path, "damaged"))


def test_a_newer_schema(stopped):
    service, path = stopped
    with sqlite3.connect(path) as database:
        version = database.execute("PRAGMA user_version").fetchone()[0]
        database.execute("PRAGMA user_version = 99")
    database.close()
    fails(service, path, "newer", "99")
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA user_version = {version}")
    database.close()
    service.start()
    assert service.call("GET", "/tasks?eval_id=eval-299").json["tasks"][0]["status"] == "succeeded"


def test_the_database_of_another_program(services):
    service = services(*NOOP)
    os.makedirs(service.data)
    path = os.path.join(service.data, "assay.db")
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE recipes (name TEXT)")
    database.close()
    untouched(path, lambda: fails(service, path, "another program"))


def test_a_page_damaged_while_it_serves(services):
    """What cannot be read is said; the process lives, and takes nothing that it could not keep."""
    service = services(*NOOP, "--sqlite-cache", "65536").start()
    run_noops(service, 300)
    assert service.stop() == 0
    path = os.path.join(service.data, "assay.db")
    with sqlite3.connect(path) as database:
        root = database.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'task_eval_id'").fetchone()[0]
    database.close()
    service.start()
    with open(path, "r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\xa5" * 4096)
    answer = None
    with service.http() as http:
        for i in range(200):
            answer = http("POST", "/execute", {"executor": "noop", "code": "", "eval_id": f"more-{i}"})
            if answer.status != 201:
                break
        assert answer.status in (500, 503), answer
        assert http("GET", "/health").status == 200
        assert http("GET", "/readyz").status == 503
    assert "damaged" in service.text()
    service.stop()
    assert "AddressSanitizer" not in service.text()
    fails(service, path, "damaged")


# ---- two of them ----


def test_two_daemons_on_one_data_directory(services):
    """The second goes away without having touched what the first runs."""
    first = services("--executors", "sandbox,noop").start()
    job = first.call("POST", "/execute", {"language": "bash", "code": "echo begun; sleep 600", "timeout": 900}).json["job_name"]
    first.wait_status(job, "running")
    second = Service(first.directory, "--executors", "sandbox,noop")
    told = fails(second, "another assayd", first.data)
    assert str(first.pid) in told
    status = first.call("GET", f"/status/{job}").json
    assert (status["phase"], status["attempt"]) == ("running", 1)
    assert first.call("POST", f"/tasks/{job}/cancel").status == 202
    assert first.wait_status(job, "cancelled")["attempt"] == 1
    # By another name of the same directory, and when the first has gone.
    os.symlink(first.data, os.path.join(first.directory, "other"))
    second.data = os.path.join(first.directory, "other")
    fails(second, "another assayd")
    first.kill()
    with second:
        assert second.call("GET", f"/status/{job}").json["phase"] == "cancelled"


def test_two_daemons_side_by_side(services):
    """With directories of their own they do not disturb each other: not at the start, not at the end."""
    first = services("--executors", "sandbox").start()
    job = first.call("POST", "/execute", {"language": "bash", "code": "echo begun; sleep 600", "timeout": 900}).json["job_name"]
    first.wait_status(job, "running")
    second = services("--executors", "sandbox").start()
    answer = second.call("POST", "/execute?wait=100", {"language": "bash", "code": "id -u"})
    assert answer.json["phase"] == "succeeded", answer
    second.kill()
    second.start()
    assert second.stop() == 0
    status = first.call("GET", f"/status/{job}").json
    assert (status["phase"], status["attempt"]) == ("running", 1)
    assert first.call("POST", f"/tasks/{job}/cancel").status == 202


def test_port_taken(services):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        service = services(*NOOP)
        service.listen = f"127.0.0.1:{taken.getsockname()[1]}"
        fails(service, service.listen, "in use")
    service.start()


# ---- settings ----


@pytest.mark.parametrize("flags, environment, words", [
    (["--no-such-flag"], {}, ["--no-such-flag"]),
    (["--drain", "soon"], {}, ["drain", "soon"]),
    (["--executors", "sandbox,mainframe"], {}, ["mainframe"]),
    (["--lease", "2", "--heartbeat", "2"], {}, ["lease", "heartbeat"]),
    (["serve"], {}, ["serve"]),
    ([], {"ASSAY_DRAIN": "soon"}, ["ASSAY_DRAIN", "soon"]),
    ([], {"ASSAY_CONFIG": "/no/such/file"}, ["/no/such/file"]),
    (["--tokens", "/no/such/file"], {}, ["/no/such/file"]),
])
def test_settings_that_are_wrong(services, flags, environment, words):
    service = services(*flags, **environment)
    service.launch()
    assert service.wait_end() in (1, 2), service.text()
    told = service.text().splitlines()
    assert len(told) == 1 and told[0].startswith("assayd: "), told
    for word in words:
        assert word in told[0], (word, told)
    assert not os.path.exists(service.data) or "tokens" in str(flags)


def test_a_setting_of_the_file_that_is_wrong(services, tmp_path):
    config = tmp_path / "assay.conf"
    config.write_text("drain = 5\ndrian = 6\n")
    service = services("--config", str(config))
    service.launch()
    assert service.wait_end() == 2, service.text()
    assert "drian" in service.text() and str(config) in service.text()


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0"])
def test_beyond_loopback_without_tokens(services, listen):
    service = services(*NOOP)
    service.listen = listen
    fails(service, "refusing to listen", "--tokens")
    assert not os.path.exists(service.data)


def test_beyond_loopback_in_so_many_words(services):
    service = services(*NOOP, "--authentication", "off")
    service.listen = "0.0.0.0:0"
    service.start()
    assert "authentication is off" in service.text()


@pytest.mark.parametrize("listen", ["nonsense", "127.0.0.1:99999", "127.0.0.1"])
def test_an_address_that_is_none(services, listen):
    service = services(*NOOP)
    service.listen = listen
    service.launch()
    assert service.wait_end() == 2, service.text()
    assert listen in service.text()


# ---- what code runs in is not there ----


def waits_for_its_executor(service, word):
    ready = service.call("GET", "/readyz")
    assert (ready.status, ready.json["status"], ready.json["degraded"]) == (200, "degraded", ["sandbox"]), ready
    sandbox, = [one for one in ready.json["executors"] if one["name"] == "sandbox"]
    assert sandbox["status"] == "unavailable"
    assert word in sandbox["detail"], sandbox
    answer = service.call("POST", "/execute", {"language": "bash", "code": "echo at last", "eval_id": "patient"})
    assert answer.status == 201, answer
    job = answer.json["job_name"]
    why = service.call("GET", f"/tasks/{job}/why").json
    assert why["reason"] == "executor_unhealthy", why
    assert word in json_text(why), why
    assert service.call("GET", f"/status/{job}").json["phase"] == "queued"
    assert word in service.text()
    return job


def json_text(value):
    return str(value)


def test_no_launcher(services, tmp_path):
    (tmp_path / "bin").mkdir()
    alone = shutil.copy(os.path.join(BUILD, "assayd"), tmp_path / "bin" / "assayd")
    service = services("--executors", "sandbox,noop", program=str(alone)).start()
    job = waits_for_its_executor(service, "assay-launch")
    assert service.stop() == 0, service.text()
    shutil.copy(os.path.join(BUILD, "assay-launch"), tmp_path / "bin" / "assay-launch")
    service.start()
    service.wait_status(job, "succeeded")
    assert service.call("GET", f"/logs/{job}").json["stdout"] == "at last\n"


@needs_root
def test_no_bubblewrap(services, tmp_path):
    """Hidden from the service by an empty file in its place, that cannot be executed."""
    nothing = tmp_path / "nothing"
    nothing.write_bytes(b"")
    places = [path for path in ("/usr/bin/bwrap", "/usr/local/bin/bwrap") if os.path.exists(path)]
    if not places:
        pytest.skip("there is no bubblewrap here")
    hide = " && ".join(f"mount --bind {nothing} {path}" for path in places)
    service = services("--executors", "sandbox,noop",
                       prefix=("unshare", "-m", "--propagation", "private", "sh", "-c", f'{hide} && exec "$@"', "sh"))
    service.start()
    job = waits_for_its_executor(service, "bubblewrap")
    noop = service.call("POST", "/execute?wait=100", {"executor": "noop", "code": ""})
    assert noop.json["phase"] == "succeeded", noop
    assert service.stop() == 0, service.text()
    service.prefix = ()
    service.start()
    service.wait_status(job, "succeeded")


def test_doctor_says_the_same(tmp_path):
    (tmp_path / "bin").mkdir()
    alone = shutil.copy(os.path.join(BUILD, "assayd"), tmp_path / "bin" / "assayd")
    done = subprocess.run([alone, "--data", str(tmp_path / "data"), "doctor"], capture_output=True, text=True, check=False,
                          timeout=PATIENCE, env=clean_environment(ASAN_OPTIONS="detect_leaks=0"))
    assert done.returncode == 1, done
    assert "assay-launch" in done.stdout and "→ install assay-launch beside assayd" in done.stdout


# ---- what runs is disturbed from outside ----


@needs_root
def test_a_sandbox_killed_from_outside(services):
    """That is no fault of the code: it is run again, and the failure is charged."""
    uid_base = processes.UID_BASE + 900
    service = services("--sandbox-uid-base", str(uid_base), "--sandbox-slots", "1", "--retry-base", "0.1").start()
    job = service.call("POST", "/execute", {"language": "bash", "code": "echo begun; sleep 600", "timeout": 900}).json["job_name"]
    for attempt in (1, 2, 3):
        status = service.wait_status(job, "running") if attempt == 1 else wait_attempt(service, job, attempt)
        assert (status["attempt"], status["attempts"]) == (attempt, attempt - 1), status
        # Stopped first, all of them: else one may tell how another ended before it is killed itself.
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in processes.of_service(service.data, range(uid_base, uid_base + 100)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
    status = service.wait_status(job, "failed")
    assert (status["reason"], status["fault"], status["attempts"]) == ("max_attempts", "platform", 3), status
    assert status["cause"] in ("executor_lost", "worker_crash"), status
    after = service.call("POST", "/execute?wait=100", {"language": "bash", "code": "echo fine"})
    assert after.json["phase"] == "succeeded", after


def wait_attempt(service, job, attempt):
    """Until that attempt's code runs; by the events, since between two questions an attempt may come and go."""
    for _, kind, data in follow(service.url, f"/tasks/{job}/events"):
        if kind == "running" and data["attempt"] == attempt:
            return service.call("GET", f"/status/{job}").json
    return pytest.fail(f"attempt {attempt} never ran: {service.call('GET', f'/status/{job}')}")


def test_too_few_descriptors(services):
    """More connections than descriptors: those that there is room for are served, the others wait; and code still runs afterwards."""
    service = services("--executors", "sandbox,noop", "--sandbox-slots", "2", "--retry-base", "0.1",
                       prefix=("prlimit", "--nofile=90:90")).start()
    idle = [socket.create_connection(service.listen.rsplit(":", 1), PATIENCE) for _ in range(120)]
    job = None
    try:
        request = b'{"executor": "sandbox", "language": "bash", "code": "echo through", "max_attempts": 25}'
        idle[0].sendall(b"POST /execute HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
                        b"%d\r\n\r\n%s" % (len(request), request))
        answer = idle[0].recv(65536)
        assert answer.startswith(b"HTTP/1.1 201"), answer
        job = answer.partition(b'"job_name":"')[2].partition(b'"')[0].decode()
    finally:
        for one in idle:
            one.close()
    service.wait_status(job, "succeeded")
    assert service.stop() == 0, service.text()


def test_requests_on_their_way_are_answered_when_it_is_told_to_end(services):
    """The store is there until the last of them has asked it: half a head, and a batch that is still being read."""
    service = services("--executors", "noop").start()
    host, port = service.listen.rsplit(":", 1)
    items = [{"code": f"print({n})" + "#" * 2000} for n in range(5000)]
    body = json.dumps(items).encode()
    with socket.create_connection((host, int(port))) as half, socket.create_connection((host, int(port))) as batch:
        half.sendall(b"GET /tasks HTTP/1.1\r\nHost: 127")
        batch.sendall(b"POST /execute/batch HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                      b"Content-Length: %d\r\n\r\n" % len(body) + body)
        service.terminate()
        service.wait_line("draining")
        half.sendall(b".0.0.1\r\n\r\n")
        assert half.makefile("rb").readline().split()[1] == b"200"
        assert batch.makefile("rb").readline().split()[1] in (b"200", b"503")
    assert service.wait_end() == 0, service.text()


def test_a_lock_that_outlives_its_holder(services):
    """A process that was killed while it started another leaves its lock to that one for a moment: it is waited for."""
    service = services(*NOOP)
    os.makedirs(service.data)
    gone = subprocess.Popen(["true"])
    gone.wait(PATIENCE)
    with open(os.path.join(service.data, "lock"), "w", encoding="ascii") as file:
        file.write(f"{gone.pid}\n")
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        service.launch()
        held = os.stat(file.fileno())
        while not any(is_open(service.pid, descriptor, held) for descriptor in descriptors(service.pid)):
            assert service.process.poll() is None, service.text()
    service.listen = service.wait_line(LISTENING).group(1)
    assert service.call("GET", "/health").status == 200


def descriptors(pid):
    try:
        return os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return []


def is_open(pid, descriptor, wanted):
    try:
        return os.path.samestat(os.stat(f"/proc/{pid}/fd/{descriptor}"), wanted)
    except OSError:
        return False
