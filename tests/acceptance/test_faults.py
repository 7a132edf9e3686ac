"""What goes wrong is said in one sentence, hurts one share, and leaves the others as they were."""

import json
import os
import re
import signal
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gpuslice_agent import mounts, native_files
from gpuslice_agent.enforcement.library import AgentLibrary, OpenShare
from gpuslice_agent.model import Pacing, Share, ShareState

from ..sim.c_programs import KERNELS, build
from ..sim.share_on_node import MIB
from ..sim.time_shares import busy_by_pid
from .node import Node, Run, environment_of, simulated

OUT_OF_MEMORY = 2
OPERATING_SYSTEM = 304
SMALL = "--cores 10 --mem 1GiB --gpu 0"
# Says what each step came to, and waits for a line before the next one.
TENANT = """
import ctypes, json, os, sys
cuda = ctypes.CDLL("libcuda.so.1")
context, pointer = ctypes.c_void_p(), ctypes.c_void_p()
def say(result):
    print(json.dumps({"result": result, "pid": os.getpid()}), flush=True)
    sys.stdin.readline()
def take(size):
    return cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(size))
result = cuda.cuInit(0) or cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0)
say(result or cuda.cuCtxSetCurrent(context) or take(64 << 20))
"""
# Never more than the share, however often it is tried.
GO_ON = "while True: say(take(2 << 30) * 1000 + take(1 << 20))"
CLOSE_ALL = "os.closerange(3, 65536)\n"
FORK = "child = os.fork()\nif child == 0: sys.stdin.read()\n"


@pytest.fixture
def node() -> Iterator[Node]:
    with simulated("2xa100-80g") as node:
        yield node


def tenant(node: Node, then: str = GO_ON, options: str = SMALL) -> Run:
    """A program that holds 64 MiB of its share."""
    run = node.run(options, sys.executable, "-c", TENANT + then)
    assert run.says()["result"] == 0
    return run


def share_files(run: Run) -> Path:
    return Path(environment_of(run.pid)["GPUSLICE_SHARES"])


def until(node: Node, seen: Callable[[tuple[Share, ...]], bool]) -> tuple[Share, ...]:
    """Whoever asks starts an agent, if need be. The test's own time-out is the limit."""
    while True:
        asked = node.gpuslice("status", "--json")
        assert asked.returncode == 0, asked.stderr
        if seen(shares := node.snapshot().shares):
            return shares
        time.sleep(0.05)


def overwrite(file: Path, offset: int, content: bytes) -> None:
    with file.open("r+b") as opened:
        opened.seek(offset)
        opened.write(content)


