"""Places that were chosen before: for several owners at once, and for the same owner again."""

import asyncio
import os
from pathlib import Path

import pytest

from gpuslice_agent.errors import AllocationError, LedgerError, RequestError
from gpuslice_agent.model import Limits, Overcommit, Policy, Priority, ShareRequest, ShareState
from gpuslice_agent.simulation import SimNode

from .world import MIB, gpus_of, opened, place, tenant

HALF = Limits(50, 1024 * MIB, Policy.ELASTIC, Priority.HIGH, overcommit=Overcommit.SWAP)


def whole(node: SimNode, gpu: int) -> Limits:
    return Limits(100, gpus_of(node)[gpu].memory_bytes, whole=True)


def test_several_owners_get_their_places_at_once_or_none_does(state: Path, node: SimNode) -> None:
    with opened(state, node) as world:
        first, second = world.take(place(node, 0, HALF), place(node, 1, HALF, "sidecar"))
        assert (first.gpu_uuid, second.gpu_uuid) == tuple(gpu.uuid for gpu in gpus_of(node))
        assert (first.owner.container, second.owner.container) == ("main", "sidecar")
        assert first.limits == HALF
        with pytest.raises(AllocationError, match=r"GPU 1 has only 50 % of its time free"):
            world.take(
                place(node, 0, HALF, pod_uid="uid-2"),
                place(node, 1, Limits(60, MIB), "sidecar", pod_uid="uid-2"),
            )
        assert len(world.shares.all()) == len(world.enforcement.found()) == 2


def test_places_on_one_gpu_are_summed_before_any_is_taken(state: Path, node: SimNode) -> None:
    with opened(state, node) as world:
        places = [place(node, 0, HALF, name) for name in ("one", "two", "three")]
        with pytest.raises(AllocationError, match=r"GPU 0 has only 0 % of its time free"):
            world.take(*places)
        assert world.is_empty()
        assert len(world.take(*places[:2])) == 2


def test_containers_that_never_run_together_are_not_summed(state: Path, node: SimNode) -> None:
    with opened(state, node) as world:
        world.take(
            place(node, 0, HALF, "setup", moments=(0,)),
            place(node, 0, Limits(100, MIB), "main", moments=(1,)),
        )
        uuid = gpus_of(node)[0].uuid
        promised = world.snapshot().promised(uuid)
        assert (promised.cores, promised.memory_bytes) == (100, 1024 * MIB)
        with pytest.raises(AllocationError):
            world.take(place(node, 0, Limits(1, MIB), pod_uid="uid-2"))
        with pytest.raises(AllocationError):
            world.take(place(node, 0, Limits(1, MIB), "sidecar", moments=(0, 1)))


def test_the_same_owner_again_gets_the_share_that_it_has(state: Path, node: SimNode) -> None:
    with opened(state, node) as world:
        (share,) = world.take(place(node, 0, HALF))
        again, other = world.take(place(node, 1, HALF), place(node, 1, HALF, "other"))
        assert again == share
        assert other.gpu_uuid != share.gpu_uuid
        assert world.shares.by_key(share.owner.key) == share
    with opened(state, node) as world:
        (after,) = world.take(place(node, 0, HALF))
        assert (after.id, after.owner) == (share.id, share.owner)


def test_two_that_ask_for_the_same_owner_at_once_get_one_share(state: Path, node: SimNode) -> None:
    with opened(state, node) as world:

        async def twice() -> None:
            wish = place(node, 0, HALF)
            one, other = await asyncio.gather(world.shares.take([wish]), world.shares.take([wish]))
            assert one == other

        asyncio.run(twice())
        assert len(world.shares.all()) == 1


def test_an_owner_that_comes_back_to_its_place_goes_on_there(state: Path, node: SimNode) -> None:
    with opened(state, node) as world:
        (share,) = world.take(place(node, 0, HALF))
        with tenant(node, share):
            world.shares.release([share.id])
            assert world.one(share.id).state is ShareState.ENDING
            assert world.shares.by_key(share.owner.key) is None
            (back,) = world.take(place(node, 0, HALF))
            assert (back.id, back.state) == (share.id, ShareState.READY)
        world.shares.look()
        assert world.one(share.id).state is ShareState.READY
        assert world.ledger.shares()[0].state is ShareState.READY


