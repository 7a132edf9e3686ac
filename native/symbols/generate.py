"""Writes cuda.tsv, the list of what libcuda.so.1 exports, from NVIDIA's headers; --check compares.

A line is: exported symbol, the name cuGetProcAddress knows it by, the CUDA version that brought it,
and the default stream it was compiled for (none, ptds or ptsz). The headers are read, never copied:
only names and versions stay.
"""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

HEADERS = ("cuda.h", "cudaGL.h", "cudaEGL.h", "cudaVDPAU.h")
# cuProfiler* are declared in cudaProfiler.h, which the wheel lacks; their typedefs name them too.
TYPEDEFS = (
    "cudaTypedefs.h",
    "cudaGLTypedefs.h",
    "cudaEGLTypedefs.h",
    "cudaVDPAUTypedefs.h",
    "cudaProfilerTypedefs.h",
)
FOREIGN = ("GL/gl.h", "EGL/egl.h", "EGL/eglext.h", "vdpau/vdpau.h")

DECLARATION = re.compile(r"\bCUresult\s+(cu[A-Z]\w*)\s*\(")
TYPEDEF = re.compile(r"\*\s*PFN_(cu[A-Z]\w*?)_v(\d{4,5})(?:_(ptds|ptsz))?\s*\)")
SYMBOL = re.compile(r"(cu[A-Z]\w*?)(?:_v(\d))?(?:_(ptds|ptsz))?$")


@dataclass(frozen=True, slots=True, order=True)
class Symbol:
    name: str
    base: str
    version: int
    variant: str

    def line(self) -> str:
        return f"{self.name}\t{self.base}\t{self.version}\t{self.variant}\n"


def declared(include: Path, compiler: list[str]) -> set[str]:
    """Every function the headers declare: the old ABIs and both default streams too."""
    with tempfile.TemporaryDirectory() as scratch:
        for header in FOREIGN:  # their types do not matter here
            path = Path(scratch, header)
            path.parent.mkdir(exist_ok=True)
            path.touch()
        source = "".join(f"#include <{header}>\n" for header in HEADERS)
        flags = ["-D__CUDA_API_VERSION_INTERNAL", f"-I{include}", f"-I{scratch}"]
        done = subprocess.run(
            [*compiler, "-E", "-P", "-x", "c", *flags, "-"],
            input=source,
            capture_output=True,
            text=True,
            check=True,
        )
    return set(DECLARATION.findall(done.stdout))


def typedefs(include: Path) -> dict[tuple[str, str], list[int]]:
    """(name, variant) to the versions at which its ABI changed, oldest first."""
    versions: dict[tuple[str, str], set[int]] = {}
    for header in TYPEDEFS:
        for name, version, variant in TYPEDEF.findall(Path(include, header).read_text()):
            versions.setdefault((name, variant or "none"), set()).add(int(version))
    return {key: sorted(value) for key, value in versions.items()}


def symbols(include: Path, compiler: list[str]) -> list[Symbol]:
    """Pairs the ABIs of each name (cuMemAlloc, cuMemAlloc_v2) with its versions (2.0, 3.2)."""
    versions = typedefs(include)
    names = declared(include, compiler)
    names |= {name for name, _ in versions if name.startswith("cuProfiler")}
    families: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for name in names:
        match = SYMBOL.match(name)
        assert match is not None, name
        base, abi, variant = match.groups()
        families.setdefault((base, variant or "none"), []).append((int(abi or 1), name))
    found: list[Symbol] = []
    for (base, variant), members in families.items():
        known = versions.get((base, variant), [])
        if len(known) != len(members):
            raise SystemExit(f"{base} ({variant}) has the ABIs {members} but the versions {known}")
        pairs = zip(sorted(members), known, strict=True)
        found += (Symbol(name, base, version, variant) for (_, name), version in pairs)
    return sorted(found)


def installed_headers() -> Path:
    for path in sys.path:
        include = Path(path, "nvidia/cu13/include")
        if (include / "cuda.h").exists():
            return include
    raise SystemExit("cuda.h not found: pip install nvidia-cuda-runtime, or pass --include DIR.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--include", type=Path, help="folder of cuda.h; default: the wheel")
    parser.add_argument("--compiler", default="cc", help="a C preprocessor; default: cc")
    parser.add_argument("--check", action="store_true", help="exit 1 if cuda.tsv is out of date")
    arguments = parser.parse_args()
    include = arguments.include or installed_headers()
    text = "".join(s.line() for s in symbols(include, shlex.split(arguments.compiler)))
    table = Path(__file__).with_name("cuda.tsv")
    if not arguments.check:
        table.write_text(text)
    elif table.read_text() != text:
        raise SystemExit(f"{table} is out of date: run {Path(__file__).name}.")


if __name__ == "__main__":
    main()