def halve(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def grow(file: Path) -> None:
    os.truncate(file, file.stat().st_size * 2)


def another_abi(file: Path) -> None:
    overwrite(file, 8, struct.pack("=I", 99))


def zero_the_mark(file: Path) -> None:
    overwrite(file, 0, bytes(8))


def empty(file: Path) -> None:
    os.truncate(file, 0)


@pytest.mark.parametrize(
    ("name", "damage", "sentence"),
    [
        ("usage", halve, "the usage file is corrupt: it has"),
        ("usage", grow, "the usage file is corrupt: it has"),
        ("usage", another_abi, "the usage file has ABI 99"),
        ("grant", zero_the_mark, "the grant file is corrupt: it does not begin"),
        ("grant", another_abi, "the grant file has ABI 99"),
        ("grant", grow, "the grant file is corrupt: it has"),
    ],
)
def test_a_damaged_share_starts_no_program_says_why_and_hurts_no_other(
    node: Node, name: str, damage: Callable[[Path], None], sentence: str
) -> None:
    healthy = tenant(node)
    damaged = node.run(SMALL, "cat")
    damaged.goes_on()
    assert damaged.process.stdout and damaged.process.stdout.readline() == "\n"
    damage(share_files(damaged) / name)

    newcomer = damaged.join(sys.executable, "-c", TENANT)
    assert newcomer.says()["result"] == OPERATING_SYSTEM
    newcomer.goes_on()
    _, errors = newcomer.process.communicate()
    assert re.fullmatch(f"gpuslice: {sentence}.*\n", errors)

    if name == "usage":
        [state] = [share.state for share in damaged.shares()]
        assert state is ShareState.CORRUPT
        shown = json.loads(node.gpuslice("status", "--json").stdout)
        assert "corrupt" in {share["state"] for share in shown["shares"]}
    healthy.goes_on()
    assert healthy.says()["result"] == OUT_OF_MEMORY * 1000
    damaged.close()
    left = until(node, lambda shares: len(shares) == 1)
    assert left[0].owner.pid == healthy.pid


def test_a_tenant_that_cuts_its_usage_under_itself_hurts_only_itself(node: Node) -> None:
    healthy = tenant(node)
    cutter = tenant(node)
    empty(share_files(cutter) / "usage")
    cutter.goes_on()
    assert cutter.process.wait() == -signal.SIGBUS
    until(node, lambda shares: [share.owner.pid for share in shares] == [healthy.pid])
    healthy.goes_on()
    assert healthy.says()["result"] == OUT_OF_MEMORY * 1000


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a disk to be full")
@pytest.mark.parametrize("free_bytes", [0, 64 << 10, 200 << 10])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    node: Node, tmp_path: Path, free_bytes: int
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounts.mount_tmpfs(disk, 4 * MIB, 100)
    try:
        node.environment["GPUSLICE_RUN_DIR"] = str(disk / "run")
        (disk / "run").mkdir(mode=0o700)
        (disk / "filler").write_bytes(bytes(4 * MIB - free_bytes - (16 << 10)))
        done = node.gpuslice("run", *SMALL.split(), "--", "true")
        assert done.returncode == 1
        assert re.fullmatch("gpuslice: .*\n", done.stderr)
        (disk / "filler").unlink()
        assert node.gpuslice("run", *SMALL.split(), "--", "true").returncode == 0
        while Path(disk / "run/agent.sock").exists():
            time.sleep(0.05)
        assert os.listdir(disk / "run/shares") == []
    finally:
        mounts.detach(disk)


def test_a_program_that_closes_all_its_descriptors_keeps_its_slot_and_its_limit(node: Node) -> None:
    run = tenant(node, CLOSE_ALL + GO_ON)
    run.goes_on()
    assert run.says()["result"] == OUT_OF_MEMORY * 1000
    [share] = run.shares()
    assert [process.pid for process in share.usage.processes] == [run.pid]
    assert share.usage.used_bytes == run.held()


def test_a_forked_child_keeps_nothing_of_a_dead_parent(node: Node) -> None:
    keeper = tenant(node)
    parent = keeper.join(sys.executable, "-c", TENANT + FORK + "say(child)")
    assert parent.says()["result"] == 0
    parent.goes_on()
    child = os.pidfd_open(parent.says()["result"])
    try:
        parent.process.kill()
        parent.process.wait()
        [share] = keeper.shares()
        assert [process.pid for process in share.usage.processes] == [keeper.pid]
        assert share.usage.used_bytes == node.held([keeper.pid])
    finally:
        signal.pidfd_send_signal(child, signal.SIGKILL)
        os.close(child)


@pytest.fixture
def launch_loop(tmp_path: Path) -> Path:
    return build(tmp_path / "launch_loop", "launch_loop.c", flags=("-lcuda",))


def busy_percent(node: Node, run: Run, seconds: float) -> float:
    """What the node counts, over the time in which the tenant had work."""
    before = busy_by_pid(node.sim)[run.pid]
    assert run.process.stdin
    run.process.stdin.write(f"{seconds}\n")
    run.process.stdin.flush()
    said = run.says()
    after = busy_by_pid(node.sim)[run.pid]
    return 100 * (after - before) / int(said["end_ns"] - said["start_ns"])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "upgraded"])
def test_limits_go_on_without_an_agent_and_the_next_one_takes_over(
    node: Node, launch_loop: Path, number: signal.Signals
) -> None:
    launches = (launch_loop, "--ptx", KERNELS, "--kernel-us", "100")
    busy = node.run("--cores 30 --mem 4GiB --gpu 0", *map(str, launches))
    assert busy.process.stdout and busy.process.stdout.readline() == "ready\n"
    full = tenant(node, options="--mem 1GiB --gpu 1")
    files = OpenShare(
        AgentLibrary(native_files.agent_library(), native_files.agent_header()), share_files(busy)
    )
    assert node.end_agent(number)
    busy_percent(
        node, busy, 1.5
    )  # until the last heartbeat is a second old, what was granted holds
    assert busy_percent(node, busy, 4) == pytest.approx(30, abs=1.5)
    assert files.usage().paces_itself
    files.close()
    full.goes_on()
    assert full.says()["result"] == OUT_OF_MEMORY * 1000

    beside = node.gpuslice("run", *SMALL.split(), "--", "true")
    assert (beside.returncode, beside.stderr) == (0, "")
    assert busy_percent(node, busy, 4) == pytest.approx(30, abs=1)
    shares = until(node, lambda shares: len(shares) == 2)
    assert {share.owner.pid for share in shares} == {busy.pid, full.pid}
    [paced] = busy.shares()
    assert paced.usage.pacing is Pacing.ARBITER
