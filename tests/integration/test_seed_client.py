"""A Celery client that was written for the service's HTTP API, run as it stands (seed_client/tasks.py): its worker submits, follows by polling,
fetches the logs and publishes what became of it. Broker, worker and service are real; only the names that the client's file
leaves undefined are given (seed_client/worker.py)."""

import json
import os
import subprocess

import pytest
import redis as redis_client
from service import PATIENCE, clean_environment

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "seed_client")
CHANNEL = "client:done"


@pytest.fixture
def client(redis, services, tmp_path):
    """run(eval_id, code): what the client publishes of it. Service events go to the same Redis, on channels of their own."""
    service = services("--sandbox-slots", "2", REDIS_URL=redis.url).start()
    environment = clean_environment(CLIENT_REDIS_URL=redis.url, DISPATCHER_SERVICE_URL=service.url, CLIENT_CHANNEL=CHANNEL,
                                    PYTHONPATH=HERE)
    with open(tmp_path / "worker.log", "w+", encoding="utf-8") as log:
        worker = subprocess.Popen(["/usr/bin/python3", "-m", "celery", "-A", "worker", "worker", "--pool=threads",
                                   "--concurrency=4", "--without-mingle", "--without-gossip", "--loglevel=INFO"],
                                  cwd=tmp_path, env=environment, stdout=log, stderr=subprocess.STDOUT)
        connection = redis_client.Redis.from_url(redis.url, socket_timeout=PATIENCE)
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

        try:
            yield run
        finally:
            worker.terminate()
            worker.wait(PATIENCE)
            connection.close()


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
