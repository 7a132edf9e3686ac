"""NVIDIA's own libcuda against our lists: nothing it exports escapes, and each hook is found."""

import json
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from ..unit.test_hooks_complete import NATIVE, Function, forwarded, hooked
from .record import Record
from .tenants import MIB, share_of

PROGRAM = Path(__file__).parent / "programs" / "lookups.py"
SHIM = "libgpuslice.so"
PER_THREAD, LEGACY = 2, 1


def known() -> list[list[str]]:
    """Exported name, base name, version and default stream of every function in the headers."""
    lines = (NATIVE / "symbols" / "cuda.tsv").read_text().splitlines()
    return [line.split("\t") for line in lines]


def lookups(*share: str) -> dict[str, Any]:
    asked = "".join(
        f"{name} {base} {version} {LEGACY if variant == 'none' else PER_THREAD}\n"
        for name, base, version, variant in known()
    )
    done = subprocess.run(
        [*share, sys.executable, PROGRAM], input=asked, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.fixture(scope="module")
def plain() -> dict[str, Any]:
    return lookups()


@pytest.fixture(scope="module")
def exports(plain: dict[str, Any]) -> set[str]:
    """What `nm -D` shows of the driver that programs find here."""
    path = Path(plain["rows"]["cuInit"]["dlsym"])
    with path.open("rb") as file:
        symbols = ELFFile(file).get_section_by_name(".dynsym")
        assert isinstance(symbols, SymbolTableSection)
        return {
            symbol.name
            for symbol in symbols.iter_symbols()
            if symbol["st_shndx"] != "SHN_UNDEF" and symbol.name.startswith("cu")
        }


def test_what_the_driver_exports_is_hooked_or_forwarded_with_a_reason(
    record: Record, exports: set[str]
) -> None:
    """By the rule of tests/unit/test_hooks_complete.py, which has judged by its prototype what the
    headers declare; what they do not is judged by its name.
    """
    hooks, patterns = hooked(), forwarded()
    unknown = exports - {name for name, *_ in known()}
    record.measured("symbols: exported", len(exports), "functions")
    record.measured("symbols: exported but in no header", " ".join(sorted(unknown)), "")
    missing = {
        name: concern
        for name in exports
        if (concern := Function(name, ()).concern())
        and name not in hooks
        and not any(fnmatchcase(name, pattern) for pattern in patterns)
    }
    assert not missing


def test_a_hook_that_the_driver_lacks_is_newer_or_older_than_it(
    record: Record, plain: dict[str, Any], exports: set[str]
) -> None:
    lacking = hooked() - exports
    versions = {name: int(version) for name, _, version, _ in known()}
    strange = {name for name in lacking if 4000 <= versions[name] <= plain["version"]}
    record.measured("symbols: hooks that this driver lacks", " ".join(sorted(lacking)), "")
    record.measured("symbols: lacking, though no newer than it", " ".join(sorted(strange)), "")
    assert len(lacking) < len(hooked()) / 4


def test_cugetprocaddress_answers_with_what_is_exported(
    record: Record, plain: dict[str, Any]
) -> None:
    """The shim knows an answer by its address. Where that is behind the export it goes by the
    version asked for, which the next test covers: so this is only recorded.
    """
    rows = {n: row for n, row in plain["rows"].items() if row["dlsym"] and row["procaddress"]}
    others = sorted(name for name, row in rows.items() if not row["same"])
    same = len(rows) - len(others)
    record.measured("symbols: cuGetProcAddress is dlsym", f"{same} of {len(rows)}", "functions")
    record.measured("symbols: cuGetProcAddress is not dlsym", " ".join(others), "")
    assert rows


def test_in_a_share_each_hooked_name_leads_to_the_shim_and_no_other(
    plain: dict[str, Any],
) -> None:
    here = lookups(*share_of(mem=2048 * MIB))["rows"]
    hooks = hooked()

    def wrong(way: str) -> dict[str, str | None]:
        return {
            name: here[name][way]
            for name, row in plain["rows"].items()
            if (row[way] is None) != (here[name][way] is None)
            or (row[way] is not None and (name in hooks) != here[name][way].endswith(SHIM))
        }

    assert wrong("dlsym") == {}
    assert wrong("procaddress") == {}