def test_an_owner_that_comes_back_elsewhere_gets_another_share(state: Path, node: SimNode) -> None:
    with opened(state, node) as world:
        (share,) = world.take(place(node, 0, HALF))
        with tenant(node, share):
            world.shares.release([share.id])
            (other,) = world.take(place(node, 1, HALF))
            assert other.id != share.id
            assert world.one(share.id).state is ShareState.ENDING
        world.shares.look()
        assert [one.id for one in world.shares.all()] == [other.id]


def test_a_whole_gpu_has_no_files_for_tenants_and_nobody_beside_it(
    state: Path, node: SimNode
) -> None:
    with opened(state, node) as world:
        (share,) = world.take(place(node, 0, whole(node, 0)))
        assert share.directory == ""
        assert os.listdir(state / "shares" / share.id) == ["record"]
        with pytest.raises(AllocationError, match="GPU 0 is held whole"):
            world.take(place(node, 0, Limits(0, MIB), "other"))
        with pytest.raises(AllocationError, match="GPU 0 is held whole"):
            world.create(ShareRequest(cores=0, memory_bytes=MIB, gpus=("0",)))
        with pytest.raises(RequestError, match="cannot be resized"):
            world.shares.resize(share.id, 50, None)
        world.create(ShareRequest(cores=10, memory_bytes=MIB, gpus=("1",)))
        with pytest.raises(AllocationError, match="GPU 1 is held by 1 share"):
            world.take(place(node, 1, whole(node, 1), "other"))
    with opened(state, node) as world:
        assert world.shares.by_key(share.owner.key) == share
        world.shares.release([share.id])
        assert len(world.shares.all()) == len(world.enforcement.found()) == 1


def test_a_place_on_a_gpu_that_is_not_there_is_refused(state: Path, node: SimNode) -> None:
    with opened(state, node) as world:
        wish = place(node, 0, HALF)
        gone = type(wish)("GPU-gone", wish.limits, wish.owner)
        with pytest.raises(AllocationError, match="GPU-gone is not to be seen"):
            world.take(gone)


def test_a_claim_that_is_used_by_another_pod_says_so(state: Path, node: SimNode) -> None:
    with opened(state, node) as world:
        (share,) = world.take(place(node, 0, HALF))
        renamed = world.shares.set_owner(share.id, place(node, 0, HALF, "other").owner)
        assert renamed.owner.container == "other"
    with opened(state, node) as world:
        assert world.one(share.id).owner == renamed.owner


def test_shares_are_found_again_when_the_ledger_is_lost(
    state: Path, node: SimNode, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(state, node) as world:
        taken = world.take(
            place(node, 0, HALF), place(node, 1, whole(node, 1), "other", pod_uid="uid-2")
        )
        world.shares.resize(taken[0].id, 20, None)
        before = world.shares.all()
    (state / "ledger.sqlite").write_bytes(b"nonsense" * 1000)
    with opened(state, node) as world:
        found = {share.id: share for share in world.shares.all()}
        for share in before:
            assert found[share.id].limits == share.limits
            assert found[share.id].owner == share.owner
            assert found[share.id].state is ShareState.READY
        assert {share.id for share in world.ledger.shares()} == found.keys()
        with tenant(node, found[taken[0].id]):
            world.shares.look()
            assert len(world.one(taken[0].id).usage.processes) == 1
        assert world.take(place(node, 0, HALF))[0].id == taken[0].id
    assert sum("is damaged" in line for line in caplog.messages) == 1


def test_without_ledger_and_record_a_share_ends_with_its_processes(
    state: Path, node: SimNode
) -> None:
    with opened(state, node) as world:
        kept, given_up = world.take(place(node, 0, HALF), place(node, 0, HALF, "other"))
    (state / "ledger.sqlite").write_bytes(b"nonsense" * 1000)
    for share in (kept, given_up):
        Path(share.directory, "record").write_bytes(b"{")
    with tenant(node, kept), opened(state, node) as world:
        assert [share.id for share in world.shares.all()] == [kept.id]
        assert world.one(kept.id).state is ShareState.ENDING
    with opened(state, node) as world:
        assert world.is_empty()


def test_a_ledger_that_cannot_be_written_gives_nothing_away(state: Path, node: SimNode) -> None:
    with opened(state, node) as world:
        world.ledger.close()
        with pytest.raises(LedgerError):
            world.take(place(node, 0, HALF))
        assert world.shares.all() == ()
        assert world.enforcement.found() == ()
