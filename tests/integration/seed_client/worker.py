"""The Celery application of a client as its authors run it: what their tasks leave undefined is defined here, and then their file is
executed as it stands. Everything around comes from the environment: CLIENT_REDIS_URL (their broker and their own keys),
DISPATCHER_SERVICE_URL (the service), CLIENT_CHANNEL (where they publish)."""

import json
import logging
import os

import httpx  # noqa: F401 (a name of their tasks)
import redis
from celery import Celery

REDIS_URL = os.environ["CLIENT_REDIS_URL"]
DISPATCHER_URL = os.environ.get("DISPATCHER_SERVICE_URL", "http://dispatcher-service:8090")

app = Celery("worker", broker=REDIS_URL, backend=REDIS_URL)
logger = logging.getLogger("client")
redis_client = redis.Redis.from_url(REDIS_URL)


def publish_evaluation_completed(eval_id, success, output=None, error=None):
    redis_client.publish(os.environ["CLIENT_CHANNEL"],
                         json.dumps({"eval_id": eval_id, "success": success, "output": output, "error": error}))


with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "tasks.py"), encoding="utf-8") as file:
    exec(compile(file.read(), file.name, "exec"))
