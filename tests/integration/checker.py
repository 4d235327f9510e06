"""Proves from what clients wrote down and from the store itself that nothing was lost and nothing was done twice.

It asks the service nothing: a store is the path of SQLite's file, or a servers.Database of PostgreSQL that psql reads. The
numbers of statuses, reasons and kinds are those of include/assay/task.h, which the schemas (src/store) say are never
renumbered."""

import collections
import contextlib
import json
import os
import sqlite3
import threading
import uuid

STATUSES = ["QUEUED", "RUNNING", "COMPLETED", "FAILED", "RETRY", "CANCELLED"]
KINDS = ["queued", "running", "retrying", "test", "stage", "completed", "failed", "cancelled"]
TERMINAL = {"completed": "COMPLETED", "failed": "FAILED", "cancelled": "CANCELLED"}
REASONS = [None, "exit_code", "signal", "compile_error", "timeout", "out_of_memory", "output_limit", "process_limit",
           "disk_limit", "tests_failed", "evicted", "preempted", "deleted", "node_lost", "executor_lost", "image_pull",
           "start_timeout", "api_error", "worker_crash", "cancelled", "max_attempts"]
ENDED = ("COMPLETED", "FAILED", "CANCELLED")
PLACES = {"QUEUED": (1, 2), "RETRY": (1, 2), "RUNNING": (3,), "COMPLETED": (0,), "FAILED": (0,), "CANCELLED": (0,)}

Row = collections.namedtuple("Row", "row id status place run attempt attempts max_attempts sequence eval_id reason "
                                    "locked_by cancel_requested_at executor")
Event = collections.namedtuple("Event", "position kind sequence run attempt publisher")


def task_id_of(job):
    """The id in a job's name: its 128 bits are 26 digits of 5."""
    number = 0
    for letter in job[5:31]:
        number = number << 5 | "abcdefghijklmnopqrstuvwxyz234567".index(letter)
    return str(uuid.UUID(int=number >> 2))


class Accepted:
    """What a client knows of one task that it was answered 2xx for. `states`, `reason` and `output` are what running it to the
    end must lead to; `cancel` is None, "maybe" (asked, no answer), "asked" (202) or "done" (200)."""

    def __init__(self, task_id, job_name, eval_id, program):
        self.task_id, self.job_name, self.eval_id, self.program = task_id, job_name, eval_id, program
        self.cancel = None
        self.runs_sure = 1  # opened for certain
        self.runs_perhaps = 0  # asked for, the answer was lost
        self.seen = {}  # run: the terminal status that this client was told


class Records:
    """Written by the clients' threads."""

    def __init__(self):
        self.lock = threading.Lock()
        self.accepted = {}  # task id: Accepted
        self.perhaps_without_key = 0  # submissions without a key whose answer was lost: each may have made one task
        self.unanswered = set()  # eval_ids whose answer was lost and that were not asked for again
        self.contradictions = []  # answers that should never have been

    def add(self, task_id, job_name, eval_id, program):
        """Notes a 2xx, also a repeated one; the record."""
        with self.lock:
            known = self.accepted.setdefault(task_id, Accepted(task_id, job_name, eval_id, program))
            if (known.job_name, known.eval_id) != (job_name, eval_id):
                self.contradictions.append(f"{task_id} was {known.job_name}/{known.eval_id}, is {job_name}/{eval_id}")
            return known

    def contradiction(self, text):
        with self.lock:
            self.contradictions.append(text)


def connect(path):
    """Reads only; while the service runs as well as when it does not."""
    return contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=60))


# One JSON object a line, all of one point in time; what a line is of stands first.
POSTGRES = """
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT 'task', json_build_array(id, id, status, place, run, attempt, attempts, max_attempts, sequence, eval_id, reason,
	locked_by, cancel_requested_at, executor) FROM assay.tasks;
SELECT 'event', json_build_array(m.id, t.id IS NULL, e.xid::text || '/' || m.event_id, m.kind, m.sequence, e.run, e.attempt, e.publisher)
	FROM assay.events e, LATERAL (
		SELECT e.task_id AS id, 1 AS number, e.id AS event_id, e.kind, e.sequence WHERE e.size = 1 OR e.began IS NOT NULL
		UNION ALL SELECT e.task_id, 1, e.id - 1, 1::smallint, e.sequence - 1 WHERE e.began IS NOT NULL
		UNION ALL SELECT o.id, o.number, e.id - e.size + o.number, e.kind, e.sequence
		FROM unnest(e.task_id || e.others) WITH ORDINALITY AS o (id, number) WHERE e.size > 1 AND e.began IS NULL) m
	LEFT JOIN assay.tasks t ON t.id = m.id
	WHERE m.number = 1 OR t.id IS NOT NULL ORDER BY m.id, m.sequence;
SELECT 'output', json_build_array(task_id, attempt, stream, encode(data, 'hex')) FROM assay.output
	ORDER BY task_id, attempt, "offset";
SELECT 'tally', json_build_array(sum(queued), sum(running), sum(completed), sum(failed), sum(retry), sum(cancelled))
	FROM assay.tenant_counts HAVING count(*) > 0;
COMMIT;
"""


