"""`gpuslice status`: its JSON is a promise to programs, its tables are for people."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gpuslice_agent.cli.status_tables import size

from .conftest import GPUSLICE, Cli

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
SHARE = ("run", "--cores", "30", "--mem", "1GiB", "--policy", "elastic", "--priority", "high", "--")
HOLD = """
import ctypes, subprocess, sys
cuda = ctypes.CDLL("libcuda.so.1")
context, pointer = ctypes.c_void_p(), ctypes.c_uint64()
assert cuda.cuInit(0) == 0
assert cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
assert cuda.cuCtxSetCurrent(context) == 0
assert cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(64 << 20)) == 0
assert cuda.cuMemHostAlloc(ctypes.byref(pointer), ctypes.c_size_t(32 << 20), 0) == 0
sys.exit(subprocess.run(sys.argv[1:]).returncode)
"""


def document(cli: Cli, *before: str) -> dict[str, Any]:
    done = cli(*before, *(GPUSLICE if before else ()), "status", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def fields_of(node: dict[str, Any]) -> set[str]:
    """The names in the document and in the objects of its lists."""
    lists: list[list[dict[str, Any]]] = [one for one in node.values() if isinstance(one, list)]
    return set(node).union(*(fields_of(one) for objects in lists for one in objects))


def test_a_fresh_node_has_gpus_and_no_shares(on_node: Cli) -> None:
    node = document(on_node)
    assert node["version"] == 1 and node["simulated"] is True and node["problem"] == ""
    assert [gpu["index"] for gpu in node["gpus"]] == [0, 1]
    assert {gpu["health"] for gpu in node["gpus"]} == {"healthy"}
    assert node["shares"] == []


def test_a_share_shows_what_it_was_given_and_what_it_holds(on_node: Cli) -> None:
    node = document(on_node, *SHARE, sys.executable, "-c", HOLD)
    (share,) = node["shares"]
    gpu = node["gpus"][share["gpu_index"]]
    assert gpu["uuid"] == share["gpu_uuid"]
    assert (share["cores"], share["memory_bytes"]) == (30, 2**30)
    assert (share["policy"], share["priority"], share["state"]) == ("elastic", "high", "ready")
    assert (gpu["cores_promised"], gpu["memory_promised_bytes"]) == (30, 2**30)
    (process,) = share["processes"]
    assert process["pid"] == share["owner_pid"]
    assert process["data_bytes"] == 64 * 2**20
    assert process["pinned_bytes"] == 32 * 2**20
    assert process["memory_bytes"] == share["used_bytes"] >= 64 * 2**20
    assert gpu["strangers"] == []


def test_a_process_without_a_share_is_a_stranger(on_node: Cli) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HOLD, *GPUSLICE, "status", "--json"],
        env=on_node.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    (stranger,) = json.loads(done.stdout)["gpus"][0]["strangers"]
    assert stranger["memory_bytes"] >= 64 * 2**20


def test_every_field_is_documented(on_node: Cli) -> None:
    fields = fields_of(document(on_node, *SHARE, sys.executable, "-c", HOLD))
    page = PAGE.read_text()
    assert {
        field for field in fields if f"`{field}`" not in page and f"`{field}[]`" not in page
    } == set()


def test_the_tables_name_gpus_shares_and_processes(on_node: Cli) -> None:
    done = on_node(*SHARE, sys.executable, "-c", HOLD, *GPUSLICE, "status")
    for text in ("A100", "healthy", "1.0 GiB", "of 30 %", "elastic", "high", "arbiter"):
        assert text in done.stdout


def test_a_terminal_that_knows_ascii_only_gets_tables_too(on_node: Cli) -> None:
    on_node.environment |= {"PYTHONIOENCODING": "ascii"}
    done = on_node("status")
    assert (done.returncode, done.stderr) == (0, "")
    assert "A100" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_watch_goes_on_until_it_is_interrupted(on_node: Cli, number: signal.Signals) -> None:
    with on_node.start("status", "--json", "--watch", "--interval", "0.1") as process:
        assert process.stdout is not None
        for _ in range(3):
            assert json.loads(process.stdout.readline())["version"] == 1
        process.send_signal(number)
        _, errors = process.communicate()
    assert errors == ""
    assert process.returncode == (0 if number == signal.SIGINT else -number)


def test_without_a_gpu_it_says_why_and_fails(bare: Cli) -> None:
    done = bare("status")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("gpuslice: ") and done.stderr.count("\n") == 1


def test_sizes_are_written_for_people() -> None:
    assert [size(count) for count in (0, 1023, 1024, 8 * 2**30, 3 * 2**40)] == [
        "0 B", "1023 B", "1.0 KiB", "8.0 GiB", "3.0 TiB",
    ]  # fmt: skip
