"""GPU time, where tests/acceptance does not look: odd loads, policies, agents that come and go."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuslice_agent import simulation
from gpuslice_agent.model import Policy
from gpuslice_agent.simulation import SimNode

from .c_programs import KERNELS, build
from .time_shares import Load, TimeShares, Used, busy_by_pid, time_shares

SECONDS = 4.0


@pytest.fixture
def node() -> Iterator[SimNode]:
    with simulation.temporary("2xa100-80g", 1) as node:
        yield node


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("programs")
    return build(folder / "launch_loop", "launch_loop.c", flags=("-lcuda",))


@pytest.fixture
def shares(node: SimNode, tmp_path: Path, program: Path) -> Iterator[TimeShares]:
    with time_shares(node, tmp_path, program) as shares:
        yield shares


def charged_what_it_used(used: Used) -> bool:
    return used.charged == pytest.approx(used.percent, abs=1.0)


@pytest.mark.parametrize(
    "load",
    [
        Load("loop", 2),
        Load("sync", 100),
        Load("host", 100),
    ],
    ids=lambda load: f"{load.mode}-{load.kernel_us}us",
)
def test_a_capped_share_gets_its_percentage_however_it_launches(
    shares: TimeShares, load: Load
) -> None:
    shares.add(30, load)
    [used] = shares.run(SECONDS)
    assert used.percent == pytest.approx(30, abs=1)
    assert charged_what_it_used(used)


def test_a_kernel_of_seconds_is_charged_once(shares: TimeShares) -> None:
    shares.add(90, Load("sync", 2_000_000))
    [used] = shares.run(6)
    assert used.charged == pytest.approx(used.percent, abs=2)


def test_two_processes_that_wait_for_each_launch_are_united(shares: TimeShares) -> None:
    shares.add(30, Load("sync", 20), Load("sync", 300))
    [used] = shares.run(SECONDS)
    assert used.percent == pytest.approx(30, abs=1)
    assert charged_what_it_used(used)


def test_an_elastic_share_uses_what_a_capped_one_leaves(shares: TimeShares) -> None:
    shares.add(30, Load("loop", 500), policy=Policy.ELASTIC)
    shares.add(40, Load("loop", 500))
    elastic, capped = shares.run(SECONDS)
    assert capped.percent == pytest.approx(40, abs=2)
    assert elastic.percent == pytest.approx(60, abs=3)


def test_without_an_agent_the_processes_of_a_share_pace_themselves(
    node: SimNode, tmp_path: Path, program: Path
) -> None:
    with time_shares(node, tmp_path, program, paced=False) as shares:
        tenant = shares.add(30, Load("loop", 50), Load("loop", 50))
        [used] = shares.run(SECONDS)
        assert tenant.share.usage().paces_itself
    assert used.percent == pytest.approx(30, abs=1)


def test_a_share_joins_the_arbiter_when_it_comes_back(
    node: SimNode, tmp_path: Path, program: Path
) -> None:
    with time_shares(node, tmp_path, program) as shares:
        tenant = shares.add(30, Load("loop", 50))
        assert shares.arbiter
        shares.arbiter.remove(tenant.share)
        shares.run(1.5)  # until the last heartbeat is a second old, what was granted holds
        [alone] = shares.run(SECONDS)
        assert tenant.share.usage().paces_itself
        shares.arbiter.add(tenant.share)
        [paced] = shares.run(SECONDS)
        assert not tenant.share.usage().paces_itself
    assert alone.percent == pytest.approx(30, abs=1.5)
    assert paced.percent == pytest.approx(30, abs=1)


RING_WITHOUT_END = """
import fcntl, os, sys
doorbell, rings = os.open(sys.argv[1], os.O_WRONLY), bytes(65536)
fcntl.fcntl(doorbell, fcntl.F_SETPIPE_SZ, 1 << 20)
while True:
    os.write(doorbell, rings)
"""


def test_a_tenant_that_rings_without_end_stops_no_arbiter(shares: TimeShares) -> None:
    noisy, quiet = (shares.add(30, Load("loop", 500)) for _ in range(2))
    command = [sys.executable, "-c", RING_WITHOUT_END, str(noisy.directory / "doorbell")]
    ringers = [subprocess.Popen(command) for _ in range(4)]
    try:
        for _ in range(60):
            time.sleep(0.05)
            assert not quiet.share.usage().paces_itself
    finally:
        for ringer in ringers:
            ringer.kill()
            ringer.wait()


LOCK_MANY_BYTES = """
import fcntl, os, struct, sys
usage = os.open(sys.argv[1], os.O_RDWR)
for offset in (*range(-20000, -1, 2), *range(2, 1024)):  # from 0 on: process slots
    lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 2**62 + offset, 1, 0)
    fcntl.fcntl(usage, fcntl.F_OFD_SETLK, lock)
print("locked", flush=True)
sys.stdin.read()
"""


def test_a_tenant_with_many_locks_takes_no_time_of_others(shares: TimeShares) -> None:
    hostile = shares.add(30, Load("loop", 500))
    shares.add(30, Load("loop", 500))
    command = [sys.executable, "-c", LOCK_MANY_BYTES, str(hostile.directory / "usage")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as locker:
        assert locker.stdout and locker.stdout.readline() == "locked\n"
        _, used = shares.run(SECONDS)
    assert used.percent == pytest.approx(30, abs=2)


@pytest.mark.parametrize("cores", [30, 100])
def test_streams_contexts_captures_and_threads_may_come_and_go(
    node: SimNode, shares: TimeShares, tmp_path: Path, cores: int
) -> None:
    edges = build(tmp_path / "launch_edges", "launch_edges.c", flags=("-lcuda",))
    tenant = shares.add(cores)
    environment = shares.environment(tenant.directory)
    ended = subprocess.run(
        [edges, KERNELS], env=environment, capture_output=True, text=True, timeout=60
    )
    parts = "streams signals elsewhere threads captures contexts reset fork waits polls"
    assert (ended.returncode, ended.stderr, ended.stdout.split()) == (0, "", parts.split())
    # What is still in flight when a context or the process ends is not seen to its end.
    assert tenant.share.usage().busy_ns == pytest.approx(sum(busy_by_pid(node).values()), rel=0.1)
