"""PostgreSQL named by its parts instead of a URL: whatever is in them arrives as it is; what Kubernetes injects."""

import pytest

import servers

NOOP = ("--executors", "noop")
# All that means something to a shell, to SQL, to a URL or to libpq's words.
NAME = "o'brien \\ & host=x"
PASSWORD = """ it's \\ a "word" \\' of %20 '' $HOME dbname='x' \\"""
BASE = "it's a base \\ user=x"


@pytest.fixture
def parts(postgres):
    """The settings of a database that has names as nobody should give them."""
    def quoted(text):
        return text.replace("'", "''")

    with postgres.database(BASE) as database:
        postgres.sql(f"""CREATE ROLE "{NAME}" LOGIN PASSWORD '{quoted(PASSWORD)}'; GRANT CREATE ON DATABASE "{BASE}" TO "{NAME}" """)
        yield {"POSTGRES_HOST": "127.0.0.1", "POSTGRES_PORT": str(postgres.port), "POSTGRES_USER": NAME, "POSTGRES_DB": BASE}
        database.sql(f'DROP OWNED BY "{NAME}" CASCADE; DROP ROLE "{NAME}"')


def works(service):
    """The service, which has run an evaluation on PostgreSQL; the line that says which."""
    with service:
        answer = service.call("POST", "/execute?wait=100", {"executor": "noop", "code": ""})
        assert answer.json["phase"] == "succeeded", answer
        chosen = service.wait_line("store chosen.*").group(0)
    assert "kind=postgres" in chosen, chosen
    assert PASSWORD not in service.text() and "%20" not in service.text()
    return chosen


def test_a_password_of_any_letters(parts, services):
    chosen = works(services(*NOOP, **parts, POSTGRES_PASSWORD=PASSWORD))
    assert "by=POSTGRES_HOST" in chosen and NAME in chosen.replace("\\\\", "\\"), chosen


@pytest.mark.parametrize("end", ("", "\n", "\r\n"))
def test_a_password_from_a_file(parts, services, tmp_path, end):
    """But for the end of its line it is what the file holds."""
    path = tmp_path / "password"
    path.write_bytes((PASSWORD + end).encode())
    works(services(*NOOP, **parts, POSTGRES_PASSWORD_FILE=str(path)))


def test_a_password_in_two_places(parts, services, tmp_path):
    service = services(*NOOP, **parts, POSTGRES_PASSWORD=PASSWORD, POSTGRES_PASSWORD_FILE=str(tmp_path / "password")).launch()
    assert service.wait_end() == 2
    assert "POSTGRES_PASSWORD and POSTGRES_PASSWORD_FILE are both set" in service.text()


def test_a_wrong_password(parts, services):
    service = services(*NOOP, **parts, POSTGRES_PASSWORD=PASSWORD.strip()).launch()
    assert service.wait_end() == 1
    assert "password authentication failed" in service.text() and "%20" not in service.text(), service.text()


def test_a_url_from_a_file_comes_before_parts(database, services, tmp_path):
    path = tmp_path / "url"
    path.write_text(database.url + "\n", encoding="ascii")
    chosen = works(services(*NOOP, ASSAY_DATABASE_URL_FILE=str(path), POSTGRES_HOST="127.0.0.1", POSTGRES_PORT="1"))
    assert "by=ASSAY_DATABASE_URL_FILE" in chosen, chosen


def test_what_kubernetes_says_of_a_service_named_postgres(services):
    """POSTGRES_PORT=tcp://… is not the port that is meant: PostgreSQL's own is. A port alone is no database."""
    injected = {"POSTGRES_PORT": "tcp://10.0.0.1:6543", "POSTGRES_PORT_6543_TCP": "tcp://10.0.0.1:6543", "POSTGRES_SERVICE_PORT": "6543"}
    with servers.PostgreSQL("listen_addresses = ''", port=5432) as postgres:  # where nobody else's can be in the way
        chosen = works(services(*NOOP, **injected, POSTGRES_HOST=postgres.directory, POSTGRES_USER=servers.USER,
                                POSTGRES_PASSWORD=postgres.password))
        assert "port=5432" in chosen, chosen
    with services(*NOOP, **injected) as service:
        assert "kind=sqlite" in service.wait_line("store chosen.*").group(0)


def test_a_port_that_is_none(services):
    service = services(*NOOP, POSTGRES_HOST="127.0.0.1", POSTGRES_PORT="10.0.0.1:5432").launch()
    assert service.wait_end() == 2
    assert "POSTGRES_PORT" in service.text()
