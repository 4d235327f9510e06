#!/usr/bin/python3
"""celery_peer.py MEASURE URL SECONDS|COUNT [CALLERS]: measures Celery with Redis as its broker, as run.mjs does the others,
and prints one line of JSON.

Settings by its documentation (Optimizing): results ignored, no rate limits, no events, gossip or mingle, a connection for
each thread of the callers; the pool of threads, which is the fastest for tasks that do nothing; prefetched are 64 tasks a thread, for latency 1.
The callers are threads in two processes. Redis is on the disk (appendfsync always); tasks are acknowledged when they start,
which is Celery's default and loses them with the worker.
"""

import ctypes
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import celery
import celery.signals
import redis

RATE = 50
BATCH = 1000
WARM = 1000
PROCESSES = 2
BODY = {"language": "python", "code": "print('hello, world')" + "#" * 540}
SETTINGS = {
    "single": "apply_async, task_ignore_result, 2 processes of threads",
    "batch": "apply_async one by one over one connection of each of 2 processes (Celery has no batch call)",
    "work": "pool of 4 threads, prefetch multiplier 64, without gossip, mingle and heartbeat",
    "latency": "pool of 4 threads, prefetch multiplier 1, without gossip, mingle and heartbeat",
}

URL = os.environ.get("ASSAY_PEER_URL") or sys.argv[2]
app = celery.Celery("celery_peer", broker=URL)
app.conf.update(task_ignore_result=True, task_store_errors_even_if_ignored=False, worker_disable_rate_limits=True,
    worker_send_task_events=False, task_send_sent_event=False, broker_pool_limit=64, worker_hijack_root_logger=False, worker_redirect_stdouts=False,
    broker_connection_retry_on_startup=True, task_compression=None)

# The worker's, whose pool may be one of processes.
started = multiprocessing.Value(ctypes.c_long)
samples = multiprocessing.Array(ctypes.c_double, 100_000)


@app.task(name="nothing")
def nothing(body, sent=None):
    now = time.monotonic()
    with started.get_lock():
        if sent:
            samples[started.value] = now - sent
        started.value += 1


@celery.signals.worker_ready.connect
def report(**_):
    """In the worker's first process: tells the one that measures when it is ready, and how far it is when asked for a count."""
    def answer():
        print("READY", flush=True)
        for line in sys.stdin:
            while started.value < int(line):
                time.sleep(0.002)
            print("STARTED", json.dumps(samples[:started.value]), flush=True)
        os.kill(os.getpid(), signal.SIGTERM)
    threading.Thread(target=answer, daemon=True).start()  # its end of the pipe closes with whoever started the worker


class Worker:
    def __init__(self, measure):
        multiplier = "1" if measure == "latency" else "64"
        self.process = subprocess.Popen([sys.executable, "-m", "celery", "-A", "celery_peer", "--quiet", "worker", "-P",
            "threads", "-c", "4", f"--prefetch-multiplier={multiplier}", "--without-gossip", "--without-mingle",
            "--without-heartbeat", "-l", "ERROR"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            cwd=os.path.dirname(os.path.abspath(__file__)),
            env={**os.environ, "ASSAY_PEER_URL": URL, "PYTHONWARNINGS": "ignore", "PYTHONDONTWRITEBYTECODE": "1"})
        self._read("READY")

    def _read(self, word):
        for line in self.process.stdout:
            if line.startswith(word):
                return line[len(word):]
        raise SystemExit("celery: the worker ended")

    def wait_for(self, count):
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        return json.loads(self._read("STARTED"))

    def stop(self):
        self.process.terminate()
        self.process.wait()


def send(seconds, count, threads, total):
    """In a process of its own: so many threads submit for so long or until so many were sent; adds to `total`."""
    lock = threading.Lock()
    left = [count]
    end = time.monotonic() + seconds

    def call():
        sent = 0
        while time.monotonic() < end:
            with lock:
                if count is not None and left[0] == 0:
                    break
                if count is not None:
                    left[0] -= 1
            nothing.apply_async((BODY,))
            sent += 1
        with total.get_lock():
            total.value += sent

    callers = [threading.Thread(target=call) for _ in range(threads)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()


def from_processes(callers, seconds, count=None):
    """How many were sent, and in how many seconds."""
    total = multiprocessing.Value(ctypes.c_long)
    processes = [multiprocessing.Process(target=send, args=(seconds, count and count // PROCESSES, callers // PROCESSES,
        total)) for _ in range(PROCESSES)]
    begin = time.monotonic()
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return total.value, time.monotonic() - begin


def submissions(callers, seconds):
    from_processes(callers, 0.5)
    sent, took = from_processes(callers, seconds)
    return {"rate": round(sent / took)}


def work(count):
    from_processes(PROCESSES, 3600, count)
    worker = Worker("work")
    begin = time.monotonic()
    worker.wait_for(count)
    took = time.monotonic() - begin
    worker.stop()
    return {"rate": round(count / took)}


def latency(seconds):
    worker = Worker("latency")
    begin = time.monotonic()
    count = int(seconds * RATE)
    for i in range(count):
        time.sleep(max(0, begin + i / RATE - time.monotonic()))
        nothing.apply_async((BODY, time.monotonic()))
    values = sorted(worker.wait_for(count))
    worker.stop()
    at = lambda part: round(values[max(0, -int(-len(values) * part // 1) - 1)] * 1000, 2)
    return {"p50_ms": at(0.5), "p99_ms": at(0.99)}


def around(callers, count):
    worker = Worker("around")
    from_processes(PROCESSES, 3600, WARM)
    worker.wait_for(WARM)
    begin = time.monotonic()
    from_processes(callers, 3600, count)
    worker.wait_for(WARM + count)
    took = time.monotonic() - begin
    worker.stop()
    return {"rate": round(count / took)}


def main():
    measure, amount = sys.argv[1], float(sys.argv[3])
    callers = int(sys.argv[4]) if len(sys.argv) > 4 else 16
    redis.Redis.from_url(URL).flushdb()
    figures = {"single": lambda: submissions(callers, amount), "batch": lambda: submissions(PROCESSES, amount),
        "work": lambda: work(int(amount)), "latency": lambda: latency(amount),
        "around": lambda: around(callers, int(amount))}[measure]()
    settings = f"{SETTINGS['single']}; {SETTINGS['work']}" if measure == "around" else SETTINGS[measure]
    print(json.dumps({"peer": "celery", "version": celery.__version__, "what": measure, **figures, "callers": callers,
        "settings": settings}))


if __name__ == "__main__":
    main()
