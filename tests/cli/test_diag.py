"""`gpuslice diag` finds what is wrong with a GPU, and says nothing else of it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpuslice_agent import native_files
from gpuslice_agent.simulation import SimNode

from .conftest import Cli

PATIENCE = 30
# Beyond the results of the burn, within each block of the memory that is tested.
CELL = 3 * 2**20 + 5
CONTEXT = """
import ctypes
driver = ctypes.CDLL("libcuda.so.1")
context = ctypes.c_void_p()
driver.cuInit(0)
driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0)
print("ready", flush=True)
input()
"""


def inject(node: SimNode, *words: str) -> None:
    program = native_files.sim_node_program()
    subprocess.run([program, "inject", "--gpu", "0", str(node.path), *words], check=True)


def diag(cli: Cli, *arguments: str) -> tuple[int, dict[str, Any]]:
    done = cli("diag", "--gpu", "0", "--seconds", "0", "--json", *arguments)
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


def failed(report: dict[str, Any]) -> set[str]:
    tests = [*report["tests"], *(one for gpu in report["gpus"] for one in gpu["tests"])]
    return {one["test"] for one in tests if one["outcome"] == "fail"}


def shares(cli: Cli) -> list[Any]:
    listed: list[Any] = json.loads(cli("status", "--json").stdout)["shares"]
    return listed


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_healthy_gpu_passes_everything(on_node: Cli) -> None:
    status, report = diag(on_node, "--level", "3")
    (gpu,) = report["gpus"]
    assert {one["test"]: one["outcome"] for one in gpu["tests"]} == dict.fromkeys(
        ("health", "errors", "pcie", "h2d", "d2h", "d2d", "memory", "burn", "counted"), "pass"
    )
    assert (status, report["result"], failed(report)) == (0, "pass", set())
    assert shares(on_node) == []


def test_level_1_is_for_people_too_and_touches_no_gpu(on_node: Cli) -> None:
    done = on_node("diag")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "All passed."
    assert done.stdout.count("PASS") == 2 + 2 * 3


@pytest.mark.parametrize(
    ("fault", "found", "reason"),
    [
        (("bad-cell", str(CELL)), {"memory"}, "first at byte 0x300004, in bits 0x00000100."),
        (("flip", "1"), {"burn"}, "1 results are wrong, of 2 launches: it miscalculates."),
        (("slow-link", "40"), {"h2d", "d2h"}, "10.0 GB/s; at least 22.1 GB/s were expected"),
        (("pcie-width", "8"), {"pcie"}, "x8, and it could be x16"),
        (("ecc-uncorrected", "1"), {"errors"}, "1 errors were not corrected."),
    ],
)
def test_a_fault_is_found_by_its_test_and_by_no_other(
    node: SimNode, on_node: Cli, fault: tuple[str, ...], found: set[str], reason: str
) -> None:
    inject(node, *fault)
    status, report = diag(on_node, "--level", "3")
    assert failed(report) == found
    reasons = {one["test"]: one["reason"] for one in report["gpus"][0]["tests"]}
    assert all(reason in reasons[test] for test in found)
    assert (status, report["result"]) == (1, "fail")


def test_a_gpu_with_a_share_is_refused(on_node: Cli) -> None:
    with on_node.start("run", "--gpu", "0", "--cores", "10", "--", "cat") as holder:
        until(lambda: shares(on_node))
        done = on_node("diag", "--level", "3")
        assert (done.returncode, done.stdout) == (2, "")
        assert "GPU 0 is held by 1 share" in done.stderr
        assert on_node("diag", "--gpu", "1").returncode == 0
        assert len(shares(on_node)) == 1
        holder.communicate()


def test_a_gpu_that_somebody_uses_without_a_share_is_refused(node: SimNode, on_node: Cli) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CONTEXT],
        env=node.environment(os.environ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as stranger:
        assert stranger.stdout
        stranger.stdout.readline()
        done = on_node("diag", "--gpu", "0")
        stranger.communicate("\n")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"GPU 0 is used by process {stranger.pid}" in done.stderr


def test_a_killed_diag_leaves_no_share_and_no_process(on_node: Cli) -> None:
    def owners() -> list[str]:
        return sorted(share["owner"] for share in shares(on_node))

    def workers(pid: int) -> list[Path]:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        programs = [Path("/proc", child, "cmdline") for child in children]
        return [one.parent for one in programs if b"diag.worker" in one.read_bytes()]

    with on_node.start("run", "--gpu", "1", "--cores", "1", "--", "cat") as keeper:
        with on_node.start("diag", "-r", "3", "--gpu", "0", "--seconds", "600") as running:
            until(lambda: owners() == ["cat", "gpuslice diag"])
            until(lambda: workers(running.pid))
            (worker,) = workers(running.pid)
            assert on_node("run", "--gpu", "0", "--cores", "1", "--", "true").returncode == 1
            running.kill()
        until(lambda: owners() == ["cat"])
        until(lambda: not worker.exists())
        keeper.communicate()


def test_a_driver_that_hangs_hangs_nobody(node: SimNode, on_node: Cli) -> None:
    diagnosis = ("diag", "--level", "3", "--gpu", "0", "--seconds", "1", "--deadline", "1")
    with on_node.start(*diagnosis, "--json") as running:
        until(lambda: shares(on_node))
        inject(node, "hang", "1")
        said, _ = running.communicate(timeout=PATIENCE)
        inject(node, "hang", "0")
    assert running.returncode == 1
    assert "answer within" in said


def test_a_gpu_that_is_not_there_is_a_wrong_call(on_node: Cli) -> None:
    done = on_node("diag", "--gpu", "7")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "gpuslice: There is no GPU 7 here: `gpuslice status` lists them.\n"
