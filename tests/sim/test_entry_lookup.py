"""What a lookup finds with the shim in front: the hook where the driver has the function, else what
the program would find without it."""

import os
import subprocess
from pathlib import Path

import pytest

from gpuslice_agent import native_files

from .c_programs import build

SHIM, DRIVER, NOTHING = "libgpuslice.so", "libcuda.so.1", "nothing"


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("programs")
    shared = ("-shared", "-fPIC")
    build(folder / "where", "entry_where.c")
    build(folder / DRIVER, "entry_driver.c", flags=(*shared, f"-Wl,-soname,{DRIVER}"))
    build(folder / "first.so", "entry_marker.c", flags=shared)
    build(folder / "second.so", "entry_marker.c", flags=shared)
    return folder


def where(programs: Path, *arguments: str, driver: bool = True, preloaded: str = "") -> str:
    environment = {
        **os.environ,
        "LD_PRELOAD": f"{preloaded}{native_files.shim()}",
        "LD_LIBRARY_PATH": str(programs) if driver else "/nowhere",
    }
    done = subprocess.run(
        [programs / "where", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.parametrize("way", ["handle", "default", "next"])
def test_a_hooked_name_finds_the_hook(programs: Path, way: str) -> None:
    assert where(programs, way, "cuMemAlloc_v2") == SHIM


@pytest.mark.parametrize("way", ["handle", "default", "next"])
def test_a_function_that_this_driver_lacks_is_not_to_be_found(programs: Path, way: str) -> None:
    assert where(programs, way, "cuMemAllocAsync") == NOTHING


@pytest.mark.parametrize("way", ["handle", "default", "next"])
def test_a_name_without_a_hook_finds_the_driver(programs: Path, way: str) -> None:
    assert where(programs, way, "cuCtxGetId") == DRIVER


@pytest.mark.parametrize("way", ["default", "next"])
def test_without_a_driver_there_is_nothing(programs: Path, way: str) -> None:
    assert where(programs, way, "cuInit", driver=False) == NOTHING


def test_a_lookup_of_dlsym_finds_ours(programs: Path) -> None:
    assert where(programs, "default", "dlsym") == SHIM
    assert where(programs, "next", "dlvsym") == SHIM
    assert where(programs, "versioned", "dlsym", "GLIBC_2.34") == SHIM


def test_a_version_that_the_driver_does_not_have_finds_nothing(programs: Path) -> None:
    """As without the shim: its own exports, which have no version, do not answer either."""
    assert where(programs, "versioned", "cuInit", "CUDA_1") == NOTHING


def test_what_is_next_is_seen_from_the_library_that_asks(programs: Path) -> None:
    both = f"{programs / 'first.so'}:{programs / 'second.so'}:"
    assert where(programs, "preloaded", preloaded=both) == "second.so"


def test_an_answer_from_behind_the_exports_is_hooked_by_its_version(programs: Path) -> None:
    assert where(programs, "procaddress", "cuMemAlloc", "12000") == SHIM


@pytest.mark.parametrize("version", ["99000", "99010"])
def test_an_abi_newer_than_the_shim_is_left_to_the_driver(programs: Path, version: str) -> None:
    assert where(programs, "procaddress", "cuMemAlloc", version) == DRIVER


def test_an_answer_without_a_hook_is_left_alone(programs: Path) -> None:
    assert where(programs, "procaddress", "cuCtxGetId", "12000") == DRIVER
