"""C programs of tests/programs, compiled when a test needs them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from elftools.elf.elffile import ELFFile

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


def entry(symbol: str) -> str:
    """cuMemAlloc_v2 is the second cuMemAlloc; the headers say with which CUDA it came."""
    base, _, number = symbol.partition("_v")
    typedefs = (cuda_headers() / "cudaTypedefs.h").read_text()
    versions = sorted(int(version) for version in re.findall(rf"PFN_{base}_v(\d+)\)", typedefs))
    return f"ENTRY({symbol}, {base}, {versions[int(number or 1) - 1]})\n"


def build_by_lookup(output: Path, *sources: str) -> Path:
    """The same program, linked without libcuda: cuGetProcAddress finds what it calls."""
    objects = output.with_name(f"{output.name}.o")
    build(objects, *sources, flags=("-r", "-nostdlib"))
    with objects.open("rb") as file:
        symbols: Any = ELFFile(file).get_section_by_name(".symtab")
        undefined = [one.name for one in symbols.iter_symbols() if one["st_shndx"] == "SHN_UNDEF"]
    entries = [entry(symbol) for symbol in undefined if symbol.startswith("cu")]
    (output.parent / "entries.h").write_text("".join(entries))
    return build(output, "by_lookup.c", flags=(str(objects), f"-I{output.parent}"))


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
