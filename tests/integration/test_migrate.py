"""`assayd migrate` and what it prints, as an operator runs them: by which address, with which exit status, and that a service starts on
what they have made."""

import os
import subprocess
import threading

import pytest

import servers
from clients import patient_until
from service import BUILD, clean_environment

NOOP = ("--executors", "noop")
# docs/OPERATIONS.md: all that the service needs where others migrate.
GRANTS = """
GRANT USAGE ON SCHEMA assay TO {role};
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA assay TO {role};
GRANT USAGE ON ALL SEQUENCES IN SCHEMA assay TO {role};
"""


@pytest.fixture
def assayd(tmp_path):
    """assayd(*arguments, **environment): what it printed; `status` is the exit status that it is to have, `into` where its output goes."""
    def run(*arguments, status=0, into=subprocess.PIPE, **environment):
        done = subprocess.run([os.path.join(BUILD, "assayd"), *arguments], stdin=subprocess.DEVNULL, stdout=into,
                              stderr=subprocess.PIPE, check=False, text=True, cwd=tmp_path, env=clean_environment(**environment))
        assert done.returncode == status, (done.returncode, done.stderr)
        if status == 0:
            assert done.stderr == ""
            return done.stdout
        assert not done.stdout
        told = [line for line in done.stderr.splitlines() if line.startswith("assayd: ")]
        assert len(told) == 1, done.stderr
        return told[0]

    return run


def has_schema(database, schema="assay"):
    return database.sql(f"SELECT count(*) FROM pg_namespace WHERE nspname = '{schema}'") == "1"


def run_noop(service):
    answer = service.call("POST", "/execute?wait=100", {"executor": "noop", "code": ""})
    assert answer.json["phase"] == "succeeded", answer
    return answer.json["task_id"]


# ---- migrate ----


def test_it_makes_the_schema_and_finds_it_made(database, assayd):
    for _ in range(2):
        assert assayd("migrate", ASSAY_DATABASE_URL=database.url) == "schema assay is up to date\n"
    assert database.sql("SELECT count(*) FROM assay.tasks") == "0"
    assert assayd("migrate", "--database-schema", "other", ASSAY_DATABASE_URL=database.url) == "schema other is up to date\n"
    assert database.sql("SELECT count(*) FROM other.tasks") == "0"


def test_the_address_past_the_pooler_comes_first(postgres, database, assayd):
    with postgres.database() as other:
        assayd("migrate", ASSAY_DATABASE_URL=other.url, ASSAY_DATABASE_LISTEN_URL=database.url)
        assert has_schema(database) and not has_schema(other)
        with servers.PgBouncer(postgres) as pooler:
            assayd("migrate", ASSAY_DATABASE_URL=pooler.url_of(other.name), ASSAY_DATABASE_LISTEN_URL=other.url)
        assert has_schema(other)


def test_by_its_parts(database, assayd):
    assayd("migrate", POSTGRES_HOST="127.0.0.1", POSTGRES_PORT=str(database.server.port), POSTGRES_USER=servers.USER,
           POSTGRES_PASSWORD=database.server.password, POSTGRES_DB=database.name)
    assert has_schema(database)


def test_no_database_is_named(assayd):
    said = assayd("migrate", status=1)
    assert "no database is named" in said and "ASSAY_DATABASE_URL" in said and "POSTGRES_HOST" in said, said


def test_what_is_wrong_is_said_and_is_a_failure(database, assayd):
    server = database.server
    said = assayd("migrate", status=1, ASSAY_DATABASE_URL=server.url_of(database.name, password="wrong"))
    assert "password authentication failed" in said and ":wrong" not in said, said
    assert "nowhere" in assayd("migrate", status=1, ASSAY_DATABASE_URL=server.url_of("nowhere"))
    with servers.Redis() as gone:
        port = gone.port
    assert "refused" in assayd("migrate", status=1, ASSAY_DATABASE_URL=server.url_of(database.name, port=port))
    assert "a schema's name" in assayd("migrate", "--database-schema", "No-Name", status=1, ASSAY_DATABASE_URL=database.url)
    assayd("migrate", ASSAY_DATABASE_URL=database.url)
    database.sql("INSERT INTO assay.migrations (number, name) SELECT 1 + max(number), 'of_tomorrow' FROM assay.migrations")
    assert "newer than this program" in assayd("migrate", status=1, ASSAY_DATABASE_URL=database.url)


