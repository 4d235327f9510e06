"""That the bare programs, which the benches measure the service against, still do what the service does: they use its statements and
libraries, and nothing else would notice that one has fallen behind. Nothing is timed here."""

import os
import re
import subprocess
import urllib.request

import pytest

import servers
from service import BUILD

PROGRAMS = os.path.join(BUILD, "tests", "bench")
PATIENCE_S = 120


# They free nothing when they end.
ENVIRONMENT = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}


def ran(program, *arguments):
    """What it printed, when it ended well."""
    done = subprocess.run([os.path.join(PROGRAMS, program), *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=PATIENCE_S, check=False, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def serving():
    """serving(program, …): its port; it is killed when the test is over."""
    running = []

    def start(program, *arguments):
        running.append(subprocess.Popen([os.path.join(PROGRAMS, program), *map(str, arguments)], stdout=subprocess.PIPE, text=True))
        return int(running[-1].stdout.readline())

    yield start
    for process in running:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("mode, counts", [
    ("submit", {"QUEUED": 60}),
    ("life", {"COMPLETED": 60}),
    ("burn", {"COMPLETED": 60}),
    ("latency", {"QUEUED": 60}),
])
def test_bare_postgres_leaves_what_the_service_would(database, mode, counts):
    alone = mode == "latency"
    assert re.search(r"rows/s=[\d.]+ p50_ms=[\d.]+ p99_ms=[\d.]+", ran("bare-postgres", database.socket_url, mode, 1 if alone else 2,
                     1 if alone else 15, 60))
    rows = database.sql("SELECT status, count(*) FROM assay.tasks GROUP BY 1").split()
    assert dict(line.split("|") for line in rows) == {status: str(count) for status, count in counts.items()}
    ends = 60 if "COMPLETED" in counts else 0
    assert database.sql("SELECT count(*) FROM assay.events WHERE kind = 5") == str(ends)
    assert database.sql("SELECT sum(size) FROM assay.events WHERE kind = 0") == "60"


def test_bare_sqlite_writes_its_rows(tmp_path):
    assert re.search(r"rows/s=[\d.]+ p50_us=[\d.]+", ran("bare-sqlite", tmp_path, 10, 50))


def test_bare_http_answers(serving):
    port = serving("bare_http")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/status/x", timeout=PATIENCE_S) as answer:
        assert answer.status == 200
        assert answer.read()


def test_bare_fanout_gives_each_follower_everything(serving):
    port = serving("bare_fanout", 5, 4, 500)
    told = ran("followers", port, "/", 5, "2000b")
    assert re.search(r"bytes=10000 ", told), told


def test_bare_redis_hears_what_it_publishes():
    with servers.Redis() as redis:  # of its own: it counts who hears it
        assert re.search(r"p99_ms=[\d.]+", ran("bare_redis", f"127.0.0.1:{redis.port}", redis.password, 20, 200))


def test_bare_launch_launches():
    assert re.search(r"[\d.]+ /s, p50 [\d.]+ ms", ran("bare_launch", "-c", 1, "-n", 3, os.path.join(BUILD, "assay-launch"), "/usr/bin/true"))
