#!/usr/bin/python3
"""Private PostgreSQL, Redis and PgBouncer servers, for tests, benches and `./dev run --full`.

Each is a program of the distribution's packages with a temporary directory, a free port on 127.0.0.1, unix sockets and a
password of its own; nothing of the machine's own servers is read or touched. As root the servers run as `nobody`, since
PostgreSQL and PgBouncer refuse root. What a killed test leaves behind is ended and removed by a shell that waits for us.

    with PostgreSQL() as postgres, postgres.database() as database:
        database.sql("SELECT 1")

    tests/servers.py --postgres --redis -- COMMAND…

runs a command with ASSAY_DATABASE_URL and REDIS_URL set, and removes the servers when it ends.
"""

import argparse
import contextlib
import fcntl
import glob
import itertools
import os
import pwd
import re
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

PATIENCE_S = 60  # only against hanging for ever
CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "assay")
ROOT_USER = "nobody"
USER = "assay"


class Missing(Exception):
    """The program of a server is not on this machine."""


# Below those that the system gives to whoever asks for any (ip_local_port_range), so that a port stays ours while what listened there
# is started again. Each of the processes that run tests side by side has a share of its own; others are spread over the rest.
PORTS, SHARES = range(12000, 32000), 8
WORKER = re.fullmatch(r"gw(\d+)", os.environ.get("PYTEST_XDIST_WORKER", ""))
SHARE = int(WORKER[1]) % (SHARES // 2) if WORKER else SHARES // 2 + os.getpid() % (SHARES // 2)
OFFSETS = itertools.count(os.getpid())


def free_port(address="127.0.0.1"):
    """One that nobody is given again before long."""
    share = PORTS[SHARE::SHARES]
    for offset in itertools.islice(OFFSETS, len(share)):
        port = share[offset % len(share)]
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind((address, port))
            return port
    raise RuntimeError("no port is free")


def as_root():
    return os.geteuid() == 0


def unprivileged(*command):
    """The command, as a user that servers accept."""
    if not as_root():
        return list(command)
    account = pwd.getpwnam(ROOT_USER)
    return ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups", "--", *command]


def give(path, *names):
    """Makes over a directory, and those below it that are named, to the user that the servers run as."""
    if as_root():
        account = pwd.getpwnam(ROOT_USER)
        for each in (path, *(os.path.join(path, name) for name in names)):
            os.chown(each, account.pw_uid, account.pw_gid)


def children(pid):
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
    return []


def stands_still(pid):
    """Whether each of its threads is stopped or has ended."""
    states = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/stat", encoding="utf-8", errors="replace") as file:
                states.append(file.read().rpartition(")")[2].split()[0])
    return all(state in "TtZX" for state in states)


def freeze(pid):
    """SIGSTOP, and the moment that it takes on a busy machine until the last thread has heard of it."""
    deadline = time.monotonic() + PATIENCE_S
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
    while not stands_still(pid) and time.monotonic() < deadline:
        time.sleep(0.001)  # so that it has the processor


def wait_gone(pidfds):
    """Waits for processes that need not be our children; PID 1 may be slow to reap, which does not matter here."""
    for descriptor in pidfds:
        select.select([descriptor], [], [], PATIENCE_S)
        os.close(descriptor)


# Ends what is left of a server whose owner has gone without stopping it, and removes its directory. It reads from a pipe
# that only the owner holds open; a directory that is no longer there means that there is nothing to do.
GUARD = """
while read -r _; do :; done
[ -d "$1" ] || exit 0
pid=$(cat "$1/pid") && kill -"$2" "$pid" && { kill -CONT "$pid"
	tries=0; while kill -0 "$pid" && [ $tries -lt 50 ]; do sleep 0.1; tries=$((tries + 1)); done; kill -KILL "$pid"; }
umount "$1"/disk
rm -rf "$1"
"""


class Server:
    """What is common to all: a directory, a process, its log. A context manager; start() comes back when it takes connections."""

    READY = None  # the line that says so
    STOP = signal.SIGTERM
    NAME = None

    def __init__(self, *config, port=None):
        """Each of `config` is one more line of its configuration file; the last of a name counts."""
        self.config = list(config)
        self.directory = tempfile.mkdtemp(prefix=f"assay-{self.NAME}-", dir="/tmp")  # sockets' paths must be short
        os.chmod(self.directory, 0o711)
        give(self.directory)
        self.port = port or free_port()
        self.fixed_port = port is not None
        self.password = secrets.token_hex(16)
        self.process = None
        self.log = []  # the lines of every incarnation
        self.first_line = 0
        self.news = threading.Condition()
        self.guard = subprocess.Popen(["sh", "-c", GUARD, "guard", self.directory, self.STOP.name[3:]],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            self._prepare()
        except BaseException:
            self.remove()
            raise

    def _prepare(self):
        raise NotImplementedError

    def _command(self):
        """Writes the configuration and returns the command."""
        raise NotImplementedError

    @property
    def pid(self):
        return self.process.pid

    def running(self):
        return self.process is not None and self.process.poll() is None

    def start(self):
        for again in range(5):
            self.first_line = len(self.log)
            # A session of its own: what a terminal's Ctrl-C ends is the program that uses it.
            self.process = subprocess.Popen(unprivileged(*self._command()), stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
                cwd=self.directory, env={**os.environ, "LC_ALL": "C.UTF-8"})
            with open(os.path.join(self.directory, "pid"), "w", encoding="ascii") as file:
                file.write(str(self.process.pid))
            self.reader = threading.Thread(target=self._read_log, args=(self.process,), daemon=True)
            self.reader.start()
            if self._wait_ready():
                self.fixed_port = True
                return self
            taken = re.search(r"already in use|bind.*in use|not bind", self.text(), re.I)
            if self.fixed_port or not taken or again == 4:
                break
            self.port = free_port()
        raise RuntimeError(f"{self.NAME} did not start:\n{self.text()}")

    def _read_log(self, process):
        for line in process.stdout:
            with self.news:
                self.log.append(line)
                self.news.notify_all()
        process.wait()
        process.stdout.close()
        with self.news:
            self.news.notify_all()

    def text(self):
        """What the present incarnation has said."""
        return "".join(self.log[self.first_line:])

    def _wait_ready(self):
        """False where it ended instead."""
        deadline = time.monotonic() + PATIENCE_S
        with self.news:
            while not re.search(self.READY, self.text()):
                if self.process.poll() is not None or time.monotonic() > deadline:
                    return False
                self.news.wait(1)
        return True

    def wait_line(self, pattern):
        """Waits until this incarnation has written a line that the pattern is found in; the match."""
        deadline = time.monotonic() + PATIENCE_S
        with self.news:
            while True:
                found = re.search(pattern, self.text(), re.M)
                if found:
                    return found
                if not self.news.wait(max(0, deadline - time.monotonic())):
                    raise RuntimeError(f"{self.NAME} wrote no line {pattern}:\n{self.text()}")

    def _signal_all(self, number):
        for pid in (self.pid, *children(self.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def stop(self):
        """An orderly end."""
        if self.running():
            self.resume()
            self.process.send_signal(self.STOP)
            self._ended()

    def kill(self):
        """SIGKILL, to its children too: nothing is written any more. What the kernel has been given is on disk all the same."""
        if not self.running():
            return
        self.process.send_signal(signal.SIGSTOP)  # it shall make no more of them
        pidfds = []
        for pid in children(self.pid):
            with contextlib.suppress(ProcessLookupError):
                pidfds.append(os.pidfd_open(pid))
                os.kill(pid, signal.SIGKILL)
        self.process.kill()
        wait_gone(pidfds)
        self._ended()

    def _ended(self):
        self.process.wait(PATIENCE_S)
        self.reader.join(PATIENCE_S)

    def restart(self, *config):
        """Stops it, or finds it ended, and starts it again at the same address; `config` is added to its configuration."""
        self.stop()
        self.config += config
        return self.start()

    def pause(self):
        """It stops answering, and its connections stay open."""
        for pid in (self.pid, *children(self.pid)):
            freeze(pid)
        for pid in children(self.pid):  # what was being forked meanwhile
            freeze(pid)

    def resume(self):
        self._signal_all(signal.SIGCONT)

    def remove(self):
        if self.running():
            self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)
        self.guard.stdin.close()
        self.guard.wait()

    def __enter__(self):
        try:
            return self if self.running() else self.start()
        except BaseException:
            self.remove()
            raise

    def __exit__(self, *_):
        try:
            self.stop()
        finally:
            self.remove()


# ---- PostgreSQL ----


def postgres_programs():
    """The directory of the newest PostgreSQL, or the one that ASSAY_POSTGRES_BIN names."""
    named = os.environ.get("ASSAY_POSTGRES_BIN")
    found = [named] if named else sorted(glob.glob("/usr/lib/postgresql/*/bin"),
        key=lambda path: float(path.split("/")[4]))
    found = [path for path in found if os.access(os.path.join(path, "initdb"), os.X_OK)]
    if not found:
        raise Missing("PostgreSQL is not installed: no /usr/lib/postgresql/*/bin/initdb")
    return found[-1]


def postgres_template(programs):
    """A fresh data directory, made once for each version; the superuser's password stands beside it."""
    version = subprocess.run([os.path.join(programs, "postgres"), "--version"], stdout=subprocess.PIPE, check=True,
        text=True).stdout.split()[2]
    os.makedirs(CACHE, exist_ok=True)
    template = os.path.join(CACHE, f"postgres-{version}-{os.geteuid()}")
    with open(template + ".lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.exists(template):
            return template
        making = tempfile.mkdtemp(prefix="assay-initdb-", dir="/tmp")
        try:
            password = os.path.join(making, "password")
            with open(password, "w", encoding="ascii") as file:
                file.write(secrets.token_hex(16))
            give(making, "password")
            subprocess.run(unprivileged(os.path.join(programs, "initdb"), "--no-sync", f"--username={USER}",
                f"--pwfile={password}", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8",
                f"--pgdata={making}/data"), stdout=subprocess.DEVNULL, check=True, cwd="/")
            unfinished = f"{template}.{os.getpid()}"
            subprocess.run(["mv", making, unfinished], check=True)
            os.rename(unfinished, template)
        finally:
            shutil.rmtree(making, ignore_errors=True)
    return template


class Database:
    """One database of a server; `url` for clients."""

    def __init__(self, server, name):
        self.server = server
        self.name = name

    @property
    def url(self):
        return self.server.url_of(self.name)

    @property
    def socket_url(self):
        return self.server.socket_url_of(self.name)

    def sql(self, text, user=USER, password=None):
        """What psql prints for it: rows as lines, columns separated by |. A PsqlError where it fails."""
        return self.server.sql(text, self.name, user, password)


class PsqlError(Exception):
    pass


class PostgreSQL(Server):
    """`disk_mib`: all of it on a file system of its own of that size, for which it takes root (`wal_apart`: but for the
    write-ahead log, so that a full disk is an error and no panic). `also_at`: a further address of this machine, for others."""

    NAME = "postgres"
    READY = "database system is ready to accept connections"
    STOP = signal.SIGINT

    def __init__(self, *config, disk_mib=None, wal_apart=False, also_at=None, port=None):
        self.disk_mib = disk_mib
        self.wal_apart = wal_apart
        self.also_at = also_at
        super().__init__(*config, port=port)

    def _prepare(self):
        self.programs = postgres_programs()
        template = postgres_template(self.programs)
        disk = os.path.join(self.directory, "disk")
        os.mkdir(disk, 0o711)
        if self.disk_mib:
            if not as_root():
                raise PermissionError("a disk of limited size takes root")
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={self.disk_mib}m,mode=711", "assay-disk", disk],
                check=True)
        give(disk)
        self.data = os.path.join(disk, "data")
        subprocess.run(["cp", "-a", "--reflink=auto", os.path.join(template, "data"), self.data], check=True)
        if self.wal_apart:
            apart = os.path.join(self.directory, "wal")
            subprocess.run(["mv", os.path.join(self.data, "pg_wal"), apart], check=True)  # which keeps the owner
            os.symlink(apart, os.path.join(self.data, "pg_wal"))
        with open(os.path.join(template, "password"), encoding="ascii") as file:
            self.password = file.read().strip()
        with open(os.path.join(self.data, "postgresql.conf"), "a", encoding="utf-8") as file:
            file.write("include '../../assay.conf'\n")
        if self.also_at:
            with open(os.path.join(self.data, "pg_hba.conf"), "a", encoding="utf-8") as file:
                file.write("host all all all scram-sha-256\n")

    def _command(self):
        addresses = ",".join(filter(None, ("127.0.0.1", self.also_at)))
        lines = [f"listen_addresses = '{addresses}'", f"port = {self.port}", f"unix_socket_directories = '{self.directory}'",
            "logging_collector = off", "log_destination = 'stderr'", "log_line_prefix = '%m [%p] %a '", *self.config]
        self._write_config(lines)
        return [os.path.join(self.programs, "postgres"), "-D", self.data]

    def _write_config(self, lines):
        with open(os.path.join(self.directory, "assay.conf"), "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")

    def reload(self, *config):
        """Further lines of configuration, for those that take effect without a restart."""
        self.config += config
        self._command()
        mark = len(self.log)
        self.process.send_signal(signal.SIGHUP)
        with self.news:
            while not any("reloading configuration" in line for line in self.log[mark:]):
                if not self.news.wait(PATIENCE_S):
                    raise RuntimeError("postgres did not reload")

    def fill_disk(self):
        """Leaves no space on a disk of limited size, until free_disk()."""
        with open(os.path.join(self.directory, "disk", "filler"), "wb", buffering=0) as file:
            with contextlib.suppress(OSError):
                while file.write(b"\0" * 65536):
                    pass

    def free_disk(self):
        os.unlink(os.path.join(self.directory, "disk", "filler"))

    def url_of(self, name, user=USER, password=None, port=None, host="127.0.0.1"):
        return f"postgresql://{user}:{password or self.password}@{host}:{port or self.port}/{name}"

    def socket_url_of(self, name):
        host = urllib.parse.quote(self.directory, safe="")
        return f"postgresql://{USER}:{self.password}@{host}:{self.port}/{name}"

    @property
    def url(self):
        return self.url_of("postgres")

    @property
    def socket_url(self):
        return self.socket_url_of("postgres")

    def sql(self, text, database="postgres", user=USER, password=None):
        return psql(text, PGHOST=self.directory, PGPORT=str(self.port), PGUSER=user,
            PGPASSWORD=password or self.password, PGDATABASE=database)

    @contextlib.contextmanager
    def database(self, name=None, template="template1"):
        """A fresh database, dropped at the end with whoever is still connected."""
        name = name or "db_" + secrets.token_hex(6)
        self.sql(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        try:
            yield Database(self, name)
        finally:
            if self.running():
                self.resume()
                self.sql(f'DROP DATABASE "{name}" WITH (FORCE)')

    def remove(self):
        if self.running():
            self.kill()
        if self.disk_mib:
            subprocess.run(["umount", os.path.join(self.directory, "disk")], check=False, stderr=subprocess.DEVNULL)
        super().remove()


def psql(text, **where):
    done = subprocess.run([os.path.join(postgres_programs(), "psql"), "-XqAt", "-v", "ON_ERROR_STOP=1", "-f", "-"],
        input=text, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False, text=True,
        env={"PATH": os.environ["PATH"], "PGCONNECT_TIMEOUT": "30", "LC_ALL": "C.UTF-8", **where})
    if done.returncode != 0:
        raise PsqlError(done.stderr.strip())
    return done.stdout.rstrip("\n")


class PgBouncer(Server):
    """A pooler in front of a server, in transaction mode unless told."""

    NAME = "pgbouncer"
    READY = r"process up: PgBouncer"
    STOP = signal.SIGINT

    def __init__(self, postgres, *config, mode="transaction", port=None):
        self.postgres = postgres
        self.mode = mode
        super().__init__(*config, port=port)
        self.password = postgres.password

    def _prepare(self):
        self.program = shutil.which("pgbouncer", path=os.environ["PATH"] + ":/usr/sbin")
        if not self.program:
            raise Missing("pgbouncer is not installed")

    def _command(self):
        users = os.path.join(self.directory, "users")
        ini = os.path.join(self.directory, "pgbouncer.ini")
        lines = ["[databases]", f"* = host=127.0.0.1 port={self.postgres.port}", "[pgbouncer]", "listen_addr = 127.0.0.1",
            f"listen_port = {self.port}", f"unix_socket_dir = {self.directory}", f"pool_mode = {self.mode}",
            "auth_type = scram-sha-256", f"auth_file = {users}", f"admin_users = {USER}", "max_client_conn = 1000",
            *self.config]
        for path, text in ((users, f'"{USER}" "{self.postgres.password}"'), (ini, "\n".join(lines))):
            with open(path, "w", encoding="utf-8") as file:
                file.write(text + "\n")
            os.chmod(path, 0o600)
        give(self.directory, "users", "pgbouncer.ini")
        return [self.program, ini]

    def url_of(self, name, user=USER):
        return f"postgresql://{user}:{self.password}@127.0.0.1:{self.port}/{name}"

    @property
    def url(self):
        return self.url_of("postgres")

    def sql(self, text, database="pgbouncer"):
        """By default to its own console: "SHOW POOLS"."""
        return psql(text, PGHOST=self.directory, PGPORT=str(self.port), PGUSER=USER, PGPASSWORD=self.password,
            PGDATABASE=database)


# ---- Redis ----


class Redis(Server):
    """Without persistence unless `config` asks for it ("appendonly yes", "appendfsync always")."""

    NAME = "redis"
    READY = r"[Rr]eady to accept connections"

    def _prepare(self):
        # Debian's redis-tools has the server's program under the name of another, and starts no service.
        program = shutil.which("redis-server") or shutil.which("redis-check-rdb")
        if not program:
            raise Missing("Redis is not installed: neither redis-server nor redis-tools")
        self.program = os.path.join(self.directory, "redis-server")
        os.symlink(os.path.realpath(program), self.program)

    def _command(self):
        path = os.path.join(self.directory, "redis.conf")
        lines = ["bind 127.0.0.1", f"port {self.port}", f"unixsocket {self.socket_path}", "unixsocketperm 777",
            f"dir {self.directory}", "daemonize no", 'save ""', f"requirepass {self.password}", *self.config]
        with open(path, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        os.chmod(path, 0o600)
        give(self.directory, "redis.conf")
        return [self.program, path]

    @property
    def socket_path(self):
        return os.path.join(self.directory, "redis.sock")

    @property
    def url(self):
        return self.url_at(self.port)

    def url_at(self, port, host="127.0.0.1"):
        """Its address behind a proxy at that port, or at a further one of this machine."""
        return f"redis://default:{self.password}@{host}:{port}/0"

    @property
    def socket_url(self):
        return f"redis+socket://:{self.password}@{self.socket_path}?virtual_host=0"

    def cli(self, *words):
        """What redis-cli prints for a command."""
        done = subprocess.run(["redis-cli", "-s", self.socket_path, *words], stdout=subprocess.PIPE, check=True, text=True,
            env={**os.environ, "REDISCLI_AUTH": self.password})
        return done.stdout.rstrip("\n")


# ---- a command with servers ----


def main():
    parser = argparse.ArgumentParser(prog="tests/servers.py", description=__doc__.splitlines()[0])
    parser.add_argument("--postgres", action="store_true", help="ASSAY_DATABASE_URL")
    parser.add_argument("--redis", action="store_true", help="REDIS_URL")
    parser.add_argument("--quiet", action="store_true", help="do not say where they are")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        # SIGTERM ends us as an exception does, so that the servers are removed.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        environment = dict(os.environ)
        if options.postgres:
            postgres = stack.enter_context(PostgreSQL())
            postgres.sql(f"CREATE DATABASE {USER}")
            environment["ASSAY_DATABASE_URL"] = postgres.url_of(USER)
        if options.redis:
            environment["REDIS_URL"] = stack.enter_context(Redis()).url
        if not options.quiet:
            for name in ("ASSAY_DATABASE_URL", "REDIS_URL"):
                if name in environment:
                    print(f"{name}={environment[name]}", file=sys.stderr, flush=True)
        # Whatever becomes of us, it is told to end: its servers end then, too.
        process = subprocess.Popen(["setpriv", "--pdeathsig", "TERM", "--", *options.command], env=environment)
        # Ctrl-C goes to the command too, from the terminal: the servers outlive it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        status = process.wait()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Missing as missing:
        sys.exit(f"servers: {missing}")
