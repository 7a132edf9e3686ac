"""Builds the C programs that tests/gpu and bench/gpu_*.py run.

    python tests/gpu/build.py FOLDER --cudart12 FOLDER-WITH-nvidia

`CC` names the compiler. CUDA 13's libcudart comes from where the headers come from
(nvidia-cuda-runtime); CUDA 12's wheel (nvidia-cuda-runtime-cu12) would overwrite the oldest
headers in the same environment, and so lies unpacked beside it. The driver is linked from the
simulated node, and found at run time as libcuda.so.1.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from gpuslice_agent import native_files

HERE = Path(__file__).parent
PROGRAMS = HERE.parent / "programs"
SHARED = ("-shared", "-fPIC")

# Name, sources, flags.
DRIVER_PROGRAMS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("launch_loop", ("launch_loop.c",), ("-lcuda",)),
    ("launch_cost", ("launch_cost.c",), ("-lcuda",)),
    ("allocation_loop", ("allocation_loop.c",), ("-lcuda",)),
    ("gpu_costs", ("gpu_costs.c",), ("-lcuda",)),
    ("memory_paths", ("memory_paths.c", "memory_kinds.c"), ("-lcuda",)),
    ("memory_random", ("memory_random.c", "memory_kinds.c"), ("-lcuda",)),
    ("memory_threads", ("memory_threads.c", "memory_kinds.c"), ("-lcuda",)),
    ("entry_direct", ("entry.c", "entry_direct.c"), ("-lcuda",)),
    ("entry_fork", ("entry_fork.c",), ("-lcuda",)),
    ("entry_lookup", ("entry.c", "entry_lookup.c"), ()),
    ("entry_streams", ("entry_streams.c",), ("-lcuda",)),
    ("interposer.so", ("entry_interposer.c",), SHARED),
    ("dlsym_interposer.so", ("entry_interposer.c",), (*SHARED, "-DHOOKS_DLSYM")),
)


def cuda_folder() -> Path:
    for path in sys.path:
        folder = Path(path, "nvidia/cu13")
        if (folder / "include/cuda.h").exists():
            return folder
    raise FileNotFoundError("cuda.h: pip install nvidia-cuda-runtime")


def compile_program(output: Path, sources: list[Path], *flags: str) -> None:
    compiler = os.environ.get("CC", "cc").split()
    common = ("-O2", "-Wall", "-Wextra", "-Werror", f"-I{cuda_folder() / 'include'}")
    libraries = ("-ldl", "-lpthread", "-lrt")
    subprocess.run([*compiler, *common, "-o", output, *sources, *flags, *libraries], check=True)


def build_driver_programs(folder: Path) -> None:
    for name, sources, flags in DRIVER_PROGRAMS:
        paths = [PROGRAMS / source for source in sources]
        compile_program(folder / name, paths, f"-L{native_files.simulation()}", *flags)


def build_cudart_clients(folder: Path, cudart: Path, version: int) -> None:
    """The same client with libcudart in it, and with libcudart.so beside it."""
    source = [HERE / "programs" / "cudart_client.c"]
    library = f"libcudart.so.{version}"
    shutil.copy(cudart / "lib" / library, folder)
    compile_program(
        folder / f"cudart{version}_static", source, str(cudart / "lib" / "libcudart_static.a")
    )
    compile_program(
        folder / f"cudart{version}_shared", source, str(folder / library), "-Wl,-rpath,$ORIGIN"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cudart12", type=Path, required=True, metavar="FOLDER")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    build_driver_programs(folder)
    build_cudart_clients(folder, arguments.cudart12 / "nvidia" / "cuda_runtime", 12)
    build_cudart_clients(folder, cuda_folder(), 13)


if __name__ == "__main__":
    main()
