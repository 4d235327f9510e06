"""The database goes away in every way there is, or was never what it should be: nothing that was accepted is lost, what cannot
be accepted is refused with 503, and what no waiting mends is said in one sentence."""

import contextlib
import os
import random
import re
import signal
import socket
import struct
import subprocess
import threading

import pytest

import servers
from clients import Program, noop
from cluster import CALM, QUICK, SEED, UNDYING, Replica
from service import LISTENING
from test_faults import fails

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="it takes root")


@pytest.fixture
def own_postgres():
    """A server that may be broken."""
    with servers.PostgreSQL() as server:
        yield server


@pytest.fixture
def own_database(own_postgres):
    with own_postgres.database() as database:
        yield database


def immediate(server):
    """PostgreSQL's immediate shutdown: no goodbye to anybody, and a recovery at the next start."""
    server.process.send_signal(signal.SIGQUIT)
    server.process.wait(servers.PATIENCE_S)


# ---- the way to it ----


def test_a_way_that_is_black_for_less_than_the_lease(database, clusters, redis):
    """What was asked meanwhile is answered late, or refused; nobody is declared dead."""
    cluster = clusters(database, *UNDYING, redis=redis, ways=["database"]).start()
    clients = cluster.clients().start()
    cut = cluster.replicas[0]
    clients.wait_more(40)
    for _ in range(3):
        cut.database_way.black_hole()
        clients.wait_more(20)  # at the other
        cut.database_way.heal()
        cluster.wait_beat(cut)
        clients.wait_more(20)
    book = cluster.finish(clients)
    assert list(cluster.incarnations(cut).values()) == [False]
    assert not [event for events in book.events.values() for event in events if event.kind == "retrying"]


def test_a_way_that_is_black_for_longer_than_the_lease(database, clusters, redis):
    """It kills what it runs and starts nothing, the others take what it had, and it comes back under a new name."""
    cluster = clusters(database, *QUICK, redis=redis, ways=["database"]).start()
    clients = cluster.clients().start()
    cut = cluster.replicas[0]
    clients.wait_more(40)
    before = cluster.incarnations(cut)
    cut.database_way.black_hole()
    cut.wait_line("cut off from the store")
    cluster.wait_dead(cut)
    cut.database_way.heal()
    cluster.wait_new_incarnation(cut, before)
    clients.wait_more(40)
    cluster.finish(clients)


def test_a_way_that_is_refused_for_longer_than_the_lease(database, clusters, redis):
    cluster = clusters(database, *QUICK, redis=redis, ways=["database"]).start()
    clients = cluster.clients().start()
    cut = cluster.replicas[1]
    clients.wait_more(40)
    before = cluster.incarnations(cut)
    cut.database_way.refuse()
    clients.wait_refused()
    cluster.wait_dead(cut)
    cut.database_way.heal()
    cluster.wait_new_incarnation(cut, before)
    clients.wait_more(40)
    cluster.finish(clients)


def test_connections_die_between_commit_and_answer(database, clusters, redis):
    """What the database has done and nobody was told of is found out, again and again."""
    cluster = clusters(database, *CALM, redis=redis, ways=["database"]).start()
    clients = cluster.clients().start()
    dice = random.Random(SEED)
    for _ in range(15):
        clients.wait_more(8)
        way = dice.choice(cluster.replicas).database_way
        way.swallow_replies()
        way.wait_swallowed()
        way.cut()
        way.heal()
    book = cluster.finish(clients)
    # A replica that lives answers for what it was given: nothing of it is a failure that anybody is charged for.
    assert not [event for events in book.events.values() for event in events if event.kind == "retrying"]


