"""Simulated nodes for the tests of what Kubernetes sees."""

from collections.abc import Iterator

import pytest

from gpuslice_agent import simulation
from gpuslice_agent.simulation import SimNode


@pytest.fixture
def node() -> Iterator[SimNode]:
    with simulation.temporary("2xa100-80g", None) as node:
        yield node
