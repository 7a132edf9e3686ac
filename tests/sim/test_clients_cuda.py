"""Real clients of the driver API, as their users write them, run on the simulated node unchanged.

Kernels that the simulated driver does not know by name take time and write nothing, so the
programs check copies, and only the results of kernels from tests/kernels.
"""

import os
import subprocess
import sys
from pathlib import Path

from gpuslice_agent import simulation

from .c_programs import KERNELS

PROGRAMS = Path(__file__).parent / "programs"


def assert_runs(node: simulation.SimNode, program: str, *arguments: str, **extra: str) -> None:
    done = subprocess.run(
        [sys.executable, PROGRAMS / program, *arguments],
        env={**node.environment(os.environ), **extra},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "done"


def test_cuda_bindings_runs_unchanged(node: simulation.SimNode) -> None:
    assert_runs(node, "client_bindings.py", str(KERNELS))


def test_cuda_core_runs_unchanged(node: simulation.SimNode) -> None:
    assert_runs(node, "client_core.py")


def test_numba_cuda_runs_unchanged(node: simulation.SimNode) -> None:
    assert_runs(node, "client_numba.py")


def test_tinygrad_runs_unchanged(node: simulation.SimNode, tmp_path: Path) -> None:
    # Its cache of compiled kernels goes to a place of the test's own, so that each run compiles.
    assert_runs(node, "client_tinygrad.py", DEV="CUDA", CACHEDB=str(tmp_path / "cache.db"))
