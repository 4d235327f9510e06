"""Transactions that stay open beside the service, in another database or another table: no follower waits for them, is
told of everything again for their sake, or loses anything."""

import collections
import contextlib
import http.client
import json
import socket
import subprocess
import threading

import pytest

import checker
from clients import patient_until
from cluster import CALM
from service import PATIENCE, follow

# Events that may come twice: those of a few transactions, and what is on its way while a stream begins to follow.
REPEATS = 100
NOOP = {"executor": "noop", "code": ""}


@pytest.fixture(params=["redis", "no redis"])
def bus(request):
    return request.getfixturevalue("redis") if request.param == "redis" else None


@contextlib.contextmanager
def transaction(url, work):
    """A session with a transaction that has written, and is not ended."""
    with subprocess.Popen(["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", url], text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as psql:
        psql.stdin.write(f"BEGIN; {work}; SELECT 'open';\n")
        psql.stdin.flush()
        assert psql.stdout.readline() == "open\n"
        yield
        psql.stdin.write("ROLLBACK;\n")
        psql.stdin.close()


@pytest.fixture(params=["another database", "another table"])
def foreign(request, database):
    if request.param == "another table":
        with transaction(database.url, "CREATE TABLE of_somebody (n integer)"):
            yield
    else:
        with database.server.database() as other, transaction(other.url, "CREATE TABLE of_somebody (n integer)"):
            yield


def kept(database):
    return checker.Book(database).keys()


def run_noops(replica, count):
    """One after the other: each is some transactions."""
    for _ in range(count):
        answer = replica.call("POST", "/execute?wait=100", NOOP)
        assert answer.json["phase"] == "succeeded", answer


class Told:
    """A thread that writes down what a stream of durable events tells."""

    def __init__(self, url, path, last=None):
        self.counts = collections.Counter()
        self.last = last
        self.news = threading.Condition()
        threading.Thread(target=self._follow, args=(url, path), daemon=True).start()

    def _follow(self, url, path):
        for cursor, _, data in follow(url, path, self.last):
            with self.news:
                self.last = cursor or self.last
                self.counts[data["task_id"], data["sequence"]] += 1
                self.news.notify_all()

    def wait(self, keys):
        with self.news:
            self.news.wait_for(lambda: keys <= self.counts.keys(), PATIENCE)
        assert keys <= self.counts.keys(), f"{len(keys - self.counts.keys())} of {len(keys)} were not told"

    def repeats(self):
        return sum(self.counts.values()) - len(self.counts)


def test_followers_at_the_other_replica(database, clusters, bus, foreign):
    cluster = clusters(database, *CALM, redis=bus).start()
    first, second = cluster.replicas
    run_noops(first, 60)
    before = kept(database)
    early = Told(second.url, "/events?cursor=0&kind=queued,running,completed")
    early.wait(before)
    run_noops(first, 30)
    # Who comes now, and asks for nothing older, is not told the past.
    late = Told(second.url, "/events?kind=queued,running,completed")
    patient_until(lambda: run_noops(first, 1) or late.counts)
    run_noops(first, 60)
    early.wait(kept(database))
    tasks = set(database.sql("SELECT id FROM assay.tasks ORDER BY id DESC LIMIT 60").split())
    late.wait({key for key in kept(database) if key[0] in tasks})
    assert early.repeats() <= REPEATS, early.repeats()
    assert late.repeats() <= REPEATS, late.repeats()
    assert len(late.counts.keys() & before) <= REPEATS
    # Neither is told everything again when it comes back.
    for last in (early.last, late.last):
        again = Told(second.url, "/events?kind=queued,running,completed", last)
        answer = first.call("POST", "/execute?wait=100", NOOP)
        again.wait({(answer.json["task_id"], 1)})
        assert len(again.counts.keys() & before) == 0


def test_a_client_that_comes_back_again_and_again(database, clusters, bus, foreign):
    """With a cursor of one replica to the other, every few events: it comes to the end."""
    cluster = clusters(database, *CALM, redis=bus).start()
    run_noops(cluster.replicas[0], 100)
    counts, last, hops = collections.Counter(), None, 0
    keys = kept(database)
    while keys - counts.keys():
        assert hops < len(keys), f"{len(keys - counts.keys())} of {len(keys)} were not told"
        replica = cluster.replicas[hops % 2]
        hops += 1
        told = follow(replica.url, "/events" if last else "/events?cursor=0", last)
        for _ in range(40):
            cursor, _, data = next(told)
            last = cursor or last
            if "sequence" in data:
                counts[data["task_id"], data["sequence"]] += 1
            if not keys - counts.keys():
                break
        told.close()
    assert hops <= len(keys) // 20, hops


def test_a_slow_follower(database, clusters, foreign):
    """It reads nothing until more than any buffer holds has happened, and then everything. What came live and is read once more when it
    falls behind may come twice."""
    cluster = clusters(database, *CALM).start()
    first, second = cluster.replicas
    connection = http.client.HTTPConnection(second.listen, timeout=PATIENCE)
    connection.sock = socket.socket()
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.sock.settimeout(PATIENCE)
    connection.sock.connect((connection.host, connection.port))
    with contextlib.closing(connection):
        connection.request("GET", "/events?cursor=0&kind=queued,running,completed")
        stream = connection.getresponse()
        assert stream.status == 200
        code = "head -c 60000 /dev/zero | tr '\\0' x; head -c 60000 /dev/zero | tr '\\0' y >&2"
        items = [{"language": "bash", "code": code} for _ in range(60)]
        results = first.call("POST", "/execute/batch", items).json["results"]
        run_noops(first, 50)
        for result in results:
            first.wait_status(result["job_name"], "succeeded")
        keys, counts = kept(database), collections.Counter()
        while keys - counts.keys():
            line = stream.readline()
            assert line, "the stream ended"
            if line.startswith(b"data: "):
                data = json.loads(line[len(b"data: "):])
                counts[data["task_id"], data["sequence"]] += 1
    assert sum(counts.values()) <= 2 * len(counts), (sum(counts.values()), len(counts))
