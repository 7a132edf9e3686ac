"""The kernels of tests and demo are PTX that every driver from CUDA 11 on can compile for the GPUs
from Turing to Blackwell: NVIDIA's own assembler says so, the oldest of 11 and the newest of 13.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from gpuslice_agent import native_files

KERNELS = Path(__file__).parents[1] / "kernels" / "gpuslice.ptx"
# Where the wheels of each put it; what that assembler knows.
ASSEMBLERS = {
    "nvidia/cuda_nvcc/bin/ptxas": ("sm_75", "sm_80", "sm_86"),
    "nvidia/cu13/bin/ptxas": ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"),
}


def assembler(place: str) -> Path:
    found = [Path(path, place) for path in sys.path if Path(path, place).exists()]
    assert found, f"no {place}: install the group dev"
    return found[0]


@pytest.mark.parametrize(
    ("place", "architecture"),
    [(place, each) for place, architectures in ASSEMBLERS.items() for each in architectures],
)
def test_ptxas_assembles_the_kernels(tmp_path: Path, place: str, architecture: str) -> None:
    done = subprocess.run(
        [assembler(place), "-arch", architecture, "-o", tmp_path / "cubin", KERNELS],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_what_is_installed_is_what_is_tested() -> None:
    assert native_files.kernels().read_text() == KERNELS.read_text()
