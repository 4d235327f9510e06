"""The checker finds what it is there to find: each of these damages to a good history is told."""

import os
import shutil
import sqlite3

import pytest

import checker
from clients import Program

DAMAGES = {
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
}


@pytest.fixture(scope="module")
def service_flags():
    return ("--executors", "sandbox,noop")


@pytest.fixture(scope="module")
def history(service):
    """A stopped service's file, with what its one client knows."""
    records, streamed = checker.Records(), {}
    programs = {
        "first": Program({"executor": "noop", "code": ""}),
        "second": Program({"language": "bash", "code": "echo out"}, output=b"out\n"),
        "third": Program({"language": "bash", "code": "exit 1"}, "FAILED", "exit_code"),
    }
    for name, program in programs.items():
        told = service.call("POST", "/execute?wait=100", {**program.body, "eval_id": name}).json
        known = records.add(told["task_id"], told["job_name"], name, program)
        known.seen[1] = program.status
    service.stop()
    path = os.path.join(service.data, "assay.db")
    for task, events in checker.Book(path).events.items():
        streamed.update({(task, event.sequence): (event.kind, event.run, event.attempt) for event in events})
    return path, records, [streamed]


def test_a_good_history_is_good(history):
    assert checker.check(*history) == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found(history, tmp_path, damage):
    path, records, streamed = history
    copy = shutil.copy(path, tmp_path / "assay.db")
    with sqlite3.connect(copy) as database:
        database.executescript(DAMAGES[damage])
    database.close()
    assert checker.check(copy, records)
    if "event" in DAMAGES[damage]:
        assert checker.check(copy, records, streamed)


def test_a_missing_event_of_the_stream_is_found(history):
    path, records, streamed = history
    without = dict(list(streamed[0].items())[1:])
    assert checker.check(path, records, [without])
    assert checker.check(path, records, [{**streamed[0], ("nobody", 1): ("queued", 1, 0)}])


def test_what_was_published_wrongly_is_found(history):
    path, records, streamed = history
    heard = list(streamed[0].items())
    assert checker.check(path, records, published=heard) == []
    assert checker.check(path, records, published=[*heard, *heard]) == []  # at least once
    assert checker.check(path, records, published=heard[1:])
    assert checker.check(path, records, published=[heard[1], heard[0], *heard[2:]])
    assert checker.check(path, records, published=[*heard, (("nobody", 1), ("queued", 1, 0))])
    assert checker.check(path, records, published=[*heard, (heard[0][0], ("queued", 1, 7))])
