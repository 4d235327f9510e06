"""The checker finds what it is there to find: each of these damages to a good history is told."""

import collections
import shutil
import sqlite3

import pytest

import checker
from clients import Program

SQLITE = {
    "a task lost": "DELETE FROM task WHERE eval_id = 'first'",
    "an event lost": "DELETE FROM event WHERE task = 1 AND sequence = 2",
    "the end lost": "DELETE FROM event WHERE task = 1 AND kind = 5",
    "settled twice": "INSERT INTO event SELECT position + 1000, task, kind, sequence + 1, run, attempt, at, publisher, data "
                     "FROM event WHERE task = 1 AND kind = 5; UPDATE task SET sequence = sequence + 1 WHERE row = 1",
    "settled otherwise": "UPDATE task SET status = 3, reason = 1 WHERE row = 1",
    "not ended": "UPDATE task SET status = 0, place = 1 WHERE row = 1",
    "started twice": "INSERT INTO event SELECT position + 1000, task, kind, sequence, run, attempt, at, publisher, data "
                     "FROM event WHERE task = 1 AND kind = 1",
    "charged for nothing": "UPDATE task SET attempts = 1 WHERE row = 1",
    "run once more": "UPDATE task SET run = 2 WHERE row = 1",
    "output lost": "DELETE FROM output WHERE task = 2",
    "output twice": "INSERT INTO output SELECT task, attempt, offset + 100, stream, stream_offset + 100, size, data FROM output "
                    "WHERE task = 2",
    "submitted twice": "INSERT INTO task SELECT 77, randomblob(16), status, place, run, attempt, attempts, max_attempts, "
                       "run_attempts, priority, turn, 0, tenant, type, queue, executor, created_at, updated_at, queued_at, run_after, "
                       "locked_at, started_at, finished_at, cancel_requested_at, settled_by, settled_attempt, reason, cause, "
                       "locked_by, NULL, NULL, digest, batch_id, node, pod, image, error, result FROM task WHERE row = 1",
    "a tally wrong": "UPDATE tenant SET completed = completed + 1",
    "still locked": "UPDATE task SET locked_by = 'x#1' WHERE row = 1",
    "settled by one that had lost it": "UPDATE event SET sequence = 4, position = position + 1000 WHERE task = 1 AND kind = 5; "
                                       "INSERT INTO event SELECT position - 1, task, 2, 3, run, attempt, at, publisher, NULL "
                                       "FROM event WHERE task = 1 AND kind = 5; "
                                       "UPDATE task SET sequence = 4, attempts = 1 WHERE row = 1",
}
FIRST = "(SELECT id FROM assay.tasks WHERE eval_id = 'first')"
SECOND = "(SELECT id FROM assay.tasks WHERE eval_id = 'second')"
# What began and ended by one settlement is one row of events.
TWO_ROWS = ("INSERT INTO assay.events (xid, id, task_id, publisher, at, sequence, run, attempt, kind, data) SELECT xid, id - 1, task_id, "
            "publisher, began, sequence - 1, run, attempt, 1, began_data FROM assay.events WHERE began IS NOT NULL; "
            "UPDATE assay.events SET began = NULL, began_data = NULL, size = 1 WHERE began IS NOT NULL; ")
