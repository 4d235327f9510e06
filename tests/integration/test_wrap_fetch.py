"""assay-wrap as an init container that gets a plan which is too large for a Secret: from a listener that serves it, badly when
it is told to."""

import contextlib
import hashlib
import hmac
import http.server
import os
import stat
import subprocess
import threading

import pytest

from service import PATIENCE
from wrapped import WRAP, Attempt, Plan, program

FETCH = 8


class Server:
    """`ways`: how each request in turn is answered; then well."""

    def __init__(self, attempt, plan, ways=()):
        self.attempt, self.plan, self.ways, self.requests = attempt, plan, list(ways), 0
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                server.answer(self, self.rfile.read(int(self.headers["Content-Length"])))

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def answer(self, handler, body):
        self.requests += 1
        way = self.ways.pop(0) if self.ways else "well"
        frames = self.attempt.read(body)
        if way == "elsewhere" or handler.path != f"/attempts/{self.attempt.task}/{self.attempt.number}/plan":
            handler.send_response(421)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        assert [(frame.kind, frame.sequence, frame.payload) for frame in frames] == [(FETCH, 0, b"")]
        handler.send_response(200)
        handler.send_header("Assay-Signature", hmac.new(
            b"other" if way == "forged" else self.attempt.key, self.plan, hashlib.sha256).hexdigest())
        handler.send_header("Content-Length", str(len(self.plan)))
        handler.end_headers()
        handler.wfile.write(self.plan[:len(self.plan) // 2] if way == "cut" else self.plan)
        handler.close_connection = True


@contextlib.contextmanager
def serving(*arguments, **keywords):
    server = Server(*arguments, **keywords)
    try:
        yield server
    finally:
        server.http.shutdown()
        server.http.server_close()


def fetch(attempt, directory, *addresses, **environment):
    return subprocess.run(
        [WRAP, "--install", directory, "--fetch", directory], capture_output=True, check=False, timeout=PATIENCE,
        env={"ASSAY_WRAP_KEY": attempt.key.hex(), "ASSAY_WRAP_ATTEMPT": f"{attempt.task}/{attempt.number}",
             "ASSAY_WRAP_LISTENERS": ",".join(addresses), **environment})


@pytest.fixture
def attempt():
    return Attempt()


@pytest.fixture
def plan(attempt):
    return Plan(program("true"), files=[("large", os.urandom(3 << 20))]).encode(attempt, [], "/work")


def arrived(directory, plan):
    with open(directory / "plan", "rb") as file:
        assert file.read() == plan
    assert sorted(os.listdir(directory)) == ["assay-wrap", "plan"]
    assert stat.S_IMODE(os.stat(directory / "plan").st_mode) == 0o440


@pytest.mark.parametrize("ways", [[], ["forged"], ["cut", "elsewhere"]], ids=str)
def test_a_plan_is_fetched_whole_and_signed(attempt, plan, tmp_path, ways):
    with serving(attempt, plan, ways) as server:
        done = fetch(attempt, tmp_path, server.address)
        assert done.returncode == 0, done.stderr
        assert server.requests == len(ways) + 1
    arrived(tmp_path, plan)


def test_what_an_earlier_try_left_is_in_nobodys_way(attempt, plan, tmp_path):
    (tmp_path / "plan.new").symlink_to("/no/such/directory/plan")
    with serving(attempt, plan) as server:
        done = fetch(attempt, tmp_path, server.address)
        assert done.returncode == 0, done.stderr
    arrived(tmp_path, plan)


def test_the_second_address_may_be_the_one_that_has_it(attempt, plan, tmp_path):
    with serving(attempt, plan, ["elsewhere"] * 100) as first, serving(attempt, plan) as second:
        assert fetch(attempt, tmp_path, first.address, second.address).returncode == 0
        assert first.requests == 1 and second.requests == 1
    arrived(tmp_path, plan)


def test_an_empty_plan_is_one(attempt, tmp_path):
    with serving(attempt, b"") as server:
        assert fetch(attempt, tmp_path, server.address).returncode == 0
    arrived(tmp_path, b"")


@pytest.mark.parametrize("environment", [
    {"ASSAY_WRAP_KEY": "12"}, {"ASSAY_WRAP_ATTEMPT": "x/1"}, {"ASSAY_WRAP_ATTEMPT": "01934a00-0102-7003-8004-05060708090a/1x"},
])
def test_what_it_needs_must_be_there(attempt, tmp_path, environment):
    assert fetch(attempt, tmp_path, "127.0.0.1:1", **environment).returncode == 2


@pytest.mark.parametrize("listeners", ["", "localhost:80", "127.0.0.1:1,127.0.0.1:2,127.0.0.1:3"])
def test_addresses_must_be_addresses(attempt, tmp_path, listeners):
    failed = fetch(attempt, tmp_path, listeners)
    assert failed.returncode == 1 and b"not an address" in failed.stderr
