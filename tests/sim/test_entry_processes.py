"""Forks, threads that all come first, and processes of another pid namespace."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuslice_agent import simulation

from .share_on_node import MIB, Share, show

LIMIT = 2048 * MIB
SCRIPTS = Path(__file__).parent / "scripts"


@pytest.fixture
def node() -> Iterator[simulation.SimNode]:
    with simulation.temporary("2xa100-80g", None) as node:
        yield node


@pytest.fixture
def share(node: simulation.SimNode, tmp_path: Path) -> Iterator[Share]:
    share = Share(node, tmp_path, LIMIT, gpu=1)
    yield share
    share.close()


def test_memory_calls_of_forked_children_change_nothing(share: Share) -> None:
    """While threads of their parent are in the middle of such calls."""
    tenant = share.start_python(SCRIPTS / "forked_children.py")
    assert tenant.says() == {"children": 40, "stuck": 0, "succeeded": 0}
    assert share.charged() == share.held() > 0
    assert share.pinned() == MIB
    tenant.goes_on()
    assert tenant.says() == {"freed": [0, 0]}
    assert share.charged() == share.held()
    assert share.pinned() == 0
    tenant.goes_on()
    tenant.ends()


def test_threads_that_all_come_first_start_one_account(share: Share) -> None:
    for _ in range(10):
        tenant = share.start_python(SCRIPTS / "first_inits.py")
        assert tenant.says() == {"results": [[0, 0, LIMIT]] * 8}
        assert share.charged() == share.held() > 8 * MIB
        assert len(share.processes()) == 1
        tenant.goes_on()
        tenant.ends()


HOLD = """
import ctypes, os
cuda = ctypes.CDLL("libcuda.so.1")
context, pointer = ctypes.c_void_p(), ctypes.c_uint64()
assert cuda.cuInit(0) == 0
assert cuda.cuCtxCreate_v2(ctypes.byref(context), 0, 0) == 0
assert cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(64 << 20)) == 0
print(os.getpid(), flush=True)
input()
"""
LIST = """
import json, pynvml
pynvml.nvmlInit()
gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
listed = pynvml.nvmlDeviceGetComputeRunningProcesses(gpu)
print(json.dumps([[p.pid, p.usedGpuMemory] for p in listed]))
"""


def listed(share: Share, *prefix: str) -> list[list[int]]:
    command = [*prefix, sys.executable, "-c", LIST]
    done = subprocess.run(
        command, env=share.environment(), capture_output=True, text=True, check=True
    )
    return [list(one) for one in json.loads(done.stdout)]


def child_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a pid namespace, which takes root")
def test_nvml_lists_each_process_by_the_pid_that_its_reader_knows(share: Share) -> None:
    outside = share.start(sys.executable, "-c", HOLD)
    inside = share.start("unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", HOLD)
    pids = [int((tenant.process.stdout or sys.stdin).readline()) for tenant in (outside, inside)]
    assert pids == [outside.process.pid, 1]
    pid_of_inside = child_of(inside.process.pid)
    half = share.charged() // 2

    expected = sorted([[outside.process.pid, half], [pid_of_inside, half]])
    assert sorted(listed(share)) == expected
    enter = ("nsenter", "--target", str(pid_of_inside), "--pid", "--mount")
    assert listed(share, *enter) == [[1, half]]  # who is outside cannot be named in there

    for tenant in (outside, inside):
        tenant.goes_on()
        tenant.ends()


def test_graphs_on_two_gpus_are_charged_each_to_its_own(
    node: simulation.SimNode, tmp_path: Path
) -> None:
    shares = [Share(node, tmp_path / str(gpu), LIMIT, gpu=gpu) for gpu in (0, 1)]
    environment = shares[0].environment()
    environment["GPUSLICE_SHARES"] = ":".join(str(share.files) for share in shares)
    with subprocess.Popen(
        [sys.executable, SCRIPTS / "graphs_on_two_gpus.py"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdin and program.stdout
        while line := program.stdout.readline():
            (process,) = show(node)["processes"]
            held = {gpu["index"]: gpu for gpu in process["gpus"]}
            charged = [share.charged() for share in shares]
            assert charged == [held[gpu]["memory_bytes"] for gpu in (0, 1)], line
            for gpu, share in enumerate(shares):
                busy_ns = sum(slot.busy_ns for slot in share.processes())
                assert busy_ns == pytest.approx(held[gpu]["busy_ns"], rel=0.1, abs=2e6), line
            program.stdin.write("\n")
            program.stdin.flush()
    assert program.returncode == 0
    assert line == ""
    for share in shares:
        share.close()
