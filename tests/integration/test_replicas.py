"""Two and three replicas on one database: they share the work, and whatever becomes of one of them, every accepted
evaluation comes to its one end, everybody hears of it, and nothing that has ended is done again."""

import collections
import http.client
import random
import threading

import pytest

import checker
import processes
from clients import endless, noop, patient_until
from cluster import CALM, QUICK, SEED, SLOTS, STEADY
from service import PATIENCE, follow

ENDLESS = {"code": "echo begun; sleep 600 & sleep 600", "timeout": 900}


@pytest.fixture(params=["redis", "no redis"])
def bus(request):
    """A Redis, or none: events then go by the database alone."""
    return request.getfixturevalue("redis") if request.param == "redis" else None


def submit(replica, code, **more):
    answer = replica.call("POST", "/execute", {"language": "bash", "code": code, **more})
    assert answer.status == 201, answer
    return answer.json["job_name"]


def enders(book):
    """How many tasks each incarnation has ended, as the publisher of the event tells it."""
    return collections.Counter(event.publisher for events in book.events.values() for event in events
                               if event.kind in ("completed", "failed"))


# ---- sharing ----


@pytest.mark.parametrize("count", [2, 3])
def test_replicas_under_load(database, clusters, redis, count):
    cluster = clusters(database, *CALM, count=count, redis=redis).start()
    clients = cluster.clients(count=6).start()
    clients.wait_more(400)
    book = cluster.finish(clients)
    assert len(enders(book)) == count, enders(book)
    assert not [event for events in book.events.values() for event in events if event.kind == "retrying"]


def test_followers_under_load(database, clusters, bus):
    """Each has seen everything, over all its connections, at whatever replica: one stays, one goes from replica to replica."""
    cluster = clusters(database, *CALM, redis=bus).start()
    clients = cluster.clients(programs=[noop], count=6).start()
    clients.wait_more(400)
    cluster.finish(clients)


def test_what_one_took_the_others_run(database, clusters):
    """All is submitted at one replica; as much as all of them have slots for, and no end to it before each has its share."""
    cluster = clusters(database, *CALM, count=3).start()
    items = [{"language": "bash", **ENDLESS, "eval_id": f"shared-{i}"} for i in range(3 * SLOTS)]
    results = cluster.replicas[0].call("POST", "/execute/batch", items).json["results"]
    assert [result["status"] for result in results] == [201] * len(items), results
    jobs = [result["job_name"] for result in results]
    for job in jobs:
        cluster.replicas[1].wait_status(job, "running")
    assert collections.Counter(cluster.owner(job) for job in jobs) == {replica: SLOTS for replica in cluster.replicas}
    for job in jobs:
        assert cluster.replicas[0].call("POST", f"/tasks/{job}/cancel").status == 202
        cluster.replicas[1].wait_status(job, "cancelled")
    cluster.assert_no_faults()


