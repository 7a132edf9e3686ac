"""Writes docs/simulated-driver.md from the built libcuda.so.1; --check only compares.

A stub is a weak symbol (see emit.py), so the library itself says what is modelled.
"""

from __future__ import annotations

import argparse
import struct
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGE = HERE.parents[1] / "docs" / "simulated-driver.md"

HEAD = """\
# What the simulated driver models

Generated from the simulated `libcuda.so.1` by `native/symbols/document.py`; do not edit.

The simulated driver exports every symbol of the newest `cuda.h`, `cudaGL.h`, `cudaEGL.h`,
`cudaVDPAU.h` and `cudaProfiler.h`, the old ABIs included. It is a test double: nothing measured
on it is a figure of a GPU. What it does not model answers `CUDA_ERROR_NOT_SUPPORTED`.

Worth knowing:

- Device pointers are host addresses of the process. The first ABIs (CUDA 2), whose pointers have
  32 bits, are therefore not modelled.
- Kernels take time and write nothing, except those named `gpuslice_...` that
  `native/sim/driver/kernel_bodies.c` lists. Any other kernel costs 4 microseconds a wave of blocks.
- `cuGetExportTable` knows no table. NVIDIA's runtime library (cudart) checks the driver through a
  private one and refuses this driver; so do programs built on it, and calls that clients make
  through it (cuda-core's `Device.pci_bus_id` and `Device.sync`).
- The nodes of a graph run one after another; branches do not overlap.
- The linker concatenates PTX. LTO IR, zstd-compressed fat binaries, compressed and video array
  formats, pools on the host and exported pools answer that they are not supported.
- Managed memory is device memory that the host may touch; it never moves.
- `cuIpcGetMemHandle` shares allocations of 1 MiB and more.

"""


def bindings(library: Path) -> dict[str, bool]:
    """Exported function to whether it is modelled, from the ELF file's dynamic symbols."""
    data = library.read_bytes()
    (offset,) = struct.unpack_from("<Q", data, 0x28)
    entry_size, count = struct.unpack_from("<HH", data, 0x3A)
    sections = [
        struct.unpack_from("<IIQQQQIIQQ", data, offset + i * entry_size) for i in range(count)
    ]
    dynsym = next(section for section in sections if section[1] == 11)
    names = sections[dynsym[6]]
    found: dict[str, bool] = {}
    for at in range(dynsym[4], dynsym[4] + dynsym[5], 24):
        name, info, _, section, _, _ = struct.unpack_from("<IBBHQQ", data, at)
        start = names[4] + name
        text = data[start : data.index(b"\0", start)].decode()
        if section and text.startswith("cu"):
            found[text] = info >> 4 != 2  # STB_WEAK
    return found


def page(library: Path) -> Iterator[str]:
    modelled = bindings(library)
    listed = [line.split("\t")[0] for line in (HERE / "cuda.tsv").read_text().splitlines()]
    if missing := [name for name in listed if name not in modelled]:
        raise SystemExit(f"{library} does not export {', '.join(missing)}: build it again.")
    yield HEAD
    for title, wanted in (("Modelled", True), ("Answers NOT_SUPPORTED", False)):
        names = [name for name in listed if modelled[name] is wanted]
        yield f"## {title} ({len(names)} of {len(listed)})\n\n"
        yield "| symbol |\n|---|\n"
        yield from (f"| `{name}` |\n" for name in names)
        if wanted:
            yield "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library", type=Path, help="the built libcuda.so.1")
    parser.add_argument("--check", action="store_true", help="exit 1 if the page is out of date")
    arguments = parser.parse_args()
    text = "".join(page(arguments.library))
    if not arguments.check:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(text)
    elif not PAGE.exists() or PAGE.read_text() != text:
        raise SystemExit(f"{PAGE} is out of date: run {Path(__file__).name}.")


if __name__ == "__main__":
    main()
