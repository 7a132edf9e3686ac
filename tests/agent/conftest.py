"""Simulated nodes for the agent's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuslice_agent import simulation
from gpuslice_agent.enforcement import mounts
from gpuslice_agent.simulation import SimNode


@pytest.fixture
def node() -> Iterator[SimNode]:
    with simulation.temporary("2xa100-80g", None) as node:
        yield node


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """A folder for ledger and shares, in which tmpfs may have been mounted."""
    yield tmp_path
    for line in Path("/proc/self/mounts").read_text().splitlines():
        if line.split()[1].startswith(f"{tmp_path}/"):
            mounts.detach(Path(line.split()[1]))
