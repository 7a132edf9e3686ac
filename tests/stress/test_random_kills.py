"""Tenants and agents are killed at random; afterwards nothing is held and nothing is left.

On each GPU one tenant is never killed. Processes that are join its share, so at quiet moments what
it is charged must be what the node itself says that it holds, to the byte.
"""

import os
import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gpuslice_agent.control.client import connect
from gpuslice_agent.model import Share, ShareState, Snapshot

from ..acceptance.node import Node, simulated
from ..agent.daemon import started
from .crowd import Crowd, build_programs

SECONDS = float(os.environ.get("GPUSLICE_STRESS_SECONDS", "40"))
ROUND_SECONDS = 8.0
TENANTS = 5
STEPS = 5  # of a patient tenant, at a quiet moment


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_programs(tmp_path_factory.mktemp("programs"))


@pytest.fixture
def node() -> Iterator[Node]:
    with simulated("2xa100-80g") as node:
        yield node


@pytest.mark.timeout(SECONDS * 2 + 120)
def test_random_kills_leave_no_share_no_file_no_slot_and_no_byte(
    node: Node, programs: Path
) -> None:
    seed = random.randrange(2**32)
    crowd = Crowd(node, programs, random.Random(seed))
    print(f"seed={seed}")
    with closing(crowd):
        go_on_for(crowd, SECONDS)
    nothing_is_left(node)
    assert crowd.counts["kills"] and crowd.counts["agent kills"]


def go_on_for(crowd: Crowd, seconds: float) -> None:
    for gpu in (0, 1):
        crowd.add_patient(gpu)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        rage(crowd, min(end, time.monotonic() + ROUND_SECONDS))
        crowd.kill_all_doomed()
        everything_agrees(crowd)
        crowd.counts["quiet moments"] += 1
        print(*(f"{name}={count}" for name, count in sorted(crowd.counts.items())), flush=True)


def rage(crowd: Crowd, until: float) -> None:
    while time.monotonic() < until:
        if len(crowd.doomed) < TENANTS:
            crowd.add_doomed()
        time.sleep(crowd.chance.random() * 0.3)
        if crowd.chance.random() < 0.4:
            crowd.kill_one()
        if crowd.chance.random() < 0.15:
            crowd.counts["agent kills"] += crowd.node.end_agent()


def everything_agrees(crowd: Crowd) -> None:
    """With the patient tenants at rest, and all others dead."""
    node, pids = crowd.node, {run.pid for run in crowd.patient}
    for run in crowd.patient:
        for _ in range(STEPS):
            run.goes_on()
            run.says()
    snapshot = settled(node, pids)
    ids = sorted(share.id for share in snapshot.shares)
    assert sorted(os.listdir(node.sim.run_directory.shares)) == ids
    for share in snapshot.shares:
        assert share.state is ShareState.READY
        assert [process.pid for process in share.usage.processes] == [share.owner.pid]
        assert share.usage.used_bytes == node.held([share.owner.pid])
        assert on_card(snapshot, share) == share.usage.used_bytes
    assert in_ledger(node) == ids


def on_card(snapshot: Snapshot, share: Share) -> int:
    [gpu] = [gpu for gpu in snapshot.gpus if gpu.uuid == share.gpu_uuid]
    return gpu.reading.memory_used_bytes


def in_ledger(node: Node) -> list[str]:
    """An agent keeps its ledger to itself, so it is killed once more."""
    node.end_agent()
    with closing(sqlite3.connect(node.sim.run_directory.path / "state/ledger.sqlite")) as ledger:
        return sorted(row[0] for row in ledger.execute("SELECT id FROM shares"))


def settled(node: Node, owners: set[int]) -> Snapshot:
    """The node when only these programs have shares. Whoever asks starts an agent, if need be."""
    while True:
        asked = node.gpuslice("status", "--json")
        assert asked.returncode == 0, asked.stderr
        with closing(connect(node.sim.run_directory)) as client:
            snapshot = client.list()
        if {share.owner.pid for share in snapshot.shares} == owners:
            return snapshot
        time.sleep(0.1)  # the test's own time-out is the limit


def nothing_is_left(node: Node) -> None:
    snapshot = settled(node, set())
    assert [gpu.reading.memory_used_bytes for gpu in snapshot.gpus] == [0, 0]
    assert os.listdir(node.sim.run_directory.shares) == []
    assert in_ledger(node) == []
    assert node.held() == 0


def test_a_killed_agent_leaves_nothing_that_keeps_the_next_from_starting(node: Node) -> None:
    directory = node.sim.run_directory
    for _ in range(3):
        with started(node.environment, directory.path) as daemon:
            daemon.kill()
    with started(node.environment, directory.path), connect(directory) as client:
        assert client.list().gpus
