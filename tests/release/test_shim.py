"""The shim as it is shipped: it loads into any container, and shows nothing but hooks."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection
from elftools.elf.sections import SymbolTableSection

REPOSITORY = Path(__file__).parents[2]
SHIM_SOURCES = REPOSITORY / "native" / "shim"
OLDEST_GLIBC = (2, 17)
T = TypeVar("T")
HOOK = re.compile(r"^\s*(?:NVML_)?HOOK\((\w+)", re.MULTILINE)


@pytest.fixture(params=["x86_64", "aarch64"])
def shim(request: pytest.FixtureRequest) -> Iterator[ELFFile]:
    path = REPOSITORY / "dist" / f"libgpuslice-{request.param}.so"
    assert path.exists(), "run `make release-shim` first"
    with path.open("rb") as file:
        elf = ELFFile(file)
        assert elf["e_machine"] == f"EM_{request.param.upper()}"
        yield elf


def section(elf: ELFFile, kind: type[T]) -> T:
    return next(one for one in elf.iter_sections() if isinstance(one, kind))


def test_it_needs_nothing_newer_than_glibc_2_17(shim: ELFFile) -> None:
    versions = {
        version.name
        for _, needed in section(shim, GNUVerNeedSection).iter_versions()
        for version in needed
    }
    assert versions
    for name in versions:
        assert re.fullmatch(r"GLIBC_[\d.]+", name), f"{name} is no public version of glibc"
        numbers = tuple(int(part) for part in name.removeprefix("GLIBC_").split("."))
        assert numbers <= OLDEST_GLIBC, f"{name} is newer than glibc 2.17"


def test_it_links_nothing_but_libc(shim: ELFFile) -> None:
    needed = section(shim, DynamicSection).iter_tags("DT_NEEDED")
    assert [getattr(tag, "needed", None) for tag in needed] == ["libc.so.6"]


def test_it_exports_nothing_but_hooks(shim: ELFFile) -> None:
    hooks = {"dlsym", "dlvsym"}
    for path in SHIM_SOURCES.rglob("*.def"):
        hooks |= set(HOOK.findall(path.read_text()))
    assert len(hooks) > 100
    exported = {
        symbol.name
        for symbol in section(shim, SymbolTableSection).iter_symbols()
        if symbol.entry.st_shndx != "SHN_UNDEF" and symbol.entry.st_info.bind == "STB_GLOBAL"
    }
    assert exported == hooks


def test_no_symbol_has_a_version_of_its_own(shim: ELFFile) -> None:
    """A versioned dlsym would not be the one that programs look for."""
    assert shim.get_section_by_name(".gnu.version_d") is None
