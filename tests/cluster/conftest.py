"""One cluster for all tests of a session, and a namespace for each."""

import os
from collections.abc import Iterator

import pytest

from . import binaries, cluster
from .cluster import Cluster


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker("cluster")


@pytest.fixture(scope="session")
def kube() -> str:
    return os.environ.get("GPUSLICE_KUBE", binaries.NEWEST)


@pytest.fixture(scope="session")
def bare(kube: str) -> Iterator[Cluster]:
    """Without an agent."""
    with cluster.temporary(f"test-{os.getpid()}", "2xa100-80g", kube) as up:
        yield up


@pytest.fixture
def namespace(bare: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """Gone with its pods when the test ends."""
    name = f"test-{os.urandom(4).hex()}"
    bare.create_namespace(name)
    yield name
    bare.remove_namespace(name)
