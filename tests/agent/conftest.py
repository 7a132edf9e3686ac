"""Simulated nodes for the agent's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuslice_agent import mounts, simulation
from gpuslice_agent.simulation import SimNode


@pytest.fixture
def node() -> Iterator[SimNode]:
    with simulation.temporary("2xa100-80g", None) as node:
        yield node


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """A folder for ledger and shares, in which tmpfs may have been mounted."""
    yield tmp_path
    mounts.detach_below(tmp_path)