def test_a_lock_that_is_waited_for_is_no_lost_connection(database, assayd):
    """For longer than a connection may take to come about."""
    assayd("migrate", ASSAY_DATABASE_URL=database.url)
    holder = threading.Thread(target=database.sql, args=(
        "BEGIN; LOCK TABLE assay.migrations IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(8); COMMIT",))
    holder.start()
    patient_until(lambda: database.sql("SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted "
                                       "AND relation = 'assay.migrations'::regclass") == "1")
    assayd("migrate", ASSAY_DATABASE_URL=database.url + "?connect_timeout=5")
    holder.join()


def test_what_it_does_not_understand(database, assayd):
    assert "twice is not a command" in assayd("migrate", "twice", status=2, ASSAY_DATABASE_URL=database.url)
    assert "--prnt" in assayd("migrate", "--prnt", status=2, ASSAY_DATABASE_URL=database.url)
    assert not has_schema(database)


# ---- migrate --print ----


def test_it_prints_and_touches_nothing(database, assayd):
    """The text is the same whether or not a database is named: it finds out itself what is there."""
    text = assayd("migrate", "--print")
    assert text.startswith("BEGIN;\n") and text.endswith("COMMIT;\n")
    assert assayd("migrate", "--print", ASSAY_DATABASE_URL=database.url) == text
    assert not has_schema(database)


def test_text_that_could_not_be_written_is_a_failure(assayd):
    with open("/dev/full", "w", encoding="ascii") as full:
        assert "No space left" in assayd("migrate", "--print", status=1, into=full)


def test_a_service_starts_on_what_other_hands_have_run(database, assayd, services):
    """By a role that may make nothing, once it has the rights that the documents name."""
    database.sql(assayd("migrate", "--print"))
    role = database.name + "_service"
    database.sql(f"CREATE ROLE {role} LOGIN PASSWORD 'service'")
    try:
        database.sql(GRANTS.format(role=role))
        with services(*NOOP, ASSAY_DATABASE_URL=database.server.url_of(database.name, user=role, password="service")) as service:
            task = run_noop(service)
        assert database.sql(f"SELECT status FROM assay.tasks WHERE id = '{task}'") == "COMPLETED"
    finally:
        database.sql(f"DROP OWNED BY {role}; DROP ROLE {role}")


@pytest.mark.parametrize("schema", ("assay", "user"))  # the latter is a word of SQL, too
def test_on_a_current_schema_the_text_writes_nothing(database, assayd, schema):
    flags = ("migrate", "--compat-views", "--database-schema", schema)
    text = assayd(*flags, "--print")
    asks = text.replace("COMMIT;\n", "SELECT pg_current_xact_id_if_assigned() IS NULL;\nCOMMIT;\n")
    assert database.sql(asks) == "f"
    assert database.sql(asks) == "t"
    assayd(*flags, ASSAY_DATABASE_URL=database.url)
    assert database.sql(asks) == "t"


# ---- migrate --compat-views ----


def test_views_in_public(database, assayd, services):
    assayd("migrate", ASSAY_DATABASE_URL=database.url)
    assert database.sql("SELECT to_regclass('public.tasks') IS NULL") == "t"
    for _ in range(2):
        assayd("migrate", "--compat-views", ASSAY_DATABASE_URL=database.url)
    with services(*NOOP, ASSAY_DATABASE_URL=database.url) as service:
        task = run_noop(service)
    assert database.sql("SELECT id, status FROM public.tasks") == f"{task}|COMPLETED"
    assert database.sql("SELECT task_id, status, date_done IS NOT NULL FROM public.celery_taskmeta") == f"{task}|SUCCESS|t"


def test_a_name_that_is_taken_is_left(database, assayd):
    database.sql("CREATE TABLE public.tasks (recipe text)")
    assayd("migrate", "--compat-views", ASSAY_DATABASE_URL=database.url)
    assert database.sql("SELECT count(recipe) FROM public.tasks") == "0"
    assert database.sql("SELECT count(*) FROM public.celery_taskmeta") == "0"
