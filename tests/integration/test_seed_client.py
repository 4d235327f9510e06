"""A Celery client that was written for the service's HTTP API, run as it stands (seed_client/tasks.py): its worker submits, follows by polling,
fetches the logs and publishes what became of it. Broker, worker and service are real; only the names that the client's file
leaves undefined are given (seed_client/worker.py). The service is two replicas on PostgreSQL."""

import contextlib
import hashlib
import json
import os
import subprocess

import pytest
import redis as redis_client
from cluster import CALM, SLOTS
from service import PATIENCE, clean_environment

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "seed_client")
CHANNEL = "client:done"


@pytest.fixture
def clients_of(redis, database, clusters, tmp_path):
    """clients_of(*flags, …): run(eval_id, code, …), what the client publishes of it, and the cluster. It speaks with one of two
    replicas. Service events go to the same Redis, on channels of their own; they come from whichever replica runs it."""
    with contextlib.ExitStack() as stack:
        def make(*flags, **more):
            cluster = clusters(database, *CALM, *flags, redis=redis, **more).start()
            environment = clean_environment(CLIENT_REDIS_URL=redis.url, DISPATCHER_SERVICE_URL=cluster.replicas[0].url,
                                            CLIENT_CHANNEL=CHANNEL, PYTHONPATH=HERE)
            log = stack.enter_context(open(tmp_path / "worker.log", "w+", encoding="utf-8"))
            worker = subprocess.Popen(["/usr/bin/python3", "-m", "celery", "-A", "worker", "worker", "--pool=threads",
                                       "--concurrency=4", "--without-mingle", "--without-gossip", "--loglevel=INFO"],
                                      cwd=tmp_path, env=environment, stdout=log, stderr=subprocess.STDOUT)
            stack.callback(worker.wait, PATIENCE)
            stack.callback(worker.terminate)
            connection = stack.enter_context(redis_client.Redis.from_url(redis.url, socket_timeout=PATIENCE))
            done = connection.pubsub(ignore_subscribe_messages=True)
            done.subscribe(CHANNEL, "evaluation:completed", "evaluation:failed")

            def run(eval_id, *arguments):
                send = "import sys, worker; worker.run_evaluation.delay(*sys.argv[1:])"
                subprocess.run(["/usr/bin/python3", "-c", send, eval_id,
                                *arguments], env=environment, check=True, timeout=PATIENCE)
                theirs = ours = None
                for message in done.listen():
                    payload = json.loads(message["data"])
                    if payload["eval_id"] != eval_id:
                        continue
                    if message["channel"].decode() == CHANNEL:
                        theirs = payload
                    else:
                        ours = payload
                    if theirs and ours:
                        return theirs, ours, connection

            return run, cluster

        yield make


@pytest.fixture
def client(clients_of):
    return clients_of()[0]


def test_the_client_follows_its_evaluation_to_the_end(client):
    theirs, ours, connection = client("seed-1", "print(6 * 7)")
    assert theirs == {"eval_id": "seed-1", "success": True, "output": "42\n", "error": None}
    assert (ours["kind"], ours["output"], ours["exit_code"]) == ("completed", "42\n", 0)
    assert connection.get("eval:seed-1:job").decode() == ours["job_name"]


def test_the_client_hears_of_a_failure(client):
    theirs, ours, _ = client("seed-2", "import sys; sys.exit(3)")
    assert theirs == {"eval_id": "seed-2", "success": False, "output": None, "error": "Job failed"}
    assert (ours["kind"], ours["exit_code"]) == ("failed", 3)


def test_the_client_names_its_language(client):
    theirs, _, _ = client("seed-3", "echo from bash", "bash")
    assert theirs["output"] == "from bash\n"


def test_what_the_client_brings_is_run_by_the_other_replica(clients_of):
    """That one alone has a slot free."""
    run, cluster = clients_of()
    asked, other = cluster.replicas
    jobs = [asked.call("POST", "/execute", {"language": "bash", "code": "sleep 600", "timeout": 900}).json["job_name"]
            for _ in range(2 * SLOTS)]
    owners = [cluster.owner(job) for job in jobs]
    assert owners.count(other) == SLOTS
    freed = jobs[owners.index(other)]
    assert asked.call("POST", f"/tasks/{freed}/cancel").status == 202
    theirs, ours, _ = run("seed-4", "print(6 * 7)")
    assert theirs == {"eval_id": "seed-4", "success": True, "output": "42\n", "error": None}
    assert ours["replica"].split("#")[0] == other.name, ours
    cluster.end()


def test_the_client_brings_no_token_where_others_do(clients_of, tmp_path):
    """What it brings belongs to the tenant of all who bring none."""
    token = "token-of-somebody"
    (tmp_path / "tokens").write_text(f"{hashlib.sha256(token.encode()).hexdigest()} somebody submit\n")
    run, cluster = clients_of(ASSAY_TOKENS_FILE=str(tmp_path / "tokens"), ASSAY_ANONYMOUS_ROLE="submit",
                              ASSAY_ANONYMOUS_FROM="127.0.0.0/8")
    theirs, ours, _ = run("seed-5", "print(6 * 7)")
    assert theirs == {"eval_id": "seed-5", "success": True, "output": "42\n", "error": None}
    path = f"/status/{ours['job_name']}"
    for replica in cluster.replicas:
        assert replica.call("GET", path).status == 200
        assert replica.call("GET", path, headers={"Authorization": "Bearer " + token}).status == 404
        assert replica.call("GET", path, headers={"Authorization": "Bearer another"}).status == 401
