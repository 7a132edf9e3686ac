"""Which shares a process finds: all of them, or it does not start; and it sees no other GPU."""

import ctypes
import fcntl
import json
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuslice_agent import native_files, simulation

from .entry_programs import LIMIT, answer, answer_line, build_clients, run
from .share_on_node import Share


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_clients(tmp_path_factory.mktemp("programs"))


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


def test_a_share_with_1024_processes_takes_no_more(programs: Path, share: Share) -> None:
    with (share.files / "usage").open("r+b") as usage:
        lock = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 1 << 62, 1024, 0)
        fcntl.fcntl(usage, fcntl.F_OFD_SETLK, lock)
        done = run([programs / "direct"], share.environment())
    assert done.returncode != 0
    assert done.stderr.startswith("gpuslice: ")
    assert "1024" in done.stderr


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


def test_the_driver_is_found_only_where_it_is() -> None:
    """Our exports stand in the global scope, and must not be taken for the driver."""
    code = "import ctypes; print(hasattr(ctypes.CDLL(None), 'cuInit'))"
    environment = {**os.environ, "LD_PRELOAD": str(native_files.shim())}
    assert answer_line([sys.executable, "-c", code], environment) == "False"
    assert not hasattr(ctypes.CDLL(None), "cuInit")
