"""Clients that write down what they were told (checker.Records), whatever becomes of the service meanwhile.

`Clients` submit, cancel and run again from several threads, `Follower`s read a stream of all events; when all is over,
checker.check compares that with what the store holds. The service is a service.Service, or a cluster.Cluster, where every
connection may be to another replica."""

import collections
import itertools
import random
import threading
import time

import checker
from service import PATIENCE, Http, follow

HEARSAY = 120  # seconds in which everybody has heard of everything, when all is over

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


class Follower:
    """All events from the beginning, over as many connections as it takes. `where()` is the address of the next one;
    with `hops` it leaves after so many events and goes on at the next address."""

    def __init__(self, where, hops=None, headers=None):
        self.where, self.hops, self.headers = where, hops, headers
        self.seen = {}  # (task id, sequence): (kind, run, attempt)
        self.ended = set()  # tasks with a terminal event among them
        self.cursor = None
        self.over = False
        self.contradictions = []
        self.news = threading.Condition()
        self.thread = threading.Thread(target=self._follow, daemon=True)

    def _follow(self):
        try:
            while not self.over:
                try:
                    self._connection()
                except Http.LOST:
                    time.sleep(0.02)  # nobody is there; so that the service has the processor
        except BaseException as error:  # pylint: disable=broad-except
            self.contradictions.append(f"a follower died of {error!r}")
            raise

    def _connection(self):
        count = 0
        for cursor, kind, data in follow(self.where(), "/events" if self.cursor else "/events?cursor=0", self.cursor,
                                          headers=self.headers):
            if self.over:
                return
            count += self._told(cursor, kind, data)  # a hop that counts what was told before leads nowhere
            if count == self.hops:
                return

    def _told(self, cursor, kind, data):
        """Whether it is new."""
        assert kind != "gap", data
        is_new = False
        if "sequence" in data:
            key, value = (data["task_id"], data["sequence"]), (kind, data["run"], data["attempt"])
            is_new = key not in self.seen
            if kind in checker.TERMINAL:
                self.ended.add(data["task_id"])
            if self.seen.setdefault(key, value) != value:
                self.contradictions.append(f"the stream told {key} as {self.seen[key]} and as {value}")
        with self.news:
            self.cursor = cursor or self.cursor
            self.news.notify_all()
        return is_new

    def wait(self, keys, deadline):
        """Until it has been told of all these; what it was not told of by then the checker names."""
        with self.news:
            self.news.wait_for(lambda: keys <= self.seen.keys(), max(0, deadline - time.monotonic()))


