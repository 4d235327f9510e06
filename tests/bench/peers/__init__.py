"""The queues that the service is measured against: installed from npm in the versions that package.json names, into a cache
outside of the tree, and Celery as the distribution has it. Each runs with its best documented settings, which its own file
names, against a private server that is as durable as ours."""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile

import servers

SOURCE = os.path.dirname(os.path.abspath(__file__))
POSTGRES = ("graphile-worker", "pg-boss")
REDIS = ("bullmq", "celery")
ALL = POSTGRES + REDIS
REDIS_CONFIG = ("appendonly yes", "appendfsync always")
PATIENCE_S = 600


def installed():
    """The directory that holds the packages and our scripts beside them, where Node.js looks for what they import."""
    parts = []
    for name in sorted(os.listdir(SOURCE)):
        if name.endswith((".mjs", ".json")):
            with open(os.path.join(SOURCE, name), "rb") as file:
                parts.append((name, file.read()))
    packages = hashlib.sha256(dict(parts)["package.json"]).hexdigest()[:16]
    directory = os.path.join(servers.CACHE, f"peers-{packages}")
    os.makedirs(servers.CACHE, exist_ok=True)
    with open(directory + ".lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.isdir(directory):
            making = tempfile.mkdtemp(prefix="peers-", dir=servers.CACHE)
            try:
                shutil.copy(os.path.join(SOURCE, "package.json"), making)
                subprocess.run(["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"],
                    cwd=making, check=True, stdout=subprocess.DEVNULL)
                subprocess.run([os.path.join(making, "node_modules", ".bin", "node"), "--version"], check=True,
                    stdout=subprocess.DEVNULL)
                os.rename(making, directory)
            finally:
                shutil.rmtree(making, ignore_errors=True)
        for name, content in parts:
            with open(os.path.join(directory, name), "wb") as file:
                file.write(content)
    return directory


def measure(peer, url, what, amount, callers=16):
    """One figure, as run.mjs and celery_peer.py describe it: a dictionary with `rate`, or with `p50_ms` and `p99_ms`."""
    if peer == "celery":
        command = ["/usr/bin/python3", os.path.join(SOURCE, "celery_peer.py"), what]
    else:
        command = [os.path.join(installed(), "node_modules", ".bin", "node"), os.path.join(installed(), "run.mjs"), peer, what]
    done = subprocess.run([*command, url, str(amount), str(callers)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        check=False, text=True, timeout=PATIENCE_S)
    if done.returncode != 0:
        raise SystemExit(f"bench: {peer} failed at {what}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])
