"""However a program reaches the driver, it reaches the shim first: the limit holds."""

import json
import sys
from pathlib import Path

import pytest

from .c_programs import KERNELS, build
from .entry_programs import (
    LIMIT,
    OUT_OF_MEMORY,
    answer,
    answer_line,
    assert_holds,
    build_clients,
    run,
)
from .share_on_node import MIB, Share

NOT_READY = 600
VERSIONS = (11000, 11030, 11040, 12000, 12020, 12050, 13000, 13050)
LEGACY, PER_THREAD = 1, 2


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = build_clients(tmp_path_factory.mktemp("programs"))
    build(folder / "lookup", "entry.c", "entry_lookup.c")
    build(folder / "streams", "entry_streams.c", flags=("-lcuda",))
    shared = ("-shared", "-fPIC")
    build(folder / "interposer.so", "entry_interposer.c", flags=shared)
    build(folder / "dlsym_interposer.so", "entry_interposer.c", flags=(*shared, "-DHOOKS_DLSYM"))
    return folder


@pytest.mark.parametrize("way", ["dlsym", "default", "next", "dlsym-of-dlsym"])
def test_the_limit_holds_for_lookups(programs: Path, share: Share, way: str) -> None:
    assert_holds(answer([programs / "lookup", way], share.environment()))


def test_the_limit_holds_for_a_program_that_links_the_driver(programs: Path, share: Share) -> None:
    assert_holds(answer([programs / "direct"], share.environment()))


# cuGetProcAddress hands out its own second version from CUDA 12.0 on.
WAYS = [
    (way, version)
    for way in ("procaddress", "procaddress_v2", "procaddress_self")
    for version in VERSIONS
    if way != "procaddress_self" or version >= 12000
]


@pytest.mark.parametrize("flags", [0, LEGACY, PER_THREAD])
@pytest.mark.parametrize(("way", "version"), WAYS)
def test_the_limit_holds_for_every_version_of_the_driver_api(
    programs: Path, share: Share, way: str, version: int, flags: int
) -> None:
    assert_holds(answer([programs / "lookup", way, str(version), str(flags)], share.environment()))


# A library sees the lookups of a program only if it exports dlsym too, and then RTLD_NEXT seen from
# the program is lost in it.
@pytest.mark.parametrize(
    ("interposer", "program"),
    [
        ("interposer.so", ["direct"]),
        ("interposer.so", ["lookup", "default"]),
        ("interposer.so", ["lookup", "next"]),
        ("dlsym_interposer.so", ["direct"]),
        ("dlsym_interposer.so", ["lookup", "dlsym"]),
    ],
)
def test_a_preloaded_library_calls_through_the_shim(
    programs: Path, share: Share, interposer: str, program: list[str]
) -> None:
    environment = share.environment()
    environment["LD_PRELOAD"] = f"{programs / interposer}:{environment['LD_PRELOAD']}"
    done = run([programs / program[0], *program[1:]], environment)
    assert done.returncode == 0, done.stderr
    assert_holds(json.loads(done.stdout))
    assert int(done.stderr.split()[3]) > 0


@pytest.mark.parametrize("interposer", ["interposer.so", "dlsym_interposer.so"])
def test_the_limit_holds_with_another_library_behind_the_shim(
    programs: Path, share: Share, interposer: str
) -> None:
    environment = share.environment()
    environment["LD_PRELOAD"] += f":{programs / interposer}"
    for program in ("direct",), ("lookup", "dlsym"), ("lookup", "next"):
        assert_holds(answer([programs / program[0], *program[1:]], environment))


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        (("dlsym", ""), NOT_READY),
        (("dlsym", "_ptsz"), 0),
        (("procaddress", "12000", "0"), NOT_READY),
        (("procaddress", "12000", str(LEGACY)), NOT_READY),
        (("procaddress", "12000", str(PER_THREAD)), 0),
        (("procaddress", "13000", str(PER_THREAD)), 0),
    ],
)
def test_a_program_gets_the_default_stream_it_asks_for(
    programs: Path, share: Share, way: tuple[str, ...], expected: int
) -> None:
    assert answer_line([programs / "streams", KERNELS, *way], share.environment()) == str(expected)


def test_forked_children_share_the_limit(programs: Path, share: Share) -> None:
    bytes_each = 256 * MIB
    said = answer_line([programs / "fork", "5", str(bytes_each)], share.environment()).split()
    assert sorted(set(said)) == ["0", str(OUT_OF_MEMORY)]
    assert len(said) == 5
    assert said.count("0") * bytes_each <= LIMIT


def test_a_program_started_by_another_is_in_the_share(programs: Path, share: Share) -> None:
    command = ["/bin/sh", "-c", f"exec {programs / 'direct'}"]
    assert_holds(answer([*command], share.environment()))


PYTHON_CLIENT = """
import ctypes
driver = ctypes.CDLL("libcuda.so.1")
total = ctypes.c_size_t()
assert driver.cuInit(0) == 0
assert driver.cuDeviceTotalMem_v2(ctypes.byref(total), 0) == 0
context, pointer = ctypes.c_void_p(), ctypes.c_void_p()
assert driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
assert driver.cuCtxSetCurrent(context) == 0
print(total.value, driver.cuMemAlloc_v2(ctypes.byref(pointer), total))
print(driver.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(total.value + 1)))
"""


def test_ctypes_reaches_the_shim(share: Share) -> None:
    said = answer_line([sys.executable, "-c", PYTHON_CLIENT], share.environment()).split()
    assert int(said[0]) == LIMIT
    assert int(said[2]) == OUT_OF_MEMORY