POSTGRES = {
    "a task lost": "DELETE FROM assay.tasks WHERE eval_id = 'first'",
    "an event lost": f"{TWO_ROWS}DELETE FROM assay.events WHERE task_id = {FIRST} AND sequence = 2",
    "the end lost": f"{TWO_ROWS}DELETE FROM assay.events WHERE task_id = {FIRST} AND kind = 5",
    "settled twice": "INSERT INTO assay.events (task_id, publisher, at, sequence, run, attempt, kind) SELECT task_id, publisher, at, "
                     f"sequence + 1, run, attempt, kind FROM assay.events WHERE task_id = {FIRST} AND kind = 5; "
                     "UPDATE assay.tasks SET sequence = sequence + 1 WHERE eval_id = 'first'",
    "settled otherwise": "UPDATE assay.tasks SET status = 'FAILED', reason = 1 WHERE eval_id = 'first'",
    "not ended": "UPDATE assay.tasks SET status = 'QUEUED', place = 1 WHERE eval_id = 'first'",
    "charged for nothing": "UPDATE assay.tasks SET attempts = 1 WHERE eval_id = 'first'",
    "run once more": "UPDATE assay.tasks SET run = 2 WHERE eval_id = 'first'",
    "output lost": f"DELETE FROM assay.output WHERE task_id = {SECOND}",
    "output twice": "INSERT INTO assay.output SELECT task_id, attempt, \"offset\" + 100, stream_offset + 100, stream, data "
                    f"FROM assay.output WHERE task_id = {SECOND}",
    "a tally wrong": "UPDATE assay.tenant_counts SET completed = completed + 1",
    "still locked": "UPDATE assay.tasks SET locked_by = 'x#1' WHERE eval_id = 'first'",
    "settled by one that had lost it": f"{TWO_ROWS}UPDATE assay.events SET sequence = 4 WHERE task_id = {FIRST} AND kind = 5; "
                                       "INSERT INTO assay.events (task_id, publisher, at, sequence, run, attempt, kind) SELECT task_id, "
                                       "publisher, at, 3, run, attempt, 2 FROM assay.events "
                                       f"WHERE task_id = {FIRST} AND kind = 5; "
                                       "UPDATE assay.tasks SET sequence = 4, attempts = 1 WHERE eval_id = 'first'",
}
PROGRAMS = {
    "first": Program({"executor": "noop", "code": ""}),
    "second": Program({"language": "bash", "code": "echo out"}, output=b"out\n"),
    "third": Program({"language": "bash", "code": "exit 1"}, "FAILED", "exit_code"),
}

# What a stopped service has left, and what its one client knows.
History = collections.namedtuple("History", "store records streamed")


def made_by(service):
    records = checker.Records()
    for name, program in PROGRAMS.items():
        told = service.call("POST", "/execute?wait=100", {**program.body, "eval_id": name}).json
        known = records.add(told["task_id"], told["job_name"], name, program)
        known.seen[1] = program.status
    service.stop()
    streamed = {(task, event.sequence): (event.kind, event.run, event.attempt)
                for task, events in checker.Book(service.store).events.items() for event in events}
    return History(service.store, records, [streamed])


@pytest.fixture(scope="module")
def service_flags():
    return ("--executors", "sandbox,noop")


@pytest.fixture(scope="module")
def history(service):
    return made_by(service)


def test_a_good_history_is_good(history):
    assert checker.check(*history) == []


@pytest.mark.parametrize("damage", SQLITE)
def test_damage_is_found(history, tmp_path, damage):
    copy = shutil.copy(history.store, tmp_path / "assay.db")
    with sqlite3.connect(copy) as database:
        database.executescript(SQLITE[damage])
    database.close()
    assert checker.check(copy, history.records)
    if "event" in SQLITE[damage]:
        assert checker.check(copy, history.records, history.streamed)


def test_damage_is_found_in_postgres(database, postgres, clusters):
    cluster = clusters(database, count=1).start()
    good = made_by(cluster.replicas[0])
    assert checker.check(*good) == []
    postgres.sql("CHECKPOINT")
    for name, damage in POSTGRES.items():
        with postgres.database(template=database.name) as copy:
            copy.sql(damage)
            assert checker.check(copy, good.records), name


def test_a_missing_event_of_the_stream_is_found(history):
    store, records, streamed = history
    without = dict(list(streamed[0].items())[1:])
    assert checker.check(store, records, [without])
    assert checker.check(store, records, [{**streamed[0], ("nobody", 1): ("queued", 1, 0)}])


def test_what_was_published_wrongly_is_found(history):
    store, records, streamed = history
    heard = list(streamed[0].items())
    assert checker.check(store, records, published=heard) == []
    assert checker.check(store, records, published=[*heard, *heard]) == []  # at least once
    assert checker.check(store, records, published=heard[1:])
    assert checker.check(store, records, published=[heard[1], heard[0], *heard[2:]])
    assert checker.check(store, records, published=[*heard, (("nobody", 1), ("queued", 1, 0))])
    assert checker.check(store, records, published=[*heard, (heard[0][0], ("queued", 1, 7))])
