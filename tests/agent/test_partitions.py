"""MIG partitions of shares: made, used, removed, and found again after a kill."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpuslice_agent.enforcement import Partitions
from gpuslice_agent.errors import AllocationError
from gpuslice_agent.mig import MigPolicy
from gpuslice_agent.model import ShareState
from gpuslice_agent.simulation import SimNode

from .mig_node import MigNode, cut_by_hand, mig_node, program

HERE = Path(__file__).parents[2]


def run(state: Path, node: SimNode, test: Callable[[MigNode], Coroutine[Any, Any, None]]) -> None:
    async def within() -> None:
        async with mig_node(state, node) as world:
            await test(world)

    asyncio.run(within())


def test_a_program_in_a_partition_sees_it_alone(state: Path, node: SimNode) -> None:
    async def test(world: MigNode) -> None:
        one = await world.cut("one", world.place("1g.10gb"))
        await world.cut("two", world.place("3g.40gb", 1))
        assert one.mig is not None
        with program(node, one.mig.uuid) as running:
            assert running.stdout is not None
            assert running.stdout.readline() == f"1 {one.limits.memory_bytes}\n"
            running.kill()

    run(state, node, test)


def test_a_partition_is_made_once_for_its_owner_and_goes_with_its_share(
    state: Path, node: SimNode
) -> None:
    async def test(world: MigNode) -> None:
        first = await world.cut("one", world.place("2g.20gb", 1))
        again = await world.cut("one", world.place("2g.20gb", 1))
        assert first.id == again.id and first.mig is not None
        assert world.devices() == [first.mig.uuid]
        world.shares.release([first.id])
        await world.until_gone(first)
        assert world.devices() == [] and world.ledger.shares() == ()

    run(state, node, test)


def test_shares_and_partitions_exclude_each_other_on_a_gpu_and_not_on_others(
    state: Path, node: SimNode
) -> None:
    async def test(world: MigNode) -> None:
        cut = await world.cut("cut", world.place("1g.10gb"))
        with pytest.raises(AllocationError, match="is cut into MIG partitions"):
            await world.share("share")
        await world.share("elsewhere", gpu=1)
        with pytest.raises(AllocationError, match="is held by 1 share"):
            await world.cut("other", world.place("1g.10gb"), gpu=1)
        assert world.devices(1) is None
        world.shares.release([cut.id])
        await world.until_gone(cut)
        await world.share("share")
        assert world.devices() is None  # MIG mode is off again

    run(state, node, test)


def test_partitions_do_not_overlap(state: Path, node: SimNode) -> None:
    async def test(world: MigNode) -> None:
        await world.cut("one", world.place("4g.40gb"))
        with pytest.raises(AllocationError, match=r"has the MIG partition 4g\.40gb at slice 0"):
            await world.cut("two", world.place("1g.10gb", 3))
        await world.cut("two", world.place("1g.10gb", 4))
        assert len(world.devices() or ()) == 2

    run(state, node, test)


def test_a_partition_stays_until_the_last_program_in_it_has_ended(
    state: Path, node: SimNode
) -> None:
    async def test(world: MigNode) -> None:
        share = await world.cut("one", world.place("1g.10gb"))
        assert share.mig is not None
        with program(node, share.mig.uuid) as running:
            assert running.stdout is not None and running.stdout.readline()
            world.shares.release([share.id])
            await asyncio.sleep(0.5)
            assert [one.state for one in world.shares.all()] == [ShareState.ENDING]
            assert world.devices() == [share.mig.uuid]
            running.kill()
        await world.until_gone(share)
        assert world.devices() == []

    run(state, node, test)


def test_partitions_of_others_are_left_as_they_are(state: Path, node: SimNode) -> None:
    async def test(world: MigNode) -> None:
        cut_by_hand(node, 0, world.place("2g.20gb", 1))
        cut_by_hand(node, 0, world.place("1g.10gb", 6), usable=False)
        with pytest.raises(
            AllocationError, match=r"has a MIG partition 1c\.2g\.20gb that is of no"
        ):
            await world.cut("one", world.place("1g.10gb", 2))
        with pytest.raises(AllocationError, match=r"MIG partition 1g\.10gb that is of no share"):
            await world.cut("one", world.place("1g.20gb", 3))
        with pytest.raises(AllocationError, match="of no share"):
            await world.share("share")
        one = await world.cut("one", world.place("1g.10gb"))
        world.shares.release([one.id])
        await world.until_gone(one)
        there = await world.nvml.partitions(world.gpus[0].uuid)
        assert [device.place.start for device in there.devices] == [2, 6]

    run(state, node, test)


def test_partitions_of_others_are_reported_once_and_block_their_gpu(
    state: Path, node: SimNode, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(world: MigNode) -> None:
        cut_by_hand(node, 0, world.place("1g.10gb", 3))
        partitions = Partitions(world.nvml, MigPolicy.ON_DEMAND)
        gpu = replace(world.gpus[0], reading=await world.nvml.read(world.gpus[0].uuid))
        for _ in range(2):
            judged = partitions.judged(gpu, frozenset())
            assert judged.partitioned
            assert [one.place.start for one in judged.foreign_partitions] == [3]
        ours = partitions.judged(gpu, frozenset({(gpu.uuid, 3)}))
        assert not ours.partitioned and ours.foreign_partitions == ()
        never = Partitions(world.nvml, MigPolicy.OFF).judged(gpu, frozenset({(gpu.uuid, 3)}))
        assert never.partitioned

    run(state, node, test)
    assert caplog.text.count("MIG partition of no share found, left as it is") == 1


def test_a_gpu_in_use_is_not_put_into_mig_mode(state: Path, node: SimNode) -> None:
    async def test(world: MigNode) -> None:
        with program(node, "0") as running:
            assert running.stdout is not None and running.stdout.readline()
            with pytest.raises(AllocationError, match="its MIG mode cannot change now"):
                await world.cut("one", world.place("1g.10gb"))
            running.kill()
        for share in world.shares.all():
            await world.until_gone(share)
        assert world.devices() is None and world.ledger.shares() == ()
        await world.cut("one", world.place("1g.10gb"))

    run(state, node, test)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("call", ["set_mig_mode", "make_partition", "remove_partition"])
def test_whatever_kills_the_agent_the_next_one_finds_its_partitions(
    state: Path, node: SimNode, call: str, when: str
) -> None:
    command = ("-m", "tests.agent.mig_node", str(state), str(node.path), call, when)
    killed = subprocess.run([sys.executable, *command], cwd=HERE, check=False)
    assert killed.returncode < 0

    async def test(world: MigNode) -> None:
        if call == "remove_partition":
            async with asyncio.timeout(20):
                while world.shares.all():  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            assert world.devices() == []
            return
        (found,) = world.shares.all()
        share = await world.cut("one", world.place("1g.10gb", 2))
        assert share.id == found.id and share.mig is not None
        assert world.devices() == [share.mig.uuid]
        world.shares.release([share.id])
        await world.until_gone(share)
        assert world.devices() == []

    run(state, node, test)


def test_a_partition_that_was_half_made_is_finished(state: Path, node: SimNode) -> None:
    command = ("-m", "tests.agent.mig_node", str(state), str(node.path), "make_partition", "before")
    subprocess.run([sys.executable, *command], cwd=HERE, check=False)

    async def test(world: MigNode) -> None:
        cut_by_hand(node, 0, world.place("1g.10gb", 2), usable=False)
        share = await world.cut("one", world.place("1g.10gb", 2))
        assert share.mig is not None and world.devices() == [share.mig.uuid]

    run(state, node, test)
