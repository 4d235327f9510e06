"""assayd is killed, stopped and paused at any moment; what it has accepted comes to its one end all the same.

The clients write down what they were told (checker.Records); when all is over, checker.check compares that with the rows and
events in the SQLite file."""

import json
import os
import random
import signal
import socket
import threading
import time

import pytest

import checker
import processes
from clients import Clients, endless, patient_until
from service import PATIENCE, follow

ROUNDS = int(os.environ.get("ASSAY_CRASH_ROUNDS", "20"))
SEED = int(os.environ.get("ASSAY_CRASH_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
SLOTS = 4
UIDS = range(processes.UID_BASE, processes.UID_BASE + 400)
FLAGS = ("--executors", "sandbox,noop", "--sandbox-uid-base", str(processes.UID_BASE), "--sandbox-slots", str(SLOTS),
         "--retry-base", "1", "--heartbeat", "1", "--lease", "2")


def assert_nothing_left(service):
    """Seen right after `listening on`: by then an incarnation has ended whatever the one before had running."""
    left = processes.left_over(service.data, UIDS, service.pid)
    assert not left, left


def assert_unused(service):
    """After the service has ended in peace. What the kernel is still taking apart may be seen for a moment."""
    patient_until(lambda: not processes.of_service(service.data, UIDS),
                  explain=lambda: str([processes.process(pid) for pid in processes.of_service(service.data, UIDS)]))
    in_use = [cgroup for cgroup in processes.cgroups(service.data)]
    assert not in_use, in_use


@pytest.fixture
def service(services):
    return services(*FLAGS)


@pytest.mark.slow
def test_kill_9_at_random_moments_under_load(service):
    print(f"seed {SEED}: ASSAY_CRASH_SEED={SEED} does the same again, as far as the machine lets it")
    dice = random.Random(SEED)
    service.start()
    clients = Clients(service, SEED).start()
    never = threading.Event()
    for _ in range(ROUNDS):
        never.wait(dice.choice([0.02, 0.2, 0.5, 1.0]) * dice.random() + 0.01)  # the random moment
        service.process.kill()
        clients.up.clear()
        service.wait_end()
        while dice.random() < 0.3:  # and once more while it recovers
            service.launch()
            never.wait(dice.random() * 0.4)
            service.kill()
        service.start()
        assert_nothing_left(service)
        clients.up.set()
        clients.alive()
    clients.finish()
    assert service.stop() == 0, service.text()
    clients.check()
    assert_unused(service)


@pytest.mark.slow
def test_kill_9_while_it_recovers(service):
    """A queue, running sandboxes, and then one killed start after the other: at its first line, at each further, at any time."""
    dice = random.Random(SEED)
    service.start()
    clients = Clients(service, SEED, count=0).start()
    with service.http() as http:
        for _ in range(40):
            clients._one(dice, http, [])
        running, _ = clients._submit(http, endless(), "/execute", "endless")
        clients._send(http, "POST", f"/tasks/{running.task_id}/run")  # out of the way of those before it: no harm
    service.process.kill()
    clients.up.clear()
    service.wait_end()
    for turn in range(8):
        service.launch()
        if turn % 2:
            threading.Event().wait(dice.random() * 0.3)
        else:
            service.wait_line(r"store chosen|store is available|rows taken up|listening on")
        service.kill()
    service.start()
    assert_nothing_left(service)
    clients.up.set()
    with service.http() as http:
        service.wait_status(running.job_name, "running")
        clients._cancel_one(http, running)
    clients.finish()
    assert service.stop() == 0, service.text()
    clients.check()
    assert_unused(service)


# ---- ended in peace ----


def submit(service, code, **more):
    answer = service.call("POST", "/execute", {"language": "bash", "code": code, **more})
    assert answer.status in (201, 202), answer
    return answer.json["job_name"]


def row_of(service, job):
    """By the file itself."""
    book = checker.Book(service.store)
    task_id = checker.task_id_of(job)
    return book.rows[task_id], book.events[task_id]


def test_drain_hands_back_what_still_runs_uncharged(services):
    service = services(*FLAGS, "--drain", "1").start()
    jobs = [submit(service, "echo begun; sleep 600 & sleep 600", timeout=900) for _ in range(SLOTS)]
    waiting = submit(service, "echo waited")
    for job in jobs:
        service.wait_status(job, "running")
    assert service.stop() == 0, service.text()
    assert "handed back" in service.text()
    assert_unused(service)
    for job in [*jobs, waiting]:
        task, events = row_of(service, job)
        assert (task.status, task.attempts, task.locked_by) == ("QUEUED", 0, None), (task, events)
        assert not [event for event in events if event.kind == "retrying"]
    service.start()
    for job in jobs:
        status = service.wait_status(job, "running")
        assert (status["attempt"], status["attempts"]) == (2, 0)
        assert service.call("POST", f"/tasks/{job}/cancel").status == 202
        assert service.wait_status(job, "cancelled")["attempts"] == 0
    assert service.wait_status(waiting, "succeeded")["attempt"] == 1


def test_what_ends_within_the_drain_is_settled(services):
    service = services(*FLAGS, "--drain", "100").start()
    job = submit(service, "echo begun; sleep 5; echo done; exit 4")
    waiting = [submit(service, "sleep 600", timeout=900, priority=0, run_after=time.time() + 3600)]
    service.wait_status(job, "running")
    assert service.stop() == 0, service.text()
    task, events = row_of(service, job)
    assert (task.status, task.reason, [event.kind for event in events]) == ("FAILED", "exit_code", ["queued", "running", "failed"])
    assert row_of(service, waiting[0])[0].status == "QUEUED"


def raw_post(service, head, body):
    """A request whose last byte is held back: (connection, the byte)."""
    connection = socket.create_connection(service.listen.rsplit(":", 1), PATIENCE)
    connection.sendall(f"POST {head} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                       f"Content-Length: {len(body)}\r\n\r\n{body[:-1]}".encode())
    return connection, body[-1:].encode()


def read_all(connection):
    pieces = []
    while True:
        piece = connection.recv(65536)
        if not piece:
            connection.close()
            return b"".join(pieces)
        pieces.append(piece)


def refuses(service):
    try:
        socket.create_connection(service.listen.rsplit(":", 1), PATIENCE).close()
    except OSError:
        return True
    return False


def test_requests_in_flight_are_finished_when_told_to_end(services):
    service = services(*FLAGS, "--drain", "3600").start()
    started = submit(service, "echo begun; sleep 600", timeout=900)
    service.wait_status(started, "running")
    body = json.dumps({"executor": "noop", "code": "", "eval_id": "in-flight"})
    half_sent, rest = raw_post(service, "/execute", body)
    waits = [threading.Thread(target=lambda: answers.append(service.call(
        "POST", "/execute?wait=300", {"language": "bash", "code": "sleep 600", "timeout": 900})))]
    answers = []
    followed = []
    following = threading.Thread(target=lambda: [followed.append(kind) for _, kind, _ in
                                                 follow(service.url, f"/tasks/{started}/events")])
    for thread in [*waits, following]:
        thread.start()
    patient_until(lambda: len(checker.Book(service.store).rows) == 2 and len(followed) >= 2)
    service.terminate()
    service.wait_line("draining")
    patient_until(lambda: refuses(service))
    half_sent.sendall(rest)
    answer = read_all(half_sent)
    for thread in [*waits, following]:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert answers[0].status == 202 and answers[0].json["status"] in ("queued", "running"), answers
    assert [kind for kind in followed if kind in ("queued", "running")] == ["queued", "running"]
    service.terminate()  # what runs is not waited for
    assert service.wait_end() == 0, service.text()
    book = checker.Book(service.store)
    keys = [task.eval_id for task in book.rows.values()]
    # A request that was not whole when the end began is answered: taken, or told to come again.
    status = int(answer.split()[1])
    assert (status, "in-flight" in keys) in [(201, True), (503, False)], (answer, keys)
    if status == 503:
        assert b"retry-after:" in answer.lower()
    assert b"connection: close" in answer.lower()


def test_a_second_signal_ends_the_drain(services):
    service = services(*FLAGS, "--drain", "3600").start()
    job = submit(service, "echo begun; sleep 600 & sleep 600", timeout=900)
    service.wait_status(job, "running")
    service.terminate()
    service.wait_line("draining")
    assert service.process.poll() is None
    service.terminate()
    assert service.wait_end() == 0, service.text()
    task, _ = row_of(service, job)
    assert (task.status, task.attempts, task.locked_by) == ("QUEUED", 0, None), task
    assert_unused(service)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_service_ends_at_once(services, number):
    service = services(*FLAGS, "--drain", "3600").start()
    service.process.send_signal(number)
    assert service.wait_end() == 0, service.text()


def test_told_to_end_before_it_listens(services):
    """Whatever it has got done by then, it ends, in peace or by the signal's default."""
    service = services(*FLAGS)
    for _ in range(3):
        service.launch().terminate()
        assert service.wait_end() in (0, -signal.SIGTERM), service.text()
    service.start()


def test_paused_for_longer_than_the_lease(services):
    """SIGSTOP: no heartbeat, no timers. What ended meanwhile is told as it was, what goes on goes on, nothing is done twice."""
    service = services(*FLAGS).start()
    jobs = {
        "running": submit(service, "echo begun; sleep 600", timeout=900),
        "succeeded": submit(service, "sleep 0.5; echo done", timeout=6),
        "failed": submit(service, "sleep 0.5; exit 3", timeout=6),
        "timed_out": submit(service, "sleep 600", timeout=6),
    }
    for phase, job in jobs.items():
        service.wait_status(job, "running", phase)  # the short ones may be over before it is their turn to be asked for
    service.process.send_signal(signal.SIGSTOP)
    answers = []
    asking = threading.Thread(target=lambda: answers.append(service.call("POST", "/execute?wait=60", {"executor": "noop", "code": ""})))
    asking.start()
    threading.Event().wait(8)  # more than twice the lease, and more than the time of each: what is tested is time
    service.process.send_signal(signal.SIGCONT)
    asking.join(PATIENCE)
    assert answers[0].status == 200 and answers[0].json["phase"] == "succeeded", answers
    for phase, job in jobs.items():
        status = service.wait_status(job, "running", "succeeded", "failed", "timed_out")
        if phase != "running":
            status = service.wait_status(job, "succeeded", "failed", "timed_out")
        assert (status["phase"], status["attempt"], status["attempts"]) == (phase, 1, 0), status
    assert service.call("POST", f"/tasks/{jobs['running']}/cancel").status == 202
    service.wait_status(jobs["running"], "cancelled")
    assert service.stop() == 0, service.text()
    book = checker.Book(service.store)
    faults = [fault for task in book.rows.values() for fault in checker.faults_of_history(task, book.events[task.id])]
    assert not faults, faults
    assert_unused(service)
