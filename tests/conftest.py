"""Private servers for the tests that ask for them: one of each for a whole run, started when first wanted."""

import pytest

import proxy as proxies
import servers
from kubernetes.cluster import kubernetes, namespace, standin  # noqa: F401 pylint: disable=unused-import


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """For pytest-xdist with --dist loadgroup: the tests of a file that share what the file sets up stay together, and those
    of the Kubernetes that each of two processes starts (`kubernetes`, `kubernetes-2`); they come first, since they take longest
    together; each of the others goes to whichever process is free."""
    shared = {item.path for item in items
              if any(defs[-1].scope == "module" for defs in item._fixtureinfo.name2fixturedefs.values())}
    for item in items:
        if item.path in shared:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
        elif "kubernetes" in item.fixturenames and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group("kubernetes"))
    items.sort(key=lambda item: 0 if item.path in shared or item.get_closest_marker("xdist_group") else
               1 if item.get_closest_marker("slow") else 2)


def started(server):
    try:
        return server()
    except servers.Missing as missing:
        pytest.fail(f"{missing}; ./dev test installs it")


@pytest.fixture(scope="session")
def postgres():
    """A PostgreSQL with its defaults that is not to be stopped; a test that breaks its server starts one of its own."""
    with started(servers.PostgreSQL) as server:
        yield server


@pytest.fixture
def database(postgres):
    """A fresh database on it: `url`, `sql(text)`."""
    with postgres.database() as fresh:
        yield fresh


@pytest.fixture(scope="session")
def redis_server():
    with started(servers.Redis) as server:
        yield server


@pytest.fixture
def redis(redis_server):
    """A Redis without a key; it is not to be stopped either."""
    redis_server.cli("FLUSHALL")
    return redis_server


@pytest.fixture
def proxy():
    """proxy(port): a Proxy before that port, closed after the test."""
    made = []

    def make(port):
        made.append(proxies.Proxy(port))
        return made[-1]

    yield make
    for each in made:
        each.close()
