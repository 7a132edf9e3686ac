"""However a program reaches the driver, it reaches the shim first: the limit holds."""

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpuslice_agent import native_files, simulation

from .c_programs import KERNELS, build
from .share_on_node import BLOCK, MIB, Share

LIMIT = 1024 * MIB
OUT_OF_MEMORY = 2
NOT_READY = 600
VERSIONS = (11000, 11030, 11040, 12000, 12020, 12050, 13000, 13050)
LEGACY, PER_THREAD = 1, 2


@pytest.fixture(scope="module")
def node() -> Iterator[simulation.SimNode]:
    with simulation.temporary("2xa100-80g", None) as node:
        yield node


@pytest.fixture
def share(node: simulation.SimNode, tmp_path: Path) -> Iterator[Share]:
    share = Share(node, tmp_path, LIMIT, gpu=1)
    yield share
    share.close()


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("programs")
    build(folder / "direct", "entry.c", "entry_direct.c", flags=("-lcuda",))
    build(folder / "lookup", "entry.c", "entry_lookup.c")
    build(folder / "streams", "entry_streams.c", flags=("-lcuda",))
    build(folder / "fork", "entry_fork.c", flags=("-lcuda",))
    shared = ("-shared", "-fPIC")
    build(folder / "interposer.so", "entry_interposer.c", flags=shared)
    build(folder / "dlsym_interposer.so", "entry_interposer.c", flags=(*shared, "-DHOOKS_DLSYM"))
    return folder


