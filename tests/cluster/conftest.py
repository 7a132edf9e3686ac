"""One cluster for all tests of a session, and a namespace for each."""

import os
import random
from collections.abc import Iterator

import pytest

from . import binaries
from .cluster import Cluster, temporary

SHARES_OF_CLAIMS_SINCE = (1, 36)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker("cluster")


@pytest.fixture(scope="session")
def kube() -> str:
    return os.environ.get("GPUSLICE_KUBE", binaries.NEWEST)


@pytest.fixture(scope="session")
def shares_of_claims(kube: str) -> None:
    """Older API servers drop what makes a claim a share: there, claims get whole GPUs."""
    if tuple(map(int, kube.split("."))) < SHARES_OF_CLAIMS_SINCE:
        pytest.skip(f"claims of Kubernetes {kube} get whole GPUs only")


@pytest.fixture(scope="session")
def bare(kube: str) -> Iterator[Cluster]:
    """Without an agent."""
    with temporary(f"test-{os.getpid()}", "2xa100-80g", kube) as up:
        yield up


@pytest.fixture(scope="session")
def started(bare: Cluster) -> Cluster:
    bare.agent.start()
    return bare


@pytest.fixture
def cluster(started: Cluster) -> Cluster:
    """With an agent that serves, whatever the test before did to it."""
    if not started.agent.process.alive():
        started.start_agent()
    started.wait_served()
    return started


@pytest.fixture
def namespace(bare: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """Gone with its pods when the test ends."""
    name = f"test-{os.urandom(4).hex()}"
    bare.create_namespace(name)
    yield name
    bare.remove_namespace(name)


@pytest.fixture
def chance() -> random.Random:
    seed = os.environ.get("GPUSLICE_SEED") or os.urandom(4).hex()
    print(f"again with GPUSLICE_SEED={seed}")
    return random.Random(seed)
