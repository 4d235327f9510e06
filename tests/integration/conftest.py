"""What the integration tests share: services that are stopped when the test is over, whatever became of it."""

import contextlib

import pytest

from cluster import Cluster
from service import Service
from wrapped import Wrapped


@pytest.fixture(scope="module")
def service_flags():
    """A file whose `service` is to have flags of its own overrides this."""
    return ()


@pytest.fixture(scope="module")
def service(tmp_path_factory, service_flags):
    """One service for all tests of a file."""
    with Service(tmp_path_factory.mktemp("service"), *service_flags) as running:
        yield running


@pytest.fixture
def services(tmp_path):
    """services(*flags, **environment): a further service, not yet started, in a directory of its own or in `directory`;
    `kind`: a class made of Service."""
    with contextlib.ExitStack() as stack:
        made = []

        def make(*flags, directory=None, kind=Service, **keywords):
            where = directory or tmp_path / f"service-{len(made)}"
            where.mkdir(parents=True, exist_ok=True)
            one = kind(where, *flags, **keywords)
            made.append(one)
            stack.callback(one.__exit__)
            return one

        yield make


@pytest.fixture
def clusters(services):
    """clusters(database, *flags, …): a cluster.Cluster, not yet started."""
    made = []

    def make(*arguments, **keywords):
        made.append(Cluster(services, *arguments, **keywords))
        return made[-1]

    yield make
    for cluster in made:
        cluster.close()


@pytest.fixture
def wrapped():
    """A container with assay-wrap in it, not yet started, and its listener."""
    with Wrapped() as one:
        yield one