class FarNetwork:
    """A network namespace with one cable to ours: `near` and `far` are the addresses of its ends. pull() and plug()."""

    def __init__(self):
        number = os.getpid() % 16384
        self.near, self.far = (f"10.{192 + number // 256}.{number % 256}.{end}" for end in (1, 2))
        self.cable = f"assay{os.getpid()}"
        self.holder = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo ready && exec cat"], stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, text=True)
        if self.holder.stdout.readline() != "ready\n":
            pytest.skip("no network namespace can be made here")
        self.enter = ("nsenter", f"--net=/proc/{self.holder.pid}/ns/net", "--")

    def __enter__(self):
        try:
            self._ip("link", "add", self.cable, "type", "veth", "peer", "name", "far", "netns", str(self.holder.pid))
            self._ip("address", "add", f"{self.near}/30", "dev", self.cable)
            self._ip("address", "add", f"{self.far}/30", "dev", "far", far=True)
            self._ip("link", "set", "lo", "up", far=True)
            self._ip("link", "set", "far", "up", far=True)
            self.plug()
            return self
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_):
        subprocess.run(["ip", "link", "delete", self.cable], check=False, stderr=subprocess.DEVNULL)
        self.holder.stdin.close()
        self.holder.stdout.close()
        self.holder.wait(servers.PATIENCE_S)

    def _ip(self, *words, far=False):
        done = subprocess.run([*(self.enter if far else ()), "ip", *words], check=False, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            pytest.skip(f"ip {' '.join(words)}: {done.stderr}")

    def pull(self):
        self._ip("link", "set", self.cable, "down")

    def plug(self):
        self._ip("link", "set", self.cable, "up")


@needs_root
def test_a_cable_is_pulled(clusters, services):
    """A real network, where packets get lost: a replica beyond it that works for the others."""
    with FarNetwork() as network, servers.PostgreSQL(f"listen_addresses = '127.0.0.1,{network.near}'") as postgres, \
            postgres.database() as database:
        with open(os.path.join(postgres.data, "pg_hba.conf"), "a", encoding="ascii") as file:
            file.write(f"host all all {network.far}/32 scram-sha-256\n")
        postgres.reload()
        cluster = clusters(database, *QUICK, count=1)
        far = services(*QUICK, kind=Replica, name="far", number=9, database=database, prefix=network.enter,
                       ASSAY_DATABASE_URL=postgres.url_of(database.name).replace("127.0.0.1", network.near))
        try:
            cluster.start()
            far.start()
            clients = cluster.clients().start()
            for _ in range(2):
                before = cluster.incarnations(far)
                cluster.wait_running(far)
                network.pull()
                far.wait_line("cut off from the store")
                cluster.wait_dead(far)
                network.plug()
                cluster.wait_new_incarnation(far, before)
                far.first_line = len(far.log)
                clients.wait_more(20)
            cluster.wait_running(far)
            assert far.stop() == 0, far.text()
            cluster.finish(clients)
        finally:
            cluster.end()
            far.kill()


# ---- its end ----


@pytest.mark.slow
@pytest.mark.parametrize("end", [servers.PostgreSQL.kill, immediate, servers.PostgreSQL.stop])
def test_away_and_back(own_database, own_postgres, clusters, redis, end):
    cluster = clusters(own_database, *QUICK, redis=redis).start()
    clients = cluster.clients().start()
    for _ in range(2):
        clients.wait_more(30)
        end(own_postgres)
        clients.wait_refused()
        for replica in cluster.replicas:
            ready = replica.call("GET", "/readyz")
            assert ready.status == 503 and "store" in ready.json["degraded"], ready
            assert replica.call("GET", "/health").status == 200
        own_postgres.start()
        clients.wait_more(30)
    cluster.finish(clients)


def test_restarted_in_the_middle_of_commits(own_database, own_postgres, clusters, redis):
    cluster = clusters(own_database, *QUICK, redis=redis).start()
    clients = cluster.clients(programs=[noop], count=6, unfinished_max=200).start()
    dice = random.Random(SEED)
    never = threading.Event()
    for _ in range(6):
        clients.wait_more(20)
        never.wait(dice.random() * 0.3)  # the random moment
        dice.choice([servers.PostgreSQL.kill, immediate])(own_postgres)
        own_postgres.start()
    clients.wait_more(20)
    cluster.finish(clients)


def test_away_for_longer_than_the_lease(own_database, own_postgres, clusters, redis):
    """Nobody is declared dead by those who could not have heard of him, and nobody is charged for it."""
    # Each has a lease from when it is back itself to hear of the other, which pauses between two attempts to connect.
    cluster = clusters(own_database, "--heartbeat", "1", "--lease", "15", redis=redis).start()
    clients = cluster.clients().start()
    clients.wait_more(40)
    own_postgres.kill()
    for replica in cluster.replicas:
        replica.wait_line("cut off from the store")
    own_postgres.start()
    clients.wait_more(40)
    book = cluster.finish(clients)
    assert {task.attempts for task in book.rows.values()} == {0}
    for replica in cluster.replicas:
        assert list(cluster.incarnations(replica).values()) == [False], cluster.incarnations(replica)


def test_a_replica_dies_while_the_database_is_away(own_database, own_postgres, clusters, redis):
    cluster = clusters(own_database, *QUICK, redis=redis).start()
    clients = cluster.clients().start()
    clients.wait_more(40)
    own_postgres.kill()
    cluster.replicas[0].kill()
    own_postgres.start()
    cluster.wait_dead(cluster.replicas[0])
    cluster.replicas[0].start()
    clients.wait_more(40)
    cluster.finish(clients)


def test_told_to_end_while_the_database_is_away(own_database, own_postgres, clusters, redis):
    """It ends in time; what it could not write down is run again by others, and is ended once."""
    cluster = clusters(own_database, *QUICK, "--drain", "2", redis=redis).start()
    clients = cluster.clients().start()
    clients.wait_more(40)
    own_postgres.kill()
    clients.wait_refused()
    assert cluster.replicas[0].stop() == 0, cluster.replicas[0].text()
    own_postgres.start()
    cluster.replicas[0].start()
    clients.wait_more(40)
    cluster.finish(clients)


@needs_root
def test_its_disk_is_full(clusters, redis):
    """Submissions are refused until there is space again, and all that was accepted ends."""
    def bulky():
        return Program({"code": "#" + "x" * random.randrange(100_000, 200_000), "executor": "noop"})

    with contextlib.ExitStack() as stack:
        postgres = stack.enter_context(servers.PostgreSQL(disk_mib=200, wal_apart=True))
        database = stack.enter_context(postgres.database())
        cluster = clusters(database, *CALM, redis=redis)
        stack.callback(cluster.end)
        cluster.start()
        clients = cluster.clients(programs=[noop, bulky]).start()
        clients.wait_more(60)
        postgres.fill_disk()
        clients.wait_refused()
        for replica in cluster.replicas:
            ready = replica.call("GET", "/readyz")
            assert ready.status == 200 or "disk is full" in ready.json["store"]["error"], ready
        postgres.free_disk()
        clients.wait_more(60)
        cluster.finish(clients)


# ---- a pooler ----


def test_behind_pgbouncer(postgres, database, clusters, redis):
    """In transaction mode, with the direct address for notices and migrations."""
    with servers.PgBouncer(postgres) as pooler:
        cluster = clusters(database, *CALM, redis=redis, ASSAY_DATABASE_URL=pooler.url_of(database.name),
                           ASSAY_DATABASE_LISTEN_URL=database.url)
        try:
            cluster.start()
            clients = cluster.clients().start()
            clients.wait_more(100)
            pooler.restart()
            clients.wait_more(50)
            cluster.finish(clients)
        finally:
            cluster.end()


# ---- the connection that notices come by ----


@pytest.fixture
def listening(own_database, own_postgres, services):
    """A service whose LISTEN connection is a user's of its own, and what changes that one's password and ends its session."""
    def listener(password):
        own_postgres.sql(f"ALTER ROLE listener PASSWORD '{password}'")
        own_postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'listener'")

    own_postgres.sql("CREATE ROLE listener SUPERUSER LOGIN PASSWORD 'first'")
    url = own_postgres.url_of(own_database.name, user="listener", password="first")
    service = services("--executors", "noop", ASSAY_DATABASE_URL=own_database.url, ASSAY_DATABASE_LISTEN_URL=url).start()
    return service, listener


def test_its_password_alone_expires(listening):
    """Notices are lost, and nothing else: the lanes are there."""
    service, listener = listening
    listener("second")
    service.wait_line("postgresql not connected.*purpose=listen.*password authentication failed")
    ready = service.call("GET", "/readyz")
    assert ready.status == 200, ready
    assert service.call("POST", "/execute?wait=100", {"executor": "noop", "code": ""}).json["phase"] == "succeeded"
    listener("first")
    service.wait_line("password authentication failed(?s:.*)postgresql connected.*purpose=listen")
    assert service.stop() == 0, service.text()


def test_a_schema_found_wrong_stays_so_until_it_is_found_right(own_database, listening):
    service, listener = listening
    own_database.sql("INSERT INTO assay.migrations (number, name) SELECT 1 + max(number), 'of_tomorrow' FROM assay.migrations")
    listener("first")
    service.wait_line("postgresql not connected.*purpose=listen.*newer than this program")
    ready = service.call("GET", "/readyz")
    assert (ready.status, ready.json["store"]["status"]) == (503, "schema_wrong"), ready
    listener("second")
    service.wait_line("postgresql not connected.*purpose=listen.*password authentication failed")
    ready = service.call("GET", "/readyz")
    assert (ready.status, ready.json["store"]["status"]) == (503, "schema_wrong"), ready
    assert "newer than this program" in ready.json["store"]["error"], ready
    own_database.sql("DELETE FROM assay.migrations WHERE name = 'of_tomorrow'")
    listener("first")
    service.wait_line("password authentication failed(?s:.*)postgresql connected.*purpose=listen")
    assert service.call("GET", "/readyz").status == 200
    assert service.stop() == 0, service.text()


# ---- it is not there yet, or not what it should be ----


def test_it_comes_later(own_database, own_postgres, services):
    """A service that starts before its database waits for it."""
    own_postgres.stop()
    service = services("--executors", "noop", ASSAY_DATABASE_URL=own_database.url)
    service.launch()
    service.wait_line(r"store is away|cannot be reached|refused")
    assert re.search(r"store chosen.*kind=postgres", service.text())
    assert "listening on" not in service.text()
    # It lives, and says what it waits for; all else is to be tried again.
    assert service.call("GET", "/health").status == 200
    ready = service.call("GET", "/readyz")
    assert (ready.status, ready.json["store"]["status"]) == (503, "away"), ready
    for method, path in (("POST", "/execute"), ("GET", "/tasks"), ("GET", "/events"), ("GET", "/status/" + "0" * 32)):
        answer = service.call(method, path, {"code": "1"} if method == "POST" else None)
        assert answer.status == 503 and int(answer.headers["Retry-After"]) > 0, (path, answer)
    own_postgres.start()
    service.wait_line(LISTENING)
    assert service.call("POST", "/execute?wait=100", {"executor": "noop", "code": ""}).json["phase"] == "succeeded"


def noop_service(services, url):
    return services("--executors", "noop", ASSAY_DATABASE_URL=url)


def test_a_wrong_password(database, services):
    said = fails(noop_service(services, database.server.url_of(database.name, password="wrong")), "password")
    assert "wrong@" not in said and ":wrong" not in said, said


def test_a_database_that_is_not_there(database, services):
    fails(noop_service(services, database.server.url_of("nowhere")), "nowhere")


@pytest.fixture
def weak(database):
    """The address for a role that may do nothing but connect."""
    database.sql("CREATE ROLE weak LOGIN PASSWORD 'weak'")
    yield database.server.url_of(database.name, user="weak", password="weak")
    database.sql("DROP OWNED BY weak; DROP ROLE weak")


def test_no_right_to_make_the_schema(weak, services):
    fails(noop_service(services, weak), "permission denied")


def test_no_rights_in_the_schema(database, weak, services):
    with noop_service(services, database.url):
        pass
    said = fails(noop_service(services, weak), "weak", "schema assay", "grant")
    assert "USAGE" in said, said
    database.sql("GRANT USAGE ON SCHEMA assay TO weak")
    said = fails(noop_service(services, weak), "assay")
    assert "grant" in said or "permission denied" in said, said


def test_the_schema_of_another(database, services):
    """A schema of that name that we have not made is not touched."""
    database.sql("CREATE SCHEMA assay; CREATE TABLE assay.tasks (recipe text)")
    fails(noop_service(services, database.url), "assay")
    assert database.sql("SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
                        "WHERE n.nspname = 'assay' AND relkind IN ('r', 'v', 'i')") == "1"


@pytest.mark.parametrize("change", ["ALTER TABLE assay.tasks DROP COLUMN turn CASCADE",
                                    "ALTER TABLE assay.tasks ALTER COLUMN priority TYPE text",
                                    "ALTER TABLE assay.events RENAME TO happenings",
                                    "DROP INDEX assay.tasks_eval_id"])
def test_altered_by_hand(database, services, change):
    with noop_service(services, database.url):
        pass
    database.sql(change)
    fails(noop_service(services, database.url), "assay.", "altered by hand")


@pytest.mark.parametrize("change, words", [
    ("ALTER TABLE assay.migrations DROP CONSTRAINT migrations_pkey; INSERT INTO assay.migrations SELECT * FROM assay.migrations",
     ("assay", "recorded 2 times")),
    ("DELETE FROM assay.migrations WHERE number = 1", ("migration 1", "not recorded")),
    ("UPDATE assay.migrations SET name = 'something_else' WHERE number = 1", ("migration 1", "not the one")),
    ("INSERT INTO assay.migrations (number, name) SELECT 1 + max(number), 'of_tomorrow' FROM assay.migrations", ("newer",)),
])
def test_migrations_that_are_not_ours(database, services, change, words):
    with noop_service(services, database.url):
        pass
    database.sql(change)
    fails(noop_service(services, database.url), *words)


class OldServer:
    """A way to a PostgreSQL that calls itself 12 where it is asked in SQL: there is none so old to be had here."""

    SAYS = {b"current_setting('server_version_num')": b"'120022'", b"current_setting('server_version')": b"'12.22'"}

    def __init__(self, target):
        self.target = target

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection(("127.0.0.1", self.target))
                threading.Thread(target=self._requests, args=(client, server), daemon=True).start()
                threading.Thread(target=self._replies, args=(client, server), daemon=True).start()

    def _requests(self, client, server):
        """Whole messages; before the first one with a type come those that ask for a connection and perhaps for TLS."""
        with client, server, contextlib.suppress(OSError, struct.error):
            code = None
            while code != 3 << 16:
                length, code = struct.unpack("!II", client.recv(8, socket.MSG_WAITALL))
                server.sendall(struct.pack("!II", length, code) + client.recv(length - 8, socket.MSG_WAITALL))
            while True:
                kind, length = struct.unpack("!cI", client.recv(5, socket.MSG_WAITALL))
                body = client.recv(length - 4, socket.MSG_WAITALL)
                for asked, said in self.SAYS.items():
                    body = body.replace(asked, said.ljust(len(asked)))
                server.sendall(struct.pack("!cI", kind, length) + body)

    def _replies(self, client, server):
        with contextlib.suppress(OSError):
            while True:
                data = server.recv(65536)
                if not data:
                    client.shutdown(socket.SHUT_WR)
                    return
                client.sendall(data)


def test_a_server_that_is_too_old(database, services):
    with OldServer(database.server.port) as server:
        fails(noop_service(services, database.server.url_of(database.name, port=server.port)), "12.22 is too old", "13")
