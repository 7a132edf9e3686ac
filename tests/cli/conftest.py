"""The command as a user calls it: another process; its status, output and errors are looked at."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuslice_agent import simulation

GPUSLICE = (sys.executable, "-m", "gpuslice_agent.cli")


class Cli:
    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*GPUSLICE, *arguments],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*GPUSLICE, *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def bare(tmp_path: Path) -> Cli:
    """On a machine as it is, with a run directory of its own."""
    return Cli({**os.environ, "GPUSLICE_RUN_DIR": str(tmp_path / "run")})


@pytest.fixture
def node() -> Iterator[simulation.SimNode]:
    with simulation.temporary("2xa100-80g", None) as node:
        yield node


@pytest.fixture
def on_node(node: simulation.SimNode) -> Cli:
    """Inside a simulated node with two GPUs, as below `gpuslice sim`."""
    return Cli(node.environment(os.environ))
