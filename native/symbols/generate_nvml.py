"""Writes nvml.txt, the list of everything libnvidia-ml.so.1 exports, from NVIDIA's nvml.h, and
docs/simulated-nvml.md, which says what of it the simulated node models; --check only compares.

The header is read, never copied: only names stay.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LIST = HERE / "nvml.txt"
TABLE = ROOT / "docs" / "simulated-nvml.md"
SOURCES = ROOT / "native" / "sim" / "nvml"

HEAD = """\
# NVML on the simulated node

Made by `native/symbols/generate_nvml.py`; do not edit.

`libnvidia-ml.so.1` of the simulated node exports every symbol of the newest `nvml.h`. Those marked
below are modelled; the others answer `NVML_ERROR_NOT_SUPPORTED`.

{modelled} of {total} symbols are modelled.

| symbol | modelled |
|---|---|
"""


def header() -> Path:
    for folder in sys.path:
        found = Path(folder, "nvidia/cu13/include/nvml.h")
        if found.exists():
            return found
    raise SystemExit("nvml.h not found: pip install nvidia-nvml-dev.")


def exported(text: str) -> list[str]:
    return sorted(set(re.findall(r"\bDECLDIR\s+(?:char\s*\*\s*)?(nvml\w+)\s*\(", text)))


def modelled() -> set[str]:
    """What is defined in native/sim/nvml, by its own name or as the first argument of a macro."""
    definition = re.compile(
        r"^EXPORT [^;{]*\{|^[A-Z_]+\(nvml[^\n]*|^GETTER[A-Z_]*\([^\n]*", re.MULTILINE
    )
    return {
        name
        for source in SOURCES.glob("*.c")
        for match in definition.finditer(source.read_text())
        for name in re.findall(r"\bnvml[A-Z]\w*", match[0])
        if not name.endswith("_t")
    }


def table(symbols: list[str]) -> str:
    known = modelled()
    if unknown := known - set(symbols):
        raise SystemExit(
            f"native/sim/nvml defines what nvml.h has not: {', '.join(sorted(unknown))}."
        )
    rows = [f"| `{symbol}` | {'yes' if symbol in known else ''} |\n" for symbol in symbols]
    return HEAD.format(modelled=len(known), total=len(symbols)) + "".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="Lists NVML's symbols.")
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check: bool = parser.parse_args().check
    symbols = exported(header().read_text())
    made = {LIST: "".join(f"{symbol}\n" for symbol in symbols), TABLE: table(symbols)}
    stale = [path for path, text in made.items() if not path.exists() or path.read_text() != text]
    if check and stale:
        names = ", ".join(str(path.relative_to(ROOT)) for path in stale)
        raise SystemExit(f"{names}: not what generate_nvml.py makes; run it.")
    for path in stale:
        path.write_text(made[path])


if __name__ == "__main__":
    main()
