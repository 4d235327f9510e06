"""Servers that the same tests run against: the real one, and the stand-in that is held to it."""

import pytest

from kubernetes.cluster import StandIn

REAL = pytest.param("real", marks=[pytest.mark.slow, pytest.mark.xdist_group("kubernetes-2")])


@pytest.fixture(scope="session")
def shared_standin():
    """For tests that do nothing to it but what they do to the real one."""
    with StandIn() as made:
        yield made


@pytest.fixture(params=[REAL, "standin"])
def server(request):
    return request.getfixturevalue("kubernetes" if request.param == "real" else "shared_standin")


@pytest.fixture
def place(server):
    """A fresh namespace on it: `api` and `admin`, `name`, `cluster`."""
    with server.namespace() as made:
        yield made


@pytest.fixture
def own_place(standin):
    """A namespace on a stand-in of the test's own."""
    with standin.namespace() as made:
        yield made
