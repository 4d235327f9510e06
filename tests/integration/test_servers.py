"""That the private servers do what the tests which use them rely on."""

import os
import select
import socket
import subprocess
import sys

import pytest

import servers

TESTS = os.path.dirname(os.path.abspath(servers.__file__))
PATIENCE_S = 60


def talk(port, password=None):
    """A connection to a Redis that has answered PING."""
    connection = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
    if password:
        connection.sendall(f"AUTH {password}\r\n".encode())
        assert connection.recv(100) == b"+OK\r\n"
    ping(connection)
    return connection


def ping(connection):
    connection.sendall(b"PING\r\n")
    assert connection.recv(100) == b"+PONG\r\n"


def test_postgres_is_durable_by_default(postgres):
    assert postgres.sql("SHOW fsync; SHOW synchronous_commit") == "on\non"


def test_each_test_has_a_database_of_its_own(postgres, database):
    database.sql("CREATE TABLE t (i int)")
    with postgres.database() as other:
        assert other.sql("SELECT count(*) FROM pg_class WHERE relname = 't'") == "0"


def test_a_wrong_password_is_refused(database):
    with pytest.raises(servers.PsqlError, match="password authentication failed"):
        database.sql("SELECT 1", password="wrong")


def test_what_was_committed_survives_a_kill():
    with servers.PostgreSQL() as postgres:
        url = postgres.url
        postgres.sql("CREATE TABLE t AS SELECT 1 AS i")
        postgres.kill()
        postgres.start()
        assert postgres.url == url
        assert postgres.sql("SELECT i FROM t") == "1"
        postgres.restart("max_connections = 17")
        assert postgres.sql("SHOW max_connections") == "17"
        postgres.reload("work_mem = '5MB'")
        assert postgres.sql("SHOW work_mem") == "5MB"


def test_a_paused_server_answers_when_it_resumes():
    with servers.Redis() as redis:
        with talk(redis.port, redis.password) as connection:
            redis.pause()
            connection.sendall(b"PING\r\n")
            connection.settimeout(0.2)
            with pytest.raises(TimeoutError):
                connection.recv(100)
            redis.resume()
            connection.settimeout(PATIENCE_S)
            assert connection.recv(100) == b"+PONG\r\n"


def test_redis_loses_all_with_a_kill_unless_told(redis):
    redis.cli("SET", "key", "value")
    assert redis.cli("GET", "key") == "value"
    with servers.Redis("appendonly yes", "appendfsync always") as durable:
        durable.cli("SET", "key", "value")
        durable.kill()
        durable.start()
        assert durable.cli("GET", "key") == "value"


def test_pgbouncer_forwards(postgres, database):
    with servers.PgBouncer(postgres) as pooler:
        assert servers.psql("SELECT current_database()", PGHOST="127.0.0.1", PGPORT=str(pooler.port), PGUSER=servers.USER,
            PGPASSWORD=pooler.password, PGDATABASE=database.name) == database.name
        assert database.name in pooler.sql("SHOW POOLS")


@pytest.mark.skipif(os.geteuid() != 0, reason="a disk of limited size takes root")
def test_a_full_disk_is_an_error_until_there_is_space_again():
    with servers.PostgreSQL(disk_mib=200, wal_apart=True) as postgres:
        postgres.sql("CREATE TABLE t (i int)")
        postgres.fill_disk()
        with pytest.raises(servers.PsqlError, match="No space left on device"):
            postgres.sql("INSERT INTO t SELECT generate_series(1, 1000000)")
        postgres.free_disk()
        postgres.sql("INSERT INTO t VALUES (1)")
    assert not os.path.exists(postgres.directory)


def test_a_proxy_cuts_and_refuses_and_heals(redis, proxy):
    way = proxy(redis.port)
    connection = talk(way.port, redis.password)
    way.cut()
    with pytest.raises(ConnectionError):
        if not connection.recv(100):
            raise ConnectionError
    connection.close()
    talk(way.port, redis.password).close()
    way.refuse()
    with pytest.raises(ConnectionError):
        talk(way.port)
    way.heal()
    talk(way.port, redis.password).close()


def test_a_black_hole_lets_through_late(redis, proxy):
    way = proxy(redis.port)
    with talk(way.port, redis.password) as connection:
        way.black_hole()
        connection.sendall(b"PING\r\n")
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(100)
        way.heal()
        connection.settimeout(PATIENCE_S)
        assert connection.recv(100) == b"+PONG\r\n"


def test_a_reply_can_be_lost_after_the_request_was_done(redis, proxy):
    way = proxy(redis.port)
    with talk(way.port, redis.password) as connection:
        way.swallow_replies()
        connection.sendall(b"SET key value\r\n")
        way.wait_swallowed()
        way.cut()
        with pytest.raises(ConnectionError):
            if not connection.recv(100):
                raise ConnectionError
    assert redis.cli("GET", "key") == "value"


def test_a_command_has_servers_while_it_runs():
    done = subprocess.run([os.path.join(TESTS, "servers.py"), "--postgres", "--redis", "--", "sh", "-c",
        'echo "$ASSAY_DATABASE_URL"; redis-cli -u "$REDIS_URL" PING; exit 3'], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, check=False, text=True)
    assert done.returncode == 3, done.stderr
    url, pong = done.stdout.split()
    assert pong == "PONG"
    assert f"ASSAY_DATABASE_URL={url}" in done.stderr
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(url.split(":")[3].split("/")[0])))


def test_servers_do_not_outlive_a_killed_owner():
    owner = subprocess.Popen([sys.executable, "-c", f"""
import sys; sys.path.insert(0, {TESTS!r})
import servers, signal
made = [servers.PostgreSQL().start(), servers.Redis().start()]
print(*[word for one in made for word in (one.pid, one.guard.pid, one.directory)], flush=True)
signal.pause()"""], stdout=subprocess.PIPE, text=True)
    words = owner.stdout.readline().split()
    ends = [os.pidfd_open(int(pid)) for pid in (words[0], words[1], words[3], words[4])]
    owner.kill()
    owner.wait()
    owner.stdout.close()
    servers.wait_gone(ends)
    assert not os.path.exists(words[2])
    assert not os.path.exists(words[5])


def test_a_command_does_not_outlive_a_killed_owner():
    owner = subprocess.Popen([os.path.join(TESTS, "servers.py"), "--redis", "--quiet", "--", "sh", "-c",
        "echo $$ && exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with owner:
        end = os.pidfd_open(int(owner.stdout.readline()))
        owner.kill()
        assert select.select([end], [], [], PATIENCE_S)[0]
    os.close(end)