@pytest.mark.slow
def test_noops_without_end(database, clusters):
    """Volume: batches at every replica, with keys that overlap."""
    cluster = clusters(database, *CALM, count=3).start()
    failed = []

    def send(replica, order):
        try:
            for first in range(0, 2000, 200):
                items = [{"executor": "noop", "code": "", "eval_id": f"noop-{i}"} for i in range(first, first + 300)]
                random.Random(order + first).shuffle(items)
                results = replica.call("POST", "/execute/batch", items).json["results"]
                assert {result["status"] for result in results} <= {200, 201}, results
        except BaseException as error:  # pylint: disable=broad-except
            failed.append(error)
            raise

    threads = [threading.Thread(target=send, args=(replica, order)) for order, replica in enumerate(cluster.replicas * 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not failed
    patient_until(lambda: checker.unfinished(database) == 0, explain=cluster.text)
    book = cluster.assert_no_faults()
    assert len(book.rows) == 2100
    assert {(task.status, task.attempt) for task in book.rows.values()} == {("COMPLETED", 1)}


# ---- the death of one ----


@pytest.mark.slow
def test_kill_9_of_one_after_the_other(database, clusters, bus):
    cluster = clusters(database, *QUICK, count=3, redis=bus).start()
    dice = random.Random(SEED)
    clients = cluster.clients().start()
    never = threading.Event()
    for _ in range(6):
        victim = dice.choice(cluster.replicas)
        never.wait(dice.random())  # the random moment
        victim.kill()
        if dice.random() < 0.5:  # its lease runs out; or it is back before, under another name
            cluster.wait_dead(victim)
        victim.start()
        clients.alive()
    cluster.finish(clients)


def test_what_a_dead_one_ran_runs_elsewhere(database, clusters, bus):
    """And a follower at another replica is told of all of it."""
    cluster = clusters(database, *STEADY, redis=bus).start()
    job = submit(cluster.replicas[0], **ENDLESS)
    victim = cluster.owner(job)
    other = cluster.other_than(victim)
    told = []
    thread = threading.Thread(target=lambda: told.extend(
        (kind, data["attempt"]) for _, kind, data in follow(other.url, f"/tasks/{job}/events") if "sequence" in data))
    thread.start()
    assert read_output(victim, job, b"begun\n") == b"begun\n"
    cluster.wait_event(job, 2)
    victim.kill()
    cluster.wait_event(job, 4)
    status = other.call("GET", f"/status/{job}").json
    assert (status["phase"], status["attempt"], status["attempts"]) == ("running", 2, 1), status
    assert other.call("POST", f"/tasks/{job}/cancel").status == 202
    other.wait_status(job, "cancelled")
    thread.join(PATIENCE)
    assert told[1:] == [("running", 1), ("retrying", 1), ("running", 2), ("cancelled", 2)] and told[0][0] == "queued", told


def test_a_cancel_of_what_a_dead_one_ran(database, clusters):
    """Nobody is there to kill it: it ends as cancelled all the same, and is not run again."""
    cluster = clusters(database, *STEADY).start()
    job = submit(cluster.replicas[0], **ENDLESS)
    victim = cluster.owner(job)
    other = cluster.other_than(victim)
    victim.wait_status(job, "running")
    victim.kill()
    assert other.call("POST", f"/tasks/{job}/cancel").status in (200, 202)
    status = other.wait_status(job, "cancelled")
    assert status["attempt"] == 1, status


def test_stopped_past_its_lease(database, clusters, bus):
    """SIGSTOP and, when others have taken what it had, SIGCONT: it settles none of that, kills it, and works under a new name."""
    cluster = clusters(database, *QUICK, count=2, redis=bus).start()
    clients = cluster.clients()
    clients.start()
    job = submit(cluster.replicas[0], **ENDLESS)
    clients.records.add(checker.task_id_of(job), job, None, endless())
    victim = cluster.owner(job)
    other = cluster.other_than(victim)
    victim.wait_status(job, "running")
    clients.wait_more(60)
    victim.pause()
    cluster.wait_dead(victim)
    assert cluster.owner(job, but=victim) is other
    before = cluster.incarnations(victim)
    victim.resume()
    victim.wait_line("declared dead|cut off")
    cluster.wait_new_incarnation(victim, before)
    answer = other.call("POST", f"/tasks/{job}/cancel")
    assert answer.status in (200, 202), answer  # 200: `other` was cut off just then, and had handed it back
    clients.records.accepted[checker.task_id_of(job)].cancel = "done" if answer.status == 200 else "asked"
    clients.wait_more(60)
    clients.over.set()
    assert other.stop() == 0, other.text()
    alone = victim.call("POST", "/execute?wait=100", {"language": "bash", "code": "echo alone", "eval_id": "alone"})
    assert alone.json["phase"] == "succeeded", alone
    patient_until(lambda: checker.unfinished(database) == 0, explain=cluster.text)
    patient_until(lambda: not processes.of_service(victim.data, victim.uids))  # it has killed what it had
    other.start()
    clients.records.add(alone.json["task_id"], alone.json["job_name"], "alone", noop())
    book = cluster.finish(clients)
    assert book.rows[checker.task_id_of(job)].status == "CANCELLED"


# ---- ended in peace ----


def test_rolling_restart(database, clusters, bus):
    """Nothing is lost, nothing is charged, nothing that has ended is done again."""
    cluster = clusters(database, *CALM, count=3, redis=bus).start()
    clients = cluster.clients(count=6).start()
    for replica in cluster.replicas:
        clients.wait_more(40)
        replica.terminate()
        assert replica.wait_end() == 0, replica.text()
        replica.start()
        clients.alive()
    book = cluster.finish(clients)
    assert not [event for events in book.events.values() for event in events if event.kind == "retrying"]
    assert {task.attempts for task in book.rows.values()} == {0}
    # Handed back is what a drain ended or what had not begun, and never what had ended by itself: that begins once a run.
    assert not [task for task in book.rows.values() if task.executor == "noop" and
                sum(event.kind == "running" for event in book.events[task.id]) > task.run]


def test_a_drained_one_hands_back_what_still_runs(database, clusters):
    cluster = clusters(database, *CALM, "--drain", "1").start()
    job = submit(cluster.replicas[0], **ENDLESS)
    first = cluster.owner(job)
    other = cluster.other_than(first)
    first.wait_status(job, "running")
    assert first.stop() == 0, first.text()
    cluster.wait_event(job, 3)
    status = other.call("GET", f"/status/{job}").json
    assert (status["phase"], status["attempt"], status["attempts"]) == ("running", 2, 0), status
    assert other.call("POST", f"/tasks/{job}/cancel").status == 202
    other.wait_status(job, "cancelled")


# ---- across replicas ----


def test_any_replica_answers_for_any_task(database, clusters, bus):
    """Waiting, output as it is printed, and a cancel, all at a replica that does not run it."""
    cluster = clusters(database, *CALM, redis=bus).start()
    program = "echo begun; while ! [ -e go ]; do sleep 0.05; done"
    job = submit(cluster.replicas[0], program, timeout=900, eval_id="far")
    runner = cluster.owner(job)
    other = cluster.other_than(runner)
    assert read_output(other, job, b"begun\n") == b"begun\n"  # which goes on running
    other.wait_status(job, "running")  # the output may have been quicker than the transition
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(other.call(
        "POST", "/execute?wait=100", {"language": "bash", "code": program, "timeout": 900, "eval_id": "far"})))
    waiting.start()
    assert other.call("POST", f"/tasks/{job}/cancel").status == 202
    waiting.join(PATIENCE)
    assert (answers[0].status, answers[0].json["phase"]) == (200, "cancelled"), answers
    runner.wait_status(job, "cancelled")  # it may hear later of what it has written than who waits elsewhere
    patient_until(lambda: not processes.of_service(runner.data, runner.uids))


def read_output(replica, job, wanted):
    """What ?follow=1 streams until that has come."""
    connection = http.client.HTTPConnection(replica.listen, timeout=PATIENCE)
    try:
        connection.request("GET", f"/logs/{job}?follow=1", headers={"Accept": "text/plain"})
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        text = b""
        while len(text) < len(wanted):
            piece = answer.read1()
            assert piece, text
            text += piece
        return text
    finally:
        connection.close()


def test_output_is_followed_to_its_end_elsewhere(database, clusters, bus):
    cluster = clusters(database, *CALM, redis=bus).start()
    job = submit(cluster.replicas[0], "for i in $(seq 1 30); do echo line $i; sleep 0.05; done")
    other = cluster.other_than(cluster.owner(job))
    whole = b"".join(b"line %d\n" % i for i in range(1, 31))
    assert read_output(other, job, whole) == whole
    other.wait_status(job, "succeeded")


def test_a_stream_goes_on_at_another_replica(database, clusters, bus):
    """Last-Event-ID of one is understood by the other; what happened in between is told."""
    cluster = clusters(database, *CALM, redis=bus).start()
    first, second = cluster.replicas
    seen = []

    def told(replica, last, until):
        for cursor, _, data in follow(replica.url, "/events?cursor=0", last):
            if "sequence" in data:
                seen.append((data["task_id"], data["sequence"]))
            last = cursor or last
            if until(data):
                return last
        return pytest.fail(f"the stream ended: {seen}")

    jobs = [first.call("POST", "/execute?wait=100", {"executor": "noop", "code": ""}).json for _ in range(3)]
    last = told(first, None, lambda data: data["task_id"] == jobs[1]["task_id"] and data["kind"] == "completed")
    jobs += [replica.call("POST", "/execute?wait=100", {"executor": "noop", "code": ""}).json for replica in (first, second) * 3]
    far = threading.Timer(0.2, lambda: jobs.append(first.call("POST", "/execute?wait=100", {"executor": "noop", "code": "",
                                                                                            "eval_id": "last"}).json))
    far.start()
    told(second, last, lambda data: data["eval_id"] == "last" and data["kind"] == "completed")
    far.join(PATIENCE)
    kept = checker.Book(database).keys()
    assert set(seen) == kept, kept - set(seen)
