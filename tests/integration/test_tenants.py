"""What tenants may have, through a real assayd: limits, where they are read from, and whose turn it is."""

import hashlib
import json
import os
import re
import signal

import pytest

import checker
from cluster import CALM
from service import follow

BIG, SMALL = "token-of-big", "token-of-small"
SLEEP = {"code": "import time\ntime.sleep(600)", "timeout": 900}
CODE = {"code": "1"}


def headers(token):
    return {"Authorization": "Bearer " + token}


def tokens_of(directory):
    """The flags for a file of the tokens of the tenants `big` and `small`."""
    tokens = directory / "tokens"
    tokens.write_text("".join(f"{hashlib.sha256(token.encode()).hexdigest()} {name} submit\n"
                              for token, name in ((BIG, "big"), (SMALL, "small"))))
    return "--tokens", str(tokens)


@pytest.fixture
def tenants(services, tmp_path):
    """tenants(yaml, *flags): a service with the tenants `big` and `small`, not yet started."""
    def make(text, *flags):
        (tmp_path / "tenants.yaml").write_text(text)
        return services(*tokens_of(tmp_path), "--tenants", str(tmp_path / "tenants.yaml"), *flags)
    return make


def test_a_file_that_makes_no_sense_is_refused_at_start(tenants):
    service = tenants("tenants: {big: {rates: 5}}", "--executors", "noop").launch()
    assert service.wait_end() != 0
    assert re.search(r'tenants\.yaml: tenant big: "rates" is none of queued, running, rate, weight', service.text())


def test_a_rate_is_kept_and_read_again(tenants, tmp_path):
    service = tenants("tenants: {big: {rate: 0.01}}", "--executors", "noop").start()
    with service.http(headers=headers(BIG)) as big, service.http(headers=headers(SMALL)) as small:
        first = big("POST", "/execute", CODE)
        assert first.status == 201
        refused = big("POST", "/execute/batch", [CODE])
        assert refused.status == 429, refused
        assert refused.headers["Content-Type"] == "application/problem+json"
        assert refused.json["type"] == "urn:assay:problem:too-many-requests"
        assert 1 <= int(refused.headers["Retry-After"]) <= 100
        task = first.json["task_id"]
        for path, body in (("/tasks", {"type": "test"}), (f"/tasks/{task}/run", None)):
            assert big("POST", path, body).status == 429
        # What submits nothing is free, and so are the others.
        assert big("GET", f"/status/{task}").status == 200
        assert all(small("POST", "/execute", CODE).status == 201 for _ in range(10))
        (tmp_path / "tenants.yaml").write_text("tenants: {big: {rate: nonsense}}")
        service.process.send_signal(signal.SIGHUP)
        service.wait_line("limits of tenants were not read again, the old ones hold")
        (tmp_path / "tenants.yaml").write_text("tenants: {}")
        service.process.send_signal(signal.SIGHUP)
        service.wait_line("limits of tenants were read again")
        assert all(big("POST", "/execute", CODE).status == 201 for _ in range(10))
        assert re.search(r'^assay_refused_by_limit_total\{limit="tenant_rate"\} 3$',
                         big("GET", "/metrics").body.decode(), re.M)


def test_a_tenant_waits_for_its_own_while_others_run(tenants):
    service = tenants("tenants: {big: {running: 1, queued: 2}}", "--sandbox-slots", "3").start()
    with service.http(headers=headers(BIG)) as big, service.http(headers=headers(SMALL)) as small:
        jobs = [big("POST", "/execute", SLEEP).json["job_name"] for _ in range(3)]
        full = big("POST", "/execute", SLEEP)
        assert full.status == 429 and full.json["type"] == "urn:assay:problem:queue-full"
        assert int(full.headers["Retry-After"]) > 0
        batch = big("POST", "/execute/batch", [SLEEP, SLEEP])
        assert [item["status"] for item in batch.json["results"]] == [429, 429]
        why = big("GET", f"/tasks/{jobs[1]}/why").json
        assert why["reason"] == "tenant_limit", why
        answer = small("POST", "/execute?wait=60", {"code": "print(1)"})
        assert answer.status == 200 and answer.json["phase"] == "succeeded"
        assert big("GET", f"/status/{jobs[1]}").json["phase"] == "queued"
        assert big("POST", f"/tasks/{jobs[0]}/cancel").status in (200, 202)
        for _, kind, _ in follow(service.url, f"/tasks/{jobs[1]}/events", headers=headers(BIG)):
            if kind == "running":
                break
        assert big("GET", f"/status/{jobs[2]}").json["phase"] == "queued"
        for job in jobs[1:]:
            big("POST", f"/tasks/{job}/cancel")


def bring_100000_and_one(big, small):
    """The first tenant brings 100,000, then the other one, which is waited for."""
    for _ in range(10):
        answer = big("POST", "/execute/batch", json.dumps([CODE] * 10000))
        assert answer.status == 200, answer
        assert {item["status"] for item in answer.json["results"]} == {201}
    answer = small("POST", "/execute?wait=100", CODE)
    assert answer.status == 200, answer


def test_who_has_100000_waiting_does_not_hold_up_who_has_one(tenants):
    service = tenants("", "--executors", "noop", "--noop-slots", "1").start()
    with service.http(headers=headers(BIG)) as big, service.http(headers=headers(SMALL)) as small:
        bring_100000_and_one(big, small)
    service.kill()
    with checker.connect(os.path.join(service.data, "assay.db")) as database:
        waiting = database.execute("SELECT count(*) FROM task WHERE tenant = 'big' AND status IN (0, 4)").fetchone()[0]
        queued, running = (database.execute(
            "SELECT e.position FROM event e JOIN task t ON t.row = e.task WHERE t.tenant = 'small' AND e.kind = ?",
            (kind,)).fetchone()[0] for kind in (0, 1))
        between = database.execute(
            "SELECT count(*) FROM event e JOIN task t ON t.row = e.task WHERE t.tenant = 'big' AND e.kind = 1 "
            "AND e.position BETWEEN ? AND ?", (queued, running)).fetchone()[0]
    assert waiting > 1000, "the big tenant's work was done before the small one came: nothing was shown"
    assert between < 300, between


def test_nor_where_replicas_share_the_queue(database, clusters, tmp_path):
    """One brings its work to one replica, the other to the other; both run what waits."""
    cluster = clusters(database, *CALM, *tokens_of(tmp_path), "--executors", "noop", "--noop-slots", "1").start()
    with cluster.replicas[0].http(headers=headers(BIG)) as big, cluster.replicas[1].http(headers=headers(SMALL)) as small:
        bring_100000_and_one(big, small)
    cluster.end()
    rows = database.sql("""
        SELECT count(*) FILTER (WHERE big.status IN ('QUEUED', 'RETRY')),
               count(*) FILTER (WHERE big.started_at BETWEEN small.created_at AND small.started_at),
               count(DISTINCT big.settled_by)
        FROM assay.tasks big, assay.tasks small WHERE big.tenant = 'big' AND small.tenant = 'small'""")
    waiting, between, replicas = map(int, rows.split("|"))
    assert replicas == 2, "one of them ran nothing"
    assert waiting > 1000, "the big tenant's work was done before the small one came: nothing was shown"
    assert between < 300, between
