"""assayd is killed, stopped and paused at any moment; what it has accepted comes to its one end all the same.

The clients write down what they were told (checker.Records); when all is over, checker.check compares that with the rows and
events in the SQLite file."""

import collections
import itertools
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
from service import PATIENCE, Http, follow

ROUNDS = int(os.environ.get("ASSAY_CRASH_ROUNDS", "20"))
SEED = int(os.environ.get("ASSAY_CRASH_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
UID_BASE = 1_000_000_000 + os.getpid() % 1_000_000 * 100  # nobody else's, so that what runs under them is ours
SLOTS = 4
UIDS = range(UID_BASE, UID_BASE + 400)
FLAGS = ("--executors", "sandbox,noop", "--sandbox-uid-base", str(UID_BASE), "--sandbox-slots", str(SLOTS),
         "--retry-base", "1", "--heartbeat", "1", "--lease", "2")

# What is submitted, and what must come of it. `output` None: not compared.
Program = collections.namedtuple("Program", "body status reason output endless", defaults=("COMPLETED", None, None, False))


def noop():
    return Program({"code": "", "executor": "noop"})


def python():
    return Program({"code": "print('from python')"}, output=b"from python\n")


def bash_fails():
    return Program({"language": "bash", "code": "echo before; exit 3"}, "FAILED", "exit_code", b"before\n")


def bash_slow():
    return Program({"language": "bash", "code": "for i in 1 2 3 4 5 6; do echo $i; sleep 0.1; done"},
                   output=b"1\n2\n3\n4\n5\n6\n")


def bash_long_output():
    return Program({"language": "bash", "code": "seq 1 20000"}, output=b"".join(b"%d\n" % i for i in range(1, 20001)))


def javascript():
    return Program({"language": "javascript", "code": "console.log(6 * 7)"}, output=b"42\n")


def c_compiled():
    return Program({"language": "c", "code": '#include <stdio.h>\nint main(void) { puts("from C"); return 0; }\n'},
                   output=b"from C\n")


def c_broken():
    return Program({"language": "c", "code": "int main(void) { return nothing; }\n"}, "FAILED", "compile_error")


def with_tests():
    tests = [{"name": str(i), "stdin": f"{i}\n", "expected": f"{i}\n"} for i in range(3)]
    return Program({"language": "bash", "code": "sleep 0.05; cat", "tests": tests})


def with_failing_tests():
    return Program({"language": "bash", "code": "echo 0", "tests": [{"name": "a", "expected": "0"}, {"name": "b", "expected": "1"}]},
                   "FAILED", "tests_failed")


def killed_by_signal():
    return Program({"language": "bash", "code": "kill -SEGV $$"}, "FAILED", "signal")


def endless():
    return Program({"language": "bash", "code": "sleep 600 & sleep 600"}, endless=True)


SHORT = [noop] * 8 + [python, bash_fails, bash_slow, bash_long_output, javascript, c_compiled, c_broken, with_tests, with_failing_tests,
                      killed_by_signal]


class Clients:
    """Threads that submit, cancel and run again until they are told to end, whatever becomes of the service meanwhile."""

    def __init__(self, service, seed, count=6, unfinished_max=60):
        self.service, self.records = service, checker.Records()
        self.up = threading.Event()
        self.over = threading.Event()
        self.streamed = {}  # by the follower of all events
        self.cursor = None
        self.stream_news = threading.Condition()
        self.unfinished_max = unfinished_max
        self.failed = []  # what a thread died of
        self.answers = collections.Counter()
        self.names = (f"eval-{seed}-{i}" for i in itertools.count())
        self.threads = [threading.Thread(target=self._guarded, args=(self._submitter, random.Random(seed + i)),
                                         daemon=True)
                        for i in range(count)]
        self.follower = threading.Thread(target=self._guarded, args=(self._follow,), daemon=True)

    def start(self):
        for thread in [*self.threads, self.follower]:
            thread.start()
        return self

    def _guarded(self, function, *arguments):
        try:
            function(*arguments)
        except BaseException as error:  # pylint: disable=broad-except
            self.failed.append(error)
            raise

    # ---- submitting ----

    def _name(self):
        with self.records.lock:
            return next(self.names)

    def _unfinished(self):
        ended = sum(kind in checker.TERMINAL for kind, _, _ in list(self.streamed.values()))
        return len(self.records.accepted) - ended

    def _submitter(self, dice):
        mine = []  # those that this thread alone cancels and runs again
        with self.service.http() as http:
            while not self.over.is_set():
                self.up.wait()
                actions = [self._one] * 8 + [self._batch, self._cancel, self._cancel, self._again, self._endless]
                if self._unfinished() > self.unfinished_max:
                    self._wait_for_one(dice, http, mine)
                else:
                    dice.choice(actions)(dice, http, mine)

    def _send(self, http, method, path, body=None):
        """None where the answer was lost, or the service was not there."""
        try:
            answer = http(method, path, body)
        except Http.LOST:
            self.answers["lost"] += 1
            return None
        self.answers[answer.status] += 1
        return answer

    def _submit(self, http, program, path, name):
        """With a name, again and again until it is answered."""
        body = {**program.body, "max_attempts": 25, **({"eval_id": name} if name else {})}
        with self.records.lock:
            if name:
                self.records.unanswered.add(name)
        while True:
            answer = self._send(http, "POST", path, body)
            if answer is None:
                if not name:
                    with self.records.lock:
                        self.records.perhaps_without_key += 1
                    return None, None
                if self.over.is_set():
                    return None, None
                self.up.wait()
                continue
            assert answer.status in (200, 201, 202), answer
            told = answer.json
            assert told.get("eval_id") == name, told
            known = self.records.add(told["task_id"], told["job_name"], name, program)
            with self.records.lock:
                self.records.unanswered.discard(name)
            return known, told

    def _one(self, dice, http, mine):
        name = self._name() if dice.random() < 0.7 else None
        program = dice.choice(SHORT)()
        wait = dice.random() < 0.25
        known, told = self._submit(http, program, "/execute?wait=20" if wait else "/execute", name)
        if not known:
            return
        mine.append(known)
        if wait and "phase" in told:
            self._ended(known, told)
        if name and dice.random() < 0.2:  # said twice
            again, _ = self._submit(http, program, "/execute", name)
            if again and again is not known:
                self.records.contradiction(f"{name} is {known.task_id} and {again.task_id}")

    def _endless(self, dice, http, mine):
        """One that only a cancel ends. It is not left before it is asked to."""
        known, _ = self._submit(http, endless(), "/execute", self._name())
        while known and known.cancel not in ("asked", "done"):
            self._cancel_one(http, known)
            if known.cancel == "maybe" and self.over.is_set():
                return
            self.up.wait()

    def _batch(self, dice, http, mine):
        programs = {self._name(): dice.choice(SHORT)() for _ in range(dice.randrange(2, 12))}
        items = [{**program.body, "max_attempts": 25, "eval_id": name} for name, program in programs.items()]
        with self.records.lock:
            self.records.unanswered.update(programs)
        while True:
            answer = self._send(http, "POST", "/execute/batch", items)
            if answer:
                break
            if self.over.is_set():
                return
            self.up.wait()
        assert answer.status == 200, answer
        results = answer.json["results"]
        assert [result["status"] in (200, 201) for result in results] == [True] * len(items), results
        for (name, program), result in zip(programs.items(), results):
            known = self.records.add(result["task_id"], result["job_name"], name, program)
            with self.records.lock:
                self.records.unanswered.discard(name)
            mine.append(known)
        if dice.random() < 0.3:
            for known in mine[-len(items):]:
                known.cancel = "maybe"
            self._send(http, "POST", f"/batches/{answer.json['batch_id']}/cancel")

    # ---- what can be done to a task ----

    def _ended(self, known, status):
        if status["status"] == "running":
            return
        state = {"succeeded": "COMPLETED", "cancelled": "CANCELLED"}.get(status["phase"], "FAILED")
        if known.seen.setdefault(status["run"], state) != state:
            self.records.contradiction(f"{known.task_id} ended as {known.seen[status['run']]}, then as {state}")

    def _cancel_one(self, http, known):
        before, known.cancel = known.cancel, "maybe"
        answer = self._send(http, "POST", f"/tasks/{known.task_id}/cancel")
        if answer is None:
            return
        assert answer.status in (200, 202, 409), answer
        if answer.status == 409:  # it had ended
            known.cancel = "asked" if before == "maybe" and known.program.endless else before
        else:
            known.cancel = "done" if answer.status == 200 else "asked"

    def _cancel(self, dice, http, mine):
        untouched = [known for known in mine[-20:] if known.cancel is None and known.runs_sure == 1 and not known.runs_perhaps]
        if untouched:
            self._cancel_one(http, dice.choice(untouched))

    def _again(self, dice, http, mine):
        """Runs an ended one again; or finds that it has not ended."""
        if not mine:
            return
        known = dice.choice(mine[-40:])
        if known.cancel:
            return
        status = self._send(http, "GET", f"/status/{known.job_name}")
        if status is None or status.json["status"] == "running":
            return
        self._ended(known, status.json)
        known.runs_perhaps += 1
        answer = self._send(http, "POST", f"/tasks/{known.task_id}/run")
        if answer is None:
            return
        assert answer.status in (200, 409), answer
        # 409, and nothing asked before it was lost: that run is going on.
        known.runs_perhaps -= answer.status == 200 or known.runs_perhaps == 1
        known.runs_sure += answer.status == 200

    def _wait_for_one(self, dice, http, mine):
        if not mine:
            self.up.wait()
            return
        known = mine[-1]
        answer = self._send(http, "POST", "/execute?wait=5", {**known.program.body, "max_attempts": 25, "eval_id": known.eval_id}) \
            if known.eval_id else self._send(http, "GET", f"/status/{known.job_name}")
        if answer:
            assert answer.status in (200, 202), answer
            self._ended(known, answer.json) if "phase" in answer.json else None
        mine.insert(0, mine.pop())

    # ---- following ----

    def _follow(self):
        """All events, from the beginning, over as many connections as it takes."""
        while not (self.over.is_set() and not self.up.is_set()):
            self.up.wait()
            try:
                for cursor, kind, data in follow(self.service.url, "/events?cursor=0" if self.cursor is None else "/events",
                                                 self.cursor):
                    self._streamed(cursor, kind, data)
            except Http.LOST:
                pass

    def _streamed(self, cursor, kind, data):
        assert kind != "gap", data
        if "sequence" in data:
            key, value = (data["task_id"], data["sequence"]), (kind, data["run"], data["attempt"])
            if self.streamed.setdefault(key, value) != value:
                self.records.contradiction(f"the stream told {key} as {self.streamed[key]} and as {value}")
        with self.stream_news:
            self.cursor = cursor or self.cursor
            self.stream_news.notify_all()

    # ---- the end ----

    def finish(self):
        """No more work; what was accepted comes to its end, and the follower has seen it. The service runs and goes on to run."""
        self.over.set()
        for thread in self.threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        assert not self.failed, self.failed
        path = os.path.join(self.service.data, "assay.db")
        patient_until(lambda: checker.unfinished(path) == 0, 300, lambda: unfinished_now(path) + self.service.text()[-4000:])
        last = max((event.position, task, event.sequence) for task, events in checker.Book(path).events.items()
                   for event in events)[1:]
        with self.stream_news:
            assert self.stream_news.wait_for(lambda: last in self.streamed, PATIENCE), last
        self.up.clear()

    def check(self):
        found = checker.check(os.path.join(self.service.data, "assay.db"), self.records, self.streamed)
        print(f"{len(self.records.accepted)} accepted, {len(self.streamed)} events, answers {dict(self.answers)}, "
              f"{self.records.perhaps_without_key} without a key unanswered")
        assert not found, f"{len(found)} faults:\n" + "\n".join(found[:20])


def patient_until(condition, patience=PATIENCE, explain=lambda: ""):
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, explain()
        time.sleep(0.05)  # between two questions, so that the service has the processor


def unfinished_now(path):
    return "\n".join(str(task) for task in checker.Book(path).rows.values() if task.status not in checker.ENDED) + "\n"


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
    clients.up.set()
    never = threading.Event()
    for turn in range(ROUNDS):
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
        assert not clients.failed, (turn, clients.failed)
    clients.finish()
    assert service.stop() == 0, service.text()
    clients.check()
    assert_unused(service)


@pytest.mark.slow
def test_kill_9_while_it_recovers(service):
    """A queue, running sandboxes, and then one killed start after the other: at its first line, at each further, at any time."""
    dice = random.Random(SEED)
    service.start()
    clients = Clients(service, SEED, count=0)
    clients.up.set()
    clients.start()
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
    book = checker.Book(os.path.join(service.data, "assay.db"))
    base32 = "abcdefghijklmnopqrstuvwxyz234567"
    found = [task for task in book.rows.values() if job_name_of(task.id, base32) == job]
    assert len(found) == 1, (job, book.rows)
    return found[0], book.events[found[0].id]


def job_name_of(task_id, alphabet):
    number = int(task_id.replace("-", ""), 16) << 2  # 128 bits are 26 digits of 5
    return "eval-" + "".join(alphabet[number >> shift & 31] for shift in range(125, -1, -5))


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
    job = submit(service, "echo begun; sleep 1; echo done; exit 4")
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
    service = services(*FLAGS, "--drain", "2").start()
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
    patient_until(lambda: len(checker.Book(os.path.join(service.data, "assay.db")).rows) == 2 and len(followed) >= 2)
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
    assert service.wait_end() == 0, service.text()
    book = checker.Book(os.path.join(service.data, "assay.db"))
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
        "succeeded": submit(service, "sleep 0.5; echo done", timeout=3),
        "failed": submit(service, "sleep 0.5; exit 3", timeout=3),
        "timed_out": submit(service, "sleep 600", timeout=3),
    }
    for job in jobs.values():
        service.wait_status(job, "running")
    service.process.send_signal(signal.SIGSTOP)
    answers = []
    asking = threading.Thread(target=lambda: answers.append(service.call("POST", "/execute?wait=60", {"executor": "noop", "code": ""})))
    asking.start()
    threading.Event().wait(5)  # twice the lease, and more than the time of each: what is tested is time
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
    book = checker.Book(os.path.join(service.data, "assay.db"))
    faults = [fault for task in book.rows.values() for fault in checker.faults_of_history(task, book.events[task.id])]
    assert not faults, faults
    assert_unused(service)
