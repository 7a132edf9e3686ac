"""C programs of tests/programs, compiled when a test needs them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from gpuslice_agent import native_files

PROGRAMS = Path(__file__).parents[1] / "programs"
KERNELS = Path(__file__).parents[1] / "kernels" / "gpuslice.ptx"


def compiler() -> list[str]:
    if named := os.environ.get("CC"):
        return named.split()
    return ["cc"] if shutil.which("cc") else [sys.executable, "-m", "ziglang", "cc"]


def cuda_headers() -> Path:
    for path in sys.path:
        include = Path(path, "nvidia/cu13/include")
        if (include / "cuda.h").exists():
            return include
    raise FileNotFoundError("cuda.h: pip install nvidia-cuda-runtime")


def build(output: Path, *sources: str, flags: tuple[str, ...] = ()) -> Path:
    """Compiles sources of tests/programs; `-lcuda` means the simulated driver."""
    command = [
        *compiler(),
        *("-O1", "-Wall", "-Wextra", "-Werror", f"-I{cuda_headers()}", "-o", str(output)),
        *(str(PROGRAMS / source) for source in sources),
        *(f"-L{native_files.simulation()}", *flags, "-ldl", "-lpthread"),
    ]
    subprocess.run(command, check=True)
    return output