def run(command: list[str | Path], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def answer(command: list[str | Path], environment: dict[str, str]) -> dict[str, Any]:
    done = run(command, environment)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def assert_holds(said: dict[str, Any]) -> None:
    assert said["total"] == LIMIT
    assert said["refusal"] == OUT_OF_MEMORY
    assert said["free"] - BLOCK <= said["allocated"] <= said["free"] <= LIMIT
    assert said["free_afterwards"] == said["free"]


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


def answer_line(command: list[str | Path], environment: dict[str, str]) -> str:
    done = run(command, environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


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


def test_a_share_that_is_named_and_missing_stops_the_program(
    programs: Path, share: Share, tmp_path: Path
) -> None:
    environment = {**share.environment(), "GPUSLICE_SHARES": str(tmp_path / "nothing")}
    done = run([programs / "direct"], environment)
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line.startswith("gpuslice: ")]
    assert len(lines) == 1
    assert str(tmp_path / "nothing") in lines[0]


def test_a_corrupt_grant_stops_the_program(programs: Path, share: Share) -> None:
    grant = share.files / "grant"
    grant.write_bytes(bytes(grant.stat().st_size))
    done = run([programs / "direct"], share.environment())
    assert done.returncode != 0
    assert done.stderr.startswith("gpuslice: ")


def test_without_a_share_the_program_has_the_whole_gpu(
    programs: Path, share: Share, node: simulation.SimNode
) -> None:
    environment = share.environment()
    del environment["GPUSLICE_SHARES"]
    said = answer([programs / "direct"], environment)
    assert said["total"] > 64 * LIMIT


DEVICES_CLIENT = """
import ctypes, json, os
driver = ctypes.CDLL("libcuda.so.1")
result, count, uuids = driver.cuInit(0), ctypes.c_int(), []
driver.cuDeviceGetCount(ctypes.byref(count))
for device in range(count.value):
    uuid = (ctypes.c_ubyte * 16)()
    driver.cuDeviceGetUuid(uuid, device)
    uuids.append(bytes(uuid).hex())
print(json.dumps([result, uuids, os.popen("echo $CUDA_VISIBLE_DEVICES").read().strip()]))
"""


def devices(environment: dict[str, str]) -> tuple[int, list[str], str]:
    done = run([sys.executable, "-c", DEVICES_CLIENT], environment)
    assert done.returncode == 0, done.stderr
    result, uuids, visible = json.loads(done.stdout)
    return result, uuids, visible


@pytest.fixture
def two_shares(node: simulation.SimNode, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Of both GPUs of the node, the second one first."""
    second, first = (
        Share(node, tmp_path / "second", LIMIT, gpu=1),
        Share(node, tmp_path / "first", LIMIT, gpu=0),
    )
    yield {**second.environment(), "GPUSLICE_SHARES": f"{second.files}:{first.files}"}
    second.close()
    first.close()


def test_only_the_gpus_of_the_shares_are_there_in_their_order(
    two_shares: dict[str, str], share: Share, node: simulation.SimNode
) -> None:
    whole = {**node.environment(os.environ)}
    _, all_uuids, _ = devices(whole)
    assert devices(two_shares)[1] == all_uuids[::-1]
    assert devices(share.environment())[1] == all_uuids[1:]


@pytest.mark.parametrize(
    ("visible", "expected"),
    [("0", [1]), ("1", [0]), ("1,0", [0, 1]), ("0,7,1", [1]), ("", []), ("-1", [])],
)
def test_what_the_user_makes_visible_counts_inside_the_shares(
    two_shares: dict[str, str],
    node: simulation.SimNode,
    visible: str,
    expected: list[int],
) -> None:
    _, all_uuids, _ = devices({**node.environment(os.environ)})
    result, uuids, afterwards = devices({**two_shares, "CUDA_VISIBLE_DEVICES": visible})
    assert uuids == [all_uuids[index] for index in expected]
    assert (result == 0) == bool(expected)
    assert afterwards == visible


def hami(node: simulation.SimNode, tmp_path: Path, **variables: str) -> dict[str, str]:
    return {
        **node.environment(os.environ),
        "LD_PRELOAD": str(native_files.shim()),
        "CUDA_DEVICE_MEMORY_SHARED_CACHE": str(tmp_path / "hami.cache"),
        **variables,
    }


@pytest.mark.parametrize("limit", ["1g", "1024m", "1048576k", "1073741824"])
def test_hami_variables_limit_a_program_without_a_grant(
    programs: Path, node: simulation.SimNode, tmp_path: Path, limit: str
) -> None:
    environment = hami(node, tmp_path, CUDA_DEVICE_MEMORY_LIMIT=limit)
    assert_holds(answer([programs / "direct"], environment))


def test_hami_variables_limit_each_device(
    programs: Path, node: simulation.SimNode, tmp_path: Path
) -> None:
    environment = hami(
        node, tmp_path, CUDA_DEVICE_MEMORY_LIMIT="2g", CUDA_DEVICE_MEMORY_LIMIT_0="1g"
    )
    assert_holds(answer([programs / "direct"], environment))


def test_hami_variables_limit_a_process_and_its_children_together(
    programs: Path, node: simulation.SimNode, tmp_path: Path
) -> None:
    environment = hami(node, tmp_path, CUDA_DEVICE_MEMORY_LIMIT="1g")
    said = answer_line([programs / "fork", "4", str(LIMIT // 2)], environment).split()
    assert said.count("0") == 1
    assert said.count(str(OUT_OF_MEMORY)) == 3


def test_hami_variables_need_no_cache_to_be_named(
    programs: Path, node: simulation.SimNode, tmp_path: Path
) -> None:
    environment = hami(node, tmp_path, CUDA_DEVICE_MEMORY_LIMIT=str(LIMIT))
    del environment["CUDA_DEVICE_MEMORY_SHARED_CACHE"]
    said = answer_line([programs / "fork", "4", str(LIMIT // 2)], environment).split()
    assert said.count("0") == 1


def test_other_hami_limits_hold_for_the_next_program(
    programs: Path, node: simulation.SimNode, tmp_path: Path
) -> None:
    first = hami(node, tmp_path, CUDA_DEVICE_MEMORY_LIMIT="2g")
    assert answer([programs / "direct"], first)["total"] == 2 * LIMIT
    assert_holds(answer([programs / "direct"], hami(node, tmp_path, CUDA_DEVICE_MEMORY_LIMIT="1g")))


def test_hami_control_can_be_disabled(
    programs: Path, node: simulation.SimNode, tmp_path: Path
) -> None:
    environment = hami(node, tmp_path, CUDA_DEVICE_MEMORY_LIMIT="1g", CUDA_DISABLE_CONTROL="true")
    assert answer([programs / "direct"], environment)["total"] > 64 * LIMIT


def test_a_hami_variable_that_makes_no_sense_stops_the_program(
    programs: Path, node: simulation.SimNode, tmp_path: Path
) -> None:
    done = run([programs / "direct"], hami(node, tmp_path, CUDA_DEVICE_MEMORY_LIMIT="lots"))
    assert done.returncode != 0
    assert "CUDA_DEVICE_MEMORY_LIMIT=lots" in done.stderr


def test_the_driver_is_found_only_where_it_is() -> None:
    """Our exports stand in the global scope, and must not be taken for the driver."""
    code = "import ctypes; print(hasattr(ctypes.CDLL(None), 'cuInit'))"
    environment = {**os.environ, "LD_PRELOAD": str(native_files.shim())}
    assert answer_line([sys.executable, "-c", code], environment) == "False"
    assert not hasattr(ctypes.CDLL(None), "cuInit")
