"""From request to release, with real files, a real ledger and real tenants."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpuslice_agent.errors import (
    AllocationError,
    EnforcementError,
    RequestError,
    ShareError,
    UnknownShareError,
)
from gpuslice_agent.model import Limits, Owner, Pacing, ShareRequest, ShareState
from gpuslice_agent.simulation import SimNode

from .world import BOTH, MIB, opened, tenant

SMALL = ShareRequest(cores=30, memory_bytes=1024 * MIB)


def test_a_share_has_its_files_before_its_request_returns(state: Path, node: SimNode) -> None:
    with opened(state, node) as world:
        (share,) = world.create(SMALL)
        assert {entry.name for entry in Path(share.directory).iterdir()} == {
            "grant",
            "usage",
            "doorbell",
            "record",
        }
        assert world.ledger.shares()[0].id == share.id


def test_a_refused_allocation_takes_nothing(state: Path, node: SimNode) -> None:
    with opened(state, node) as world:
        world.create(ShareRequest(cores=80, gpus=("1",)))
        with pytest.raises(AllocationError):
            world.create(BOTH)
        with pytest.raises(AllocationError):
            world.create(ShareRequest(cores=30, memory_bytes=MIB, gpus=("0", "1")))
        assert len(world.shares.all()) == len(world.ledger.shares()) == 1
        assert len(world.enforcement.found()) == 1


def test_what_a_tenant_holds_is_seen(state: Path, node: SimNode) -> None:
    with opened(state, node) as world:
        (share,) = world.create(SMALL)
        with tenant(node, share, holds=64 * MIB) as process:
            world.shares.look()
            seen = world.one(share.id)
            assert [one.pid for one in seen.usage.processes] == [process.pid]
            assert seen.usage.processes[0].name.startswith("python")
            assert seen.usage.processes[0].data_bytes == 64 * MIB
            assert seen.usage.used_bytes >= 64 * MIB
        world.shares.look()
        assert world.one(share.id).usage.processes == ()


def test_a_share_ends_with_its_owner(state: Path, node: SimNode) -> None:
    with opened(state, node) as world, subprocess.Popen(["sleep", "60"]) as owner:
        (share,) = world.create(ShareRequest(cores=100, owner=Owner("sleep", owner.pid)))
        world.shares.look()
        assert world.shares.all()
        owner.kill()
        owner.wait()
        world.shares.look()
        assert world.shares.all() == world.ledger.shares() == ()
        assert not Path(share.directory).exists()


def test_the_room_of_an_owner_that_just_ended_is_free_for_the_next(
    state: Path, node: SimNode
) -> None:
    with opened(state, node) as world:
        for _ in range(3):
            with subprocess.Popen(["true"]) as owner:
                whole = ShareRequest(100, gpus=("0",), owner=Owner("true", owner.pid))
                world.create(whole)


def test_a_share_outlives_its_owner_while_a_process_holds_it(state: Path, node: SimNode) -> None:
    with opened(state, node) as world:
        with subprocess.Popen(["sleep", "60"]) as owner:
            (share,) = world.create(ShareRequest(cores=100, owner=Owner("sleep", owner.pid)))
            with tenant(node, share):
                owner.kill()
                owner.wait()
                world.shares.look()
                assert world.one(share.id).usage.processes
        world.shares.look()
        assert world.shares.all() == ()


def test_a_released_share_ends_with_its_last_process_and_its_room_is_not_given_away(
    state: Path, node: SimNode
) -> None:
    whole = ShareRequest(cores=100, gpus=("0",))
    with opened(state, node) as world:
        (share,) = world.create(whole)
        with tenant(node, share):
            world.shares.release([share.id])
            assert world.one(share.id).state is ShareState.ENDING
            with pytest.raises(AllocationError):
                world.create(whole)
        world.create(whole)
        assert share.id not in [one.id for one in world.shares.all()]


def test_releasing_what_is_gone_is_no_error(state: Path, node: SimNode) -> None:
    with opened(state, node) as world:
        (share,) = world.create(SMALL)
        world.shares.release([share.id, "never there"])
        world.shares.release([share.id])
        assert world.shares.all() == world.ledger.shares() == ()


def test_a_resize_reaches_running_processes(state: Path, node: SimNode) -> None:
    with opened(state, node) as world:
        (share,) = world.create(SMALL)
        with tenant(node, share, holds=64 * MIB):
            world.shares.resize(share.id, 60, 2048 * MIB)
            assert world.ledger.shares()[0].limits == Limits(60, 2048 * MIB)
            with pytest.raises(ShareError, match="cannot be made smaller than that"):
                world.shares.resize(share.id, None, 32 * MIB)
            assert world.one(share.id).limits == Limits(60, 2048 * MIB)
            assert world.ledger.shares()[0].limits == Limits(60, 2048 * MIB)
        assert world.shares.resize(share.id, None, 32 * MIB).limits.memory_bytes == 32 * MIB


def test_a_resize_of_what_is_not_there_is_refused(state: Path, node: SimNode) -> None:
    with opened(state, node) as world, pytest.raises(UnknownShareError, match="no share nobody"):
        world.shares.resize("nobody", 50, None)


def test_a_truncated_usage_file_makes_the_share_corrupt_and_no_other(
    state: Path, node: SimNode
) -> None:
    with opened(state, node) as world:
        bad, good = world.create(BOTH)
        os.truncate(Path(bad.directory, "usage"), 100)
        world.shares.look()
        assert world.one(bad.id).state is ShareState.CORRUPT
        assert world.one(good.id).state is ShareState.READY
        with pytest.raises(ShareError, match="is corrupt"):
            world.shares.resize(bad.id, 50, None)
        world.shares.release([bad.id])
        assert [share.id for share in world.shares.all()] == [good.id]


def test_a_corrupt_share_is_not_given_away_while_a_process_holds_it(
    state: Path, node: SimNode
) -> None:
    with opened(state, node) as world:
        (share,) = world.create(ShareRequest(cores=100, gpus=("0",)))
        with tenant(node, share):
            with Path(share.directory, "usage").open("ab") as usage:
                usage.write(b"more")
            world.shares.release([share.id])
            world.shares.look()
            assert [one.id for one in world.shares.all()] == [share.id]
        world.shares.look()
        assert world.shares.all() == ()


def test_shares_go_on_over_a_restart_of_the_agent(state: Path, node: SimNode) -> None:
    with opened(state, node) as world:
        (share,) = world.create(SMALL)
    with tenant(node, share, holds=64 * MIB) as process, opened(state, node) as world:
        world.shares.look()
        seen = world.one(share.id)
        assert seen.limits == share.limits
        assert seen.directory == share.directory
        assert [one.pid for one in seen.usage.processes] == [process.pid]
        assert seen.usage.pacing is Pacing.ARBITER


def test_an_owner_that_ended_while_no_agent_ran_releases_its_share(
    state: Path, node: SimNode
) -> None:
    with subprocess.Popen(["sleep", "60"]) as owner:
        with opened(state, node) as world:
            world.create(ShareRequest(cores=30, owner=Owner("sleep", owner.pid)))
        owner.kill()
    with opened(state, node) as world:
        assert world.is_empty()


def test_files_that_vanished_are_made_again_for_a_share_that_nobody_holds(
    state: Path, node: SimNode
) -> None:
    with opened(state, node) as world:
        (share,) = world.create(SMALL)
        world.enforcement.stop(share.id)
    with opened(state, node) as world, tenant(node, world.one(share.id)):
        assert world.one(share.id).limits == share.limits


def test_files_that_the_ledger_does_not_know_go_when_nobody_holds_them(
    state: Path, node: SimNode
) -> None:
    with opened(state, node) as world:
        held, unheld = world.create(BOTH)
        world.ledger.delete([held.id, unheld.id])
    with tenant(node, held):
        with opened(state, node) as world:
            assert [share.id for share in world.shares.all()] == [held.id]
            assert world.enforcement.found() == (held.id,)
            assert world.one(held.id).limits == held.limits
            assert not Path(unheld.directory).exists()
            # What it holds is not free.
            with pytest.raises(AllocationError):
                world.create(ShareRequest(cores=71, memory_bytes=MIB, gpus=("0",)))
        with opened(state, node) as world:
            assert [share.id for share in world.shares.all()] == [held.id]
    with opened(state, node) as world:
        assert world.is_empty()


def test_a_full_disk_is_said_and_nothing_is_half_made(state: Path, node: SimNode) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    (state / "shares").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "small", str(state / "shares")]
    if subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("no file system can be mounted here")
    try:
        with opened(state, node) as world:
            (share,) = world.create(ShareRequest(memory_bytes=MIB))
            with pytest.raises(EnforcementError, match="no room for the files of a share"):
                world.create(BOTH)
            assert [one.id for one in world.shares.all()] == [share.id]
            assert [one.id for one in world.ledger.shares()] == [share.id]
            assert os.listdir(state / "shares") == [share.id]
    finally:
        subprocess.run(["umount", state / "shares"], check=True)


def test_an_owner_that_is_not_there_gets_no_share(state: Path, node: SimNode) -> None:
    with opened(state, node) as world:
        with pytest.raises(RequestError, match="There is no process"):
            world.create(ShareRequest(cores=30, owner=Owner("ghost", 4194303)))
        assert world.is_empty()


def performed(state: Path, node: SimNode, step: int, *operation: str) -> bool:
    """Whether the operation was done before its process would have been killed at `step`."""
    arguments = [sys.executable, "-m", "tests.agent.world", str(state), str(node.path), str(step)]
    status = subprocess.run([*arguments, *operation], check=False).returncode
    assert status in (0, -9)
    return status == 0


def agrees(state: Path, node: SimNode) -> list[Limits]:
    """Opens it again and checks that ledger, directories and shares are one; their limits."""
    with opened(state, node, tmpfs=True) as world:
        ids = {share.id for share in world.shares.all()}
        assert ids == {share.id for share in world.ledger.shares()}
        assert ids == set(os.listdir(state / "shares"))
        for share in world.shares.all():
            assert share.state is ShareState.READY
            with tenant(node, share):
                world.shares.look()
                assert len(world.one(share.id).usage.processes) == 1
        return [share.limits for share in world.shares.all()]


def test_a_kill_at_any_step_of_a_request_leaves_all_its_shares_or_none(
    state: Path, node: SimNode
) -> None:
    step, done, outcomes = 0, False, set[int]()
    while not done:
        step += 1
        here = state / str(step)
        done = performed(here, node, step, "create")
        left = agrees(here, node)
        assert len(left) in ((2,) if done else (0, 2))
        outcomes.add(len(left))
        release_all(here, node)
    assert step > 10 and outcomes == {0, 2}


def test_a_kill_at_any_step_of_a_release_leaves_the_share_whole_or_gone(
    state: Path, node: SimNode
) -> None:
    step, done, outcomes = 0, False, set[int]()
    while not done:
        step += 1
        here = state / str(step)
        with opened(here, node, tmpfs=True) as world:
            shares = world.create(BOTH)
        done = performed(here, node, step, "release", *(share.id for share in shares))
        left = agrees(here, node)
        assert len(left) in ((0,) if done else (0, 2))
        outcomes.add(len(left))
        release_all(here, node)
    assert step > 5 and outcomes == {0, 2}


def test_a_kill_at_any_step_of_a_resize_leaves_the_old_limits_or_the_new(
    state: Path, node: SimNode
) -> None:
    step, done = 0, False
    old, new = Limits(30, 1024 * MIB), Limits(60, 2048 * MIB)
    while not done:
        step += 1
        here = state / str(step)
        with opened(here, node, tmpfs=True) as world:
            (share,) = world.create(SMALL)
        done = performed(here, node, step, "resize", share.id)
        (left,) = agrees(here, node)
        assert left in ((new,) if done else (old, new))
        release_all(here, node)
    assert step > 3


def release_all(state: Path, node: SimNode) -> None:
    with opened(state, node, tmpfs=True) as world:
        world.shares.release([share.id for share in world.shares.all()])
        assert os.listdir(state / "shares") == []


def test_of_two_first_requests_at_once_neither_takes_the_others_room(
    state: Path, node: SimNode
) -> None:
    with opened(state, node) as world:

        async def both() -> list[object]:
            whole = ShareRequest(cores=100, gpus=("0",))
            requests = (world.shares.create(whole), world.shares.create(whole))
            return list(await asyncio.gather(*requests, return_exceptions=True))

        results = asyncio.run(both())
        assert sum(isinstance(result, AllocationError) for result in results) == 1
        assert len(world.shares.all()) == 1