class Clients:
    """Threads that submit, cancel and run again until they are told to end. While `up` is not set they rest.

    `refusable`: 503 may come as an answer, which must say when to come again, and must not have done anything."""

    def __init__(self, service, seed, count=6, unfinished_max=60, programs=SHORT, followers=None, refusable=False):
        self.service, self.records = service, checker.Records()
        self.up = threading.Event()
        self.over = threading.Event()
        self.programs = programs
        self.refusable = refusable
        self.followers = followers or [Follower(lambda: service.url)]
        self.ended = set()  # tasks of whose terminal event any of them has been told
        for follower in self.followers:
            follower.ended = self.ended
        self.unfinished_max = unfinished_max
        self.failed = []  # what a thread died of
        self.book = None  # when all is over
        self.answers = collections.Counter()
        self.names = (f"eval-{seed}-{i}" for i in itertools.count())
        self.threads = [threading.Thread(target=self._guarded, args=(self._submitter, random.Random(seed + i)),
                                         daemon=True)
                        for i in range(count)]

    def start(self):
        self.up.set()
        for thread in [*self.threads, *(follower.thread for follower in self.followers)]:
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
        return len(self.records.accepted) - len(self.ended)

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
            if self.refusable:
                time.sleep(0.01)  # perhaps nobody is there
            return None
        self.answers[answer.status] += 1
        if answer.status == 503:
            assert self.refusable and int(answer.headers["Retry-After"]) > 0, answer
            time.sleep(0.05)  # it would not be longer away than it has to
        return answer

    def _submit(self, http, program, path, name):
        """With a name, again and again until it is answered; without, until it is not refused."""
        body = {**program.body, "max_attempts": 25, **({"eval_id": name} if name else {})}
        with self.records.lock:
            if name:
                self.records.unanswered.add(name)
        while True:
            answer = self._send(http, "POST", path, body)
            if answer is None or answer.status == 503:
                if not name and answer is None:
                    with self.records.lock:
                        self.records.perhaps_without_key += 1
                    return None, None
                if self.over.is_set():
                    return None, None
                self.up.wait()
                continue
            assert answer.status in (200, 201, 202), answer
            told = answer.json
            assert told.get("eval_id", name) == name, told  # a 202 may know no more than the task
            known = self.records.add(told["task_id"], told["job_name"], name, program)
            with self.records.lock:
                self.records.unanswered.discard(name)
            return known, told

    def _one(self, dice, http, mine):
        name = self._name() if dice.random() < 0.7 else None
        program = dice.choice(self.programs)()
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
        if all(program is noop for program in self.programs):
            return
        known, _ = self._submit(http, endless(), "/execute", self._name())
        patience = None
        while known and known.cancel not in ("asked", "done"):
            self._cancel_one(http, known)
            if self.over.is_set():
                patience = patience or time.monotonic() + PATIENCE
                if time.monotonic() > patience:
                    return
                time.sleep(0.05)  # perhaps nobody is there
            self.up.wait()

    def _batch(self, dice, http, mine):
        programs = {self._name(): dice.choice(self.programs)() for _ in range(dice.randrange(2, 12))}
        items = [{**program.body, "max_attempts": 25, "eval_id": name} for name, program in programs.items()]
        with self.records.lock:
            self.records.unanswered.update(programs)
        while True:
            answer = self._send(http, "POST", "/execute/batch", items)
            if answer and not self._refused(answer):
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

    def _refused(self, answer):
        """The whole of a batch, or some of its items."""
        return answer.status == 503 or (self.refusable and answer.status == 200 and
                                        any(result["status"] == 503 for result in answer.json["results"]))

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
        assert answer.status in (200, 202, 409, 503), answer
        if answer.status == 503:
            known.cancel = before
        elif answer.status == 409:  # it had ended
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
        if status is None or status.status == 503 or status.json["status"] == "running":
            return
        self._ended(known, status.json)
        known.runs_perhaps += 1
        answer = self._send(http, "POST", f"/tasks/{known.task_id}/run")
        if answer is None:
            return
        assert answer.status in (200, 409, 503), answer
        # 409, and nothing asked before it was lost: that run is going on.
        known.runs_perhaps -= answer.status in (200, 503) or known.runs_perhaps == 1
        known.runs_sure += answer.status == 200

    def _wait_for_one(self, dice, http, mine):
        if not mine:
            self.up.wait()
            return
        known = mine[-1]
        answer = self._send(http, "POST", "/execute?wait=5", {**known.program.body, "max_attempts": 25, "eval_id": known.eval_id}) \
            if known.eval_id else self._send(http, "GET", f"/status/{known.job_name}")
        if answer and answer.status != 503:
            assert answer.status in (200, 202), answer
            self._ended(known, answer.json) if "phase" in answer.json else None
        mine.insert(0, mine.pop())

    # ---- the end ----

    def alive(self):
        """No thread has died of what it was told."""
        assert not self.failed, self.failed

    def wait_more(self, count):
        """Until so many more tasks have been accepted."""
        wanted = len(self.records.accepted) + count
        patient_until(lambda: self.alive() or len(self.records.accepted) >= wanted, explain=self.service.text)

    def wait_refused(self):
        """Until one more request has been answered with 503."""
        before = self.answers[503]
        patient_until(lambda: self.alive() or self.answers[503] > before, explain=self.service.text)

    def finish(self, whole_streams=True):
        """No more work; what was accepted comes to its end, and the followers have seen it. The service runs and goes on to run."""
        self.over.set()
        for thread in self.threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        self.alive()
        store = self.service.store
        patient_until(lambda: checker.unfinished(store) == 0, 300, lambda: unfinished_now(store) + self.service.text()[-4000:])
        self.book = checker.Book(store)
        keys = self.book.keys()
        deadline = time.monotonic() + HEARSAY
        for follower in self.followers:
            if whole_streams:
                follower.wait(keys, deadline)
            follower.over = True

    def check(self, **more):
        """`more`: what else the checker is to compare, such as what a subscriber of Redis has heard."""
        found = checker.check(self.service.store, self.records, [follower.seen for follower in self.followers], **more)
        found += [text for follower in self.followers for text in follower.contradictions]
        print(f"{len(self.records.accepted)} accepted, {len(self.followers[0].seen)} events, answers {dict(self.answers)}, "
              f"{self.records.perhaps_without_key} without a key unanswered")
        assert not found, f"{len(found)} faults:\n" + "\n".join(found[:20])


def patient_until(condition, patience=PATIENCE, explain=lambda: ""):
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, explain()
        time.sleep(0.05)  # between two questions, so that the service has the processor


def wait_why(service, job, reason, words=""):
    """Waits until that is what a task waits for, and is told in such words; the whole answer."""
    said = {}

    def is_it():
        said.update(service.call("GET", f"/tasks/{job}/why").json)
        return said["reason"] == reason and words in said["detail"]

    patient_until(is_it, explain=lambda: f"{said}\n{service.text()}")
    return said


def unfinished_now(store):
    return "\n".join(str(task) for task in checker.Book(store).rows.values() if task.status not in checker.ENDED) + "\n"