def unfinished(store):
    """How many tasks have not ended, by the rows themselves."""
    if not isinstance(store, (str, os.PathLike)):
        return int(store.sql("SELECT count(*) FROM assay.tasks WHERE status IN ('QUEUED', 'RUNNING', 'RETRY')"))
    with connect(store) as database:
        return database.execute("SELECT count(*) FROM task WHERE status NOT IN (2, 3, 5)").fetchone()[0]


class Book:
    """The whole store, read at one point in time."""

    def __init__(self, store):
        self.damage = []
        self.rows = {}
        self.events = collections.defaultdict(list)
        self.strays = []
        self.output = collections.defaultdict(bytes)
        self.tallies = collections.Counter()
        if isinstance(store, (str, os.PathLike)):
            self._read_sqlite(store)
        else:
            self._read_postgres(store)

    def _read_sqlite(self, path):
        with connect(path) as database:
            database.execute("BEGIN")
            self.damage = [row[0] for row in database.execute("PRAGMA integrity_check") if row[0] != "ok"]
            for row in database.execute(
                    "SELECT row, id, status, place, run, attempt, attempts, max_attempts, sequence, eval_id, reason, "
                    "locked_by, cancel_requested_at, executor FROM task"):
                task = Row(row[0], str(uuid.UUID(bytes=row[1])), STATUSES[row[2]], *row[3:10], REASONS[row[10]], *row[11:])
                self.rows[task.id] = task
            by_row = {task.row: task.id for task in self.rows.values()}
            for row in database.execute(
                    "SELECT task, position, kind, sequence, run, attempt, publisher FROM event ORDER BY position"):
                if row[0] in by_row:
                    self.events[by_row[row[0]]].append(Event(row[1], KINDS[row[2]], *row[3:]))
                else:
                    self.strays.append(row)
            for row in database.execute("SELECT task, attempt, stream, data FROM output ORDER BY task, attempt, offset"):
                self.output[by_row.get(row[0]), row[1], row[2]] += row[3]
            for row in database.execute("SELECT queued, running, completed, failed, retry, cancelled FROM tenant"):
                self.tallies.update(dict(zip(STATUSES, row)))

    def _read_postgres(self, database):
        for line in database.sql(POSTGRES).splitlines():
            word, _, row = line.partition("|")
            row = json.loads(row)
            if word == "task":
                self.rows[row[0]] = Row(*row[:10], REASONS[row[10]], *row[11:])
            elif word == "event" and row[1]:
                self.strays.append(row)
            elif word == "event":
                self.events[row[0]].append(Event(row[2], KINDS[row[3]], *row[4:]))
            elif word == "output":
                self.output[row[0], row[1], row[2]] += bytes.fromhex(row[3])
            else:
                self.tallies.update(dict(zip(STATUSES, row)))

    def keys(self):
        """(task, sequence) of every event."""
        return {(task, event.sequence) for task, events in self.events.items() for event in events}


def faults_of_history(task, events):
    """What is wrong with one row and its events, whoever submitted it."""
    def fault(text):
        found.append(f"{task.id}: {text}; {task}; {[(e.kind, e.sequence, e.run, e.attempt) for e in events]}")

    found = []
    if task.status not in ENDED:
        fault("has not ended")
    if task.place not in PLACES[task.status]:
        fault("stands in the wrong place")
    if task.status in ENDED and task.locked_by is not None:
        fault("has ended and is locked")
    if [event.sequence for event in events] != list(range(1, len(events) + 1)):
        fault("its events are not numbered 1, 2, 3…")
    if task.sequence != len(events):
        fault("its row does not know its last event")
    if [event.run for event in events] != sorted(event.run for event in events):
        fault("its runs are mixed")
    if [event.attempt for event in events] != sorted(event.attempt for event in events):
        fault("its attempts are mixed")
    for run in range(1, task.run + 1):
        kinds = [event.kind for event in events if event.run == run]
        ends = [kind for kind in kinds if kind in TERMINAL]
        if not kinds or kinds[0] != "queued" or kinds.count("queued") != 1:
            fault(f"run {run} does not begin with the one queued")
        elif run < task.run or task.status in ENDED:
            if len(ends) != 1:
                fault(f"run {run} has {len(ends)} terminal events")
            elif kinds[-1] not in TERMINAL:
                fault(f"run {run} went on after its end")
            elif run == task.run and TERMINAL[ends[0]] != task.status:
                fault("row and last event disagree")
    if events and events[-1].run > task.run:
        fault("there are events of a run that there is not")
    starts = collections.Counter((event.run, event.attempt) for event in events if event.kind == "running")
    if any(count > 1 for count in starts.values()):
        fault("an attempt started twice")
    lost = {}  # run: the last attempt that was given up
    for event in events:
        # A waiting task that is cancelled has no attempt of its own.
        if event.attempt <= lost.get(event.run, -1) and event.kind != "cancelled":
            fault(f"attempt {event.attempt} went on after it was given up")
        if event.kind == "retrying":
            lost[event.run] = event.attempt
    charged = sum(event.kind == "retrying" for event in events) + (task.reason == "max_attempts")
    if task.attempts != charged:
        fault(f"{charged} failures were told, {task.attempts} charged")
    if task.attempt > 0 and task.attempts > task.attempt:
        fault("more failures than attempts")
    return found


