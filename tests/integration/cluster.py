"""Several replicas on one database, with or without Redis, and what stands around them: clients that reach them as they
would through a Service, a subscriber that hears all that is published.

Replica n is called `r<n>`; with `ways` each has its own ways (proxy.Proxy) to the database and to Redis, which can be cut."""

import itertools
import json
import os
import random
import re
import signal
import threading
import time

import redis as redis_client

import checker
import processes
import proxy
import servers
from clients import HEARSAY, Clients, Follower, patient_until
from service import LISTENING, PATIENCE, Http, Service

SEED = int(os.environ.get("ASSAY_CRASH_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
SLOTS = 2
UID_BASE = processes.UID_BASE + 500  # each replica has UIDS of them
UIDS = 20
CALM, QUICK = ("--heartbeat", "2", "--lease", "30"), ("--heartbeat", "1", "--lease", "3")  # nobody dies of a slow machine; soon
STEADY = ("--heartbeat", "1", "--lease", "15")  # the dead are seen, and who is ten seconds slow is not yet cut off
UNDYING = ("--heartbeat", "2", "--lease", str(20 * PATIENCE))  # no wait of a test is longer
EVENT_KINDS = re.compile(r"queued|running|retrying|test|stage|completed|failed|cancelled")


class Replica(Service):
    """One of a cluster."""

    def __init__(self, directory, *flags, name, number, database, **environment):
        super().__init__(directory, "--replica", name, "--executors", "sandbox,noop", "--sandbox-slots", str(SLOTS),
                         "--sandbox-uid-base", str(UID_BASE + number * UIDS), "--retry-base", "0.1", "--drain", "5", *flags,
                         **environment)
        self.name = name
        self.uids = range(UID_BASE + number * UIDS, UID_BASE + (number + 1) * UIDS)
        self.database = database
        self.database_way = self.redis_way = None

    @property
    def store(self):
        return self.database

    def pause(self):
        servers.freeze(self.pid)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.resume()
        return super().stop()


class Balanced:
    """A client's connections through a Service: each to any replica, and now and then another one. Where nobody accepts the
    connection nothing was asked, and the next is tried."""

    def __init__(self, cluster, seed):
        self.cluster = cluster
        self.dice = random.Random(seed)
        self.http = None

    def __call__(self, *request):
        if self.dice.random() < 0.1:
            self.close()
        deadline = time.monotonic() + PATIENCE
        while True:
            self.http = self.http or Http(self.dice.choice(self.cluster.replicas).url, patience=60)
            try:
                return self.http(*request)
            except ConnectionRefusedError:
                self.close()
                assert time.monotonic() < deadline, "nobody listens"
                time.sleep(0.01)  # so that those who start have the processor
            except Http.LOST:
                self.close()
                raise

    def close(self):
        if self.http:
            self.http.close()
        self.http = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Cluster:
    """`services`: the fixture that makes them and ends them; `database`: a servers.Database; `redis`: a servers.Redis; `ways`:
    to which of "database" and "redis" each has its own."""

    def __init__(self, services, database, *flags, count=2, redis=None, ways=(), **environment):
        self.database, self.redis = database, redis
        self.seeds = itertools.count(SEED)
        self.ways = []
        self.replicas = []
        self.subscriber = None
        for number in range(count):
            settings = {"ASSAY_DATABASE_URL": database.url}
            database_way = redis_way = None
            if "database" in ways:
                database_way = self._way(database.server.port)
                settings["ASSAY_DATABASE_URL"] = database.server.url_of(database.name, port=database_way.port)
            if redis:
                settings["REDIS_URL"] = redis.url
            if "redis" in ways:
                redis_way = self._way(redis.port)
                settings["REDIS_URL"] = redis.url_at(redis_way.port)
            replica = services(*flags, kind=Replica, name=f"r{number}", number=number,
                               database=database, **{**settings, **environment})
            replica.database_way, replica.redis_way = database_way, redis_way
            self.replicas.append(replica)

    def _way(self, port):
        self.ways.append(proxy.Proxy(port))
        return self.ways[-1]

    def start(self):
        if self.redis:
            self.subscriber = Subscriber(self.redis).start()
        for replica in self.replicas:
            replica.launch()
        for replica in self.replicas:
            replica.listen = replica.wait_line(LISTENING).group(1)
        return self

    def end(self):
        """Of replicas whose database goes away before they do."""
        for replica in self.replicas:
            if replica.process and replica.process.poll() is None:
                replica.kill()

    def close(self):
        if self.subscriber:
            self.subscriber.over = True
        for way in self.ways:
            way.close()

    # ---- what clients.Clients needs of a service ----

    @property
    def store(self):
        return self.database

    @property
    def url(self):
        return random.choice(self.replicas).url

    def http(self):
        return Balanced(self, next(self.seeds))

    def text(self):
        return "\n".join(f"--- {replica.name}\n{replica.text()[-3000:]}" for replica in self.replicas)

    def clients(self, **keywords):
        """Not yet started. Each replica has a follower of its own, and one goes from replica to replica."""
        print(f"seed {SEED}: ASSAY_CRASH_SEED={SEED} does the same again, as far as the machine lets it")
        followers = [Follower(lambda replica=replica: replica.url) for replica in self.replicas]
        followers.append(Follower(lambda: self.url, hops=40))
        return Clients(self, next(self.seeds), followers=followers, refusable=True, **{"count": 4, **keywords})

    def finish(self, clients, whole_streams=True):
        """What was accepted comes to its end, everybody has heard of it, and the checker finds nothing. The book.

        `whole_streams`: no follower may have missed an event, at whatever replica it was told."""
        clients.finish(whole_streams)
        published = None
        if self.subscriber:
            self.subscriber.wait(clients.book.keys())
            published = self.subscriber.heard
        for replica in self.replicas:
            assert replica.stop() == 0, replica.text()
        clients.check(published=published, whole_streams=whole_streams)
        return clients.book

    # ---- what the rows say ----

    def assert_no_faults(self):
        """The histories that the rows and events tell, whoever submitted them. The book."""
        book = checker.Book(self.database)
        faults = [fault for task in book.rows.values() for fault in checker.faults_of_history(task, book.events[task.id])]
        assert not faults, faults[:20]
        return book

    def wait_sql(self, condition, patience=PATIENCE):
        """Until the condition, a SELECT of one boolean, is true."""
        patient_until(lambda: self.database.sql(condition) == "t", patience, lambda: f"{condition}\n{self.text()}")

    def owner(self, job, but=None):
        """The replica that runs it; waits until one does, and another than `but`."""
        task_id = checker.task_id_of(job)
        found = []

        def claimed():
            name = self.database.sql(f"SELECT split_part(locked_by, '#', 1) FROM assay.tasks "
                                     f"WHERE id = '{task_id}' AND locked_by IS NOT NULL")
            found[:] = [replica for replica in self.replicas if replica.name == name and replica is not but]
            return found

        patient_until(claimed, explain=self.text)
        return found[0]

    def wait_event(self, job, sequence):
        """Until that event of the task is in the store."""
        self.wait_sql(f"SELECT EXISTS (SELECT FROM assay.events WHERE task_id = '{checker.task_id_of(job)}' "
                      f"AND sequence >= {sequence})")

    def other_than(self, replica):
        return next(one for one in self.replicas if one is not replica)

    def incarnations(self, replica):
        """Of its rows: {incarnation: whether it was declared dead}."""
        rows = self.database.sql(f"SELECT incarnation, dead_at IS NOT NULL FROM assay.replicas "
                                 f"WHERE split_part(incarnation, '#', 1) = '{replica.name}'")
        return {row.split("|")[0]: row.split("|")[1] == "t" for row in rows.splitlines()}

    def wait_running(self, replica):
        """Until it runs something."""
        self.wait_sql(f"SELECT EXISTS (SELECT FROM assay.tasks WHERE split_part(locked_by, '#', 1) = '{replica.name}')")

    def wait_new_incarnation(self, replica, before):
        patient_until(lambda: self.incarnations(replica).keys() - before.keys(), explain=self.text)

    def wait_beat(self, replica):
        """Until it has told the store once more that it lives."""
        now = self.database.sql("SELECT now()")
        self.wait_sql(f"SELECT coalesce(max(heartbeat_at) > '{now}', false) FROM assay.replicas "
                      f"WHERE split_part(incarnation, '#', 1) = '{replica.name}'")

    def wait_dead(self, replica):
        """Until all its incarnations so far have been declared dead, and what they had was taken."""
        self.wait_sql(f"SELECT count(*) > 0 AND count(*) = count(dead_at) FROM assay.replicas "
                      f"WHERE split_part(incarnation, '#', 1) = '{replica.name}'")


class Subscriber:
    """A thread that writes down what is published on a Redis, in its order; it comes back when Redis does."""

    def __init__(self, server, prefix="evaluation:"):
        self.server, self.prefix = server, prefix
        self.heard = []  # of durable events: ((task id, sequence), (kind, run, attempt))
        self.keys = set()
        self.payloads = []  # (channel, payload) of all
        self.marks = set()
        self.over = False
        self.subscribed = False
        self.news = threading.Condition()

    def start(self):
        threading.Thread(target=self._listen, daemon=True).start()
        self.wait_for(lambda: self.subscribed)
        return self

    def client(self):
        return redis_client.Redis(unix_socket_path=self.server.socket_path, password=self.server.password)

    def _listen(self):
        while not self.over:
            try:
                with self.client() as client, client.pubsub() as pubsub:
                    pubsub.psubscribe(self.prefix + "*")
                    for message in pubsub.listen():
                        self._told(message)
            except (redis_client.RedisError, OSError):
                with self.news:
                    self.subscribed = False
                    self.news.notify_all()
                time.sleep(0.01)  # it is not there

    def _told(self, message):
        with self.news:
            if message["type"] == "psubscribe":
                self.subscribed = True
            elif message["type"] == "pmessage":
                kind = message["channel"].decode()[len(self.prefix):]
                if kind == "mark":
                    self.marks.add(message["data"])
                else:
                    self._published(kind, json.loads(message["data"]))
            self.news.notify_all()

    def _published(self, kind, payload):
        assert payload["kind"] == kind, payload
        self.payloads.append((kind, payload))
        if EVENT_KINDS.fullmatch(kind):
            key = payload["task_id"], payload["sequence"]
            self.keys.add(key)
            self.heard.append((key, (kind, payload["run"], payload["attempt"])))

    def wait_for(self, condition):
        with self.news:
            assert self.news.wait_for(condition, PATIENCE)

    def wait(self, keys):
        """Until it has heard all these; what it has not in all patience the checker names."""
        with self.news:
            self.news.wait_for(lambda: keys <= self.keys, HEARSAY)

    def caught_up(self):
        """What Redis has taken so far has been heard."""
        mark = os.urandom(8).hex().encode()
        self.wait_for(lambda: self.subscribed)
        with self.client() as client:
            client.publish(self.prefix + "mark", mark)
        self.wait_for(lambda: mark in self.marks)