def faults_of_outcome(known, task, book):
    """What is wrong between what a client knows of a task and its row."""
    program = known.program
    found = []

    def fault(text):
        found.append(f"{task.id}: {text}; {task}; {vars(known)}")

    if task.eval_id != known.eval_id:
        fault("bears another eval_id")
    if not known.runs_sure <= task.run <= known.runs_sure + known.runs_perhaps:
        fault(f"was run {task.run} times")
    natural = task.status == program.status and task.reason == program.reason
    cancelled = task.status == "CANCELLED" and task.reason == "cancelled"
    # Asked to end while it ran, it may have ended by itself first; what never ends by itself must have been killed.
    allowed = {None: natural, "maybe": natural or cancelled, "asked": cancelled or (natural and not program.endless),
               "done": cancelled or task.run > known.runs_sure}[known.cancel]
    if not allowed:
        fault(f"ended as {task.status}, {task.reason}")
    if natural and program.output is not None:
        output = book.output[task.id, task.attempt, 1]
        if output != program.output:
            fault(f"{len(output)} bytes of output, {output[:200]!r}, where {program.output[:200]!r} was to come")
    for run, status in known.seen.items():
        ends = [TERMINAL[e.kind] for e in book.events[task.id] if e.run == run and e.kind in TERMINAL]
        if ends != [status]:
            fault(f"the client was told that run {run} ended as {status}, the events say {ends}")
    return found


def faults_of_stream(book, seen, whole=True):
    """What a follower of all events has been told, (task id, sequence) to (kind, run, attempt), and what is kept; `whole`: it
    must have been told everything."""
    kept = {(task, event.sequence): (event.kind, event.run, event.attempt)
            for task, events in book.events.items() for event in events}
    found = [f"the stream never told {key} {kept[key]}" for key in kept.keys() - seen.keys() if whole]
    return found + [f"the stream told {key} {seen[key]}, the store has {kept.get(key)}"
                    for key in seen if kept.get(key) != seen[key]]


def faults_of_published(book, heard):
    """What a subscriber of Redis has heard, as pairs of (task id, sequence) and (kind, run, attempt) in the order they came:
    every event at least once, none that was not committed, and what one incarnation publishes of a task in order. Those of
    different incarnations come over different connections, which nothing puts into an order."""
    found = [f"on Redis: {text}; of that task were heard {[key[1] for key, _ in heard if key[0] in text]}, the store has "
             f"{[(e.sequence, e.kind, e.publisher) for task, events in book.events.items() if task in text for e in events]}"
             for text in faults_of_stream(book, dict(heard))]
    publisher = {(task, event.sequence): event.publisher for task, events in book.events.items() for event in events}
    told = {}
    newest = collections.Counter()
    for key, value in heard:
        if told.setdefault(key, value) != value:
            found.append(f"{key} was published as {told[key]} and as {value}")
    for key in told:  # in the order of their first coming
        task, sequence = key
        by = task, publisher.get(key)
        if sequence < newest[by]:
            found.append(f"{key} was first published after {newest[by]} of the same task by the same incarnation")
        newest[by] = max(newest[by], sequence)
    return found


def check(store, records, streams=(), published=None, whole_streams=True):
    """All that is wrong, as a list of sentences. `streams`: of each follower of all events what it has seen over all its
    connections; `published`: what a subscriber of Redis has heard."""
    book = Book(store)
    found = list(records.contradictions) + [f"the file is damaged: {text}" for text in book.damage]
    found += [f"an event without a task: {row}" for row in book.strays]
    for task in book.rows.values():
        found += faults_of_history(task, book.events[task.id])
    for known in records.accepted.values():
        task = book.rows.get(known.task_id)
        found += faults_of_outcome(known, task, book) if task else [f"lost: {vars(known)}"]
    keys = collections.Counter(task.eval_id for task in book.rows.values() if task.eval_id)
    found += [f"{count} tasks bear the eval_id {key}" for key, count in keys.items() if count > 1]
    strangers = [task for task in book.rows.values() if task.id not in records.accepted]
    keyless = sum(task.eval_id is None for task in strangers)
    if keyless > records.perhaps_without_key:
        found.append(f"{keyless} tasks that nobody was told of, of at most {records.perhaps_without_key}")
    found += [f"nobody submitted {task}" for task in strangers
              if task.eval_id is not None and task.eval_id not in records.unanswered]
    counted = collections.Counter(task.status for task in book.rows.values())
    if any(book.tallies[status] != counted[status] for status in STATUSES):
        found.append(f"the tenants' tallies say {dict(book.tallies)}, the rows {dict(counted)}")
    if published is not None:
        found += faults_of_published(book, published)
    for number, seen in enumerate(streams):
        found += [f"follower {number}: {text}" for text in faults_of_stream(book, seen, whole_streams)]
    return found
