"""The DRA driver as the kubelet and the API server see it: real sockets, real HTTP, real shares."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc.aio
import pytest

from gpuslice_agent.model import HealthState, ShareState
from gpuslice_agent.simulation import SimNode
from gpuslice_plugin.api import Object, part, parts
from gpuslice_plugin.dra.sweeper import sweep
from gpuslice_proto.dra.v1beta1 import dra_pb2 as v1beta1
from gpuslice_proto.dra.v1beta1 import dra_pb2_grpc as v1beta1_grpc
from gpuslice_proto.drahealth.v1 import drahealth_pb2 as health
from gpuslice_proto.drahealth.v1 import drahealth_pb2_grpc as health_grpc
from gpuslice_proto.drahealth.v1alpha1 import drahealth_pb2 as old_health
from gpuslice_proto.drahealth.v1alpha1 import drahealth_pb2_grpc as old_health_grpc

from .api_server import Refusal
from .dra_world import CLAIMS, SLICES, DraWorld, Kubelet, dra_world, eventually, running, share

Steps = Callable[[DraWorld, Kubelet], Awaitable[None]]
GIB = 1 << 30


@pytest.fixture
def scenario(tmp_path: Path, node: SimNode) -> Callable[[Steps], None]:
    """Runs steps while a driver runs."""

    async def run(steps: Steps) -> None:
        async with dra_world(tmp_path, node) as world, running(world) as kubelet:
            await asyncio.wait_for(steps(world, kubelet), 60)

    return lambda steps: asyncio.run(run(steps))


def device_of(world: DraWorld, cdi_id: str) -> Object:
    """What a container gets by this id."""
    for path in (world.state / "cdi").glob("*.json"):
        document: Object = json.loads(path.read_text())
        for device in parts(document, "devices"):
            if f"{document['kind']}={device['name']}" == cdi_id:
                return part(device, "containerEdits")
    raise AssertionError(f"{cdi_id} is in no file")


def test_the_kubelet_finds_all_versions_best_first(scenario: Callable[[Steps], None]) -> None:
    async def steps(world: DraWorld, kubelet: Kubelet) -> None:
        info = await kubelet.info()
        assert (info.type, info.name) == ("DRAPlugin", "gpu.gpuslice.io")
        assert list(info.supported_versions) == [
            "v1.DRAPlugin",
            "v1beta1.DRAPlugin",
            "v1.DRAResourceHealth",
            "v1alpha1.DRAResourceHealth",
        ]
        assert info.endpoint == str(world.endpoints[0])

    scenario(steps)


def test_a_prepared_claim_is_a_share_and_a_cdi_device(scenario: Callable[[Steps], None]) -> None:
    async def steps(world: DraWorld, kubelet: Kubelet) -> None:
        world.allocate("mine", share(30, "2Gi"))
        answer = (await kubelet.prepare("mine"))["mine"]
        assert not answer.error
        (device,) = answer.devices
        assert (device.pool_name, device.device_name) == ("node-a", "gpu-0-share")
        assert (list(device.request_names), device.share_id) == (["gpu"], "share-id")
        (held,) = world.held("mine")
        assert (held.limits.cores, held.limits.memory_bytes) == (30, 2 * GIB)
        edits = device_of(world, device.cdi_device_ids[0])
        assert f"{held.directory}/grant" in {one["hostPath"] for one in edits["mounts"]}
        assert edits["deviceNodes"] == [{"path": "/dev/nvidia0"}]

    scenario(steps)


def test_preparing_again_changes_nothing(scenario: Callable[[Steps], None]) -> None:
    async def steps(world: DraWorld, kubelet: Kubelet) -> None:
        world.allocate("mine", share())
        first = await kubelet.prepare("mine")
        before = world.held("mine")
        assert await kubelet.prepare("mine") == first
        at_once = await asyncio.gather(*(kubelet.prepare("mine") for _ in range(5)))
        assert all(one == first for one in at_once)
        assert [one.id for one in world.held("mine")] == [one.id for one in before]

    scenario(steps)


def test_a_lost_cdi_file_is_there_again_after_preparing_again(
    scenario: Callable[[Steps], None],
) -> None:
    async def steps(world: DraWorld, kubelet: Kubelet) -> None:
        world.allocate("mine", share())
        answer = await kubelet.prepare("mine")
        for path in (world.state / "cdi").iterdir():
            path.unlink()
        assert await kubelet.prepare("mine") == answer
        assert device_of(world, answer["mine"].devices[0].cdi_device_ids[0])

    scenario(steps)


def test_unpreparing_ends_shares_and_files_and_may_be_repeated(
    scenario: Callable[[Steps], None],
) -> None:
    async def steps(world: DraWorld, kubelet: Kubelet) -> None:
        world.allocate("mine", share(), share(device="gpu-1-share", request="other"))
        await kubelet.prepare("mine")
        assert len(world.held("mine")) == 2
        del world.small.objects[f"{CLAIMS}/mine"]
        world.small.refusals += [Refusal(500, "away")] * 3
        for _ in range(2):
            assert await kubelet.unprepare("mine", "never-seen") == {"mine": "", "never-seen": ""}
        assert world.held("mine") == []
        assert list((world.state / "cdi").iterdir()) == []

    scenario(steps)


def test_an_error_is_told_for_its_claim_alone(scenario: Callable[[Steps], None]) -> None:
    async def steps(world: DraWorld, kubelet: Kubelet) -> None:
        world.allocate("good", share())
        world.allocate("bad", share(device="gpu-9-share"))
        answers = await kubelet.prepare("good", "bad", "absent")
        assert not answers["good"].error and answers["good"].devices
        assert answers["bad"].error == "This node has no device gpu-9-share."
        assert answers["absent"].error == "The claim default/absent is not there any more."

    scenario(steps)


def test_two_devices_of_a_claim_are_all_there_or_none(scenario: Callable[[Steps], None]) -> None:
    async def steps(world: DraWorld, kubelet: Kubelet) -> None:
        world.allocate("half", share(), share(device="gpu-9", request="other"))
        assert (await kubelet.prepare("half"))["half"].error
        assert world.held("half") == []

    scenario(steps)


def test_what_may_pass_is_tried_again_within_the_call(scenario: Callable[[Steps], None]) -> None:
    async def steps(world: DraWorld, kubelet: Kubelet) -> None:
        world.allocate("mine", share())
        await eventually(lambda: len(world.slices) == 3)
        world.small.refusals += [Refusal(503, "busy"), Refusal(429, "slowly"), Refusal(500, "no")]
        assert not (await kubelet.prepare("mine"))["mine"].error

    scenario(steps)


def test_a_claim_waits_for_the_room_of_one_that_ends(scenario: Callable[[Steps], None]) -> None:
    async def steps(world: DraWorld, kubelet: Kubelet) -> None:
        world.allocate("first", share(80))
        world.allocate("second", share(80))
        assert not (await kubelet.prepare("first"))["first"].error
        waiting = asyncio.create_task(kubelet.prepare("second"))
        await asyncio.sleep(0.5)
        assert not waiting.done()
        await kubelet.unprepare("first")
        assert not (await waiting)["second"].error

    scenario(steps)


def test_unpreparing_ends_a_preparation_under_way(scenario: Callable[[Steps], None]) -> None:
    async def steps(world: DraWorld, kubelet: Kubelet) -> None:
        world.allocate("first", share(80))
        world.allocate("second", share(80))
        await kubelet.prepare("first")
        waiting = asyncio.create_task(kubelet.prepare("second"))
        await asyncio.sleep(0.3)
        assert await kubelet.unprepare("second") == {"second": ""}
        assert "was unprepared before" in (await waiting)["second"].error
        await kubelet.unprepare("first")
        await asyncio.sleep(0.5)
        assert world.held("second") == []

    scenario(steps)


def test_the_older_version_prepares_alike_without_share_ids(
    scenario: Callable[[Steps], None],
) -> None:
    async def steps(world: DraWorld, kubelet: Kubelet) -> None:
        world.allocate("mine", share())
        async with kubelet.channel() as channel:
            stub = v1beta1_grpc.DRAPluginStub(channel)
            claim = v1beta1.Claim(namespace="default", name="mine", uid="uid-of-mine")
            asked = v1beta1.NodePrepareResourcesRequest(claims=[claim])
            answer = await stub.NodePrepareResources(asked)
            (device,) = answer.claims["uid-of-mine"].devices
            assert device.device_name == "gpu-0-share" and device.cdi_device_ids
            assert b"share-id" not in answer.SerializeToString()
            gone = await stub.NodeUnprepareResources(
                v1beta1.NodeUnprepareResourcesRequest(claims=[claim])
            )
            assert gone.claims["uid-of-mine"].error == ""
        assert world.held("mine") == []

    scenario(steps)


def test_administrators_get_a_gpu_that_is_held_and_hold_nothing(
    scenario: Callable[[Steps], None],
) -> None:
    async def steps(world: DraWorld, kubelet: Kubelet) -> None:
        world.allocate("tenant", {"device": "gpu-0"})
        world.allocate("admin", {"device": "gpu-0-admin", "adminAccess": True})
        answers = await kubelet.prepare("tenant", "admin")
        assert world.held("tenant")[0].limits.whole
        assert world.held("admin") == []
        (device,) = answers["admin"].devices
        assert device_of(world, device.cdi_device_ids[0])["deviceNodes"]
        await kubelet.unprepare("admin")
        assert world.held("tenant")[0].state is ShareState.READY
        assert len(list((world.state / "cdi").iterdir())) == 1

    scenario(steps)


NewStream = grpc.aio.UnaryStreamCall[
    health.NodeWatchResourcesRequest, health.NodeWatchResourcesResponse
]
OldStream = grpc.aio.UnaryStreamCall[
    old_health.NodeWatchResourcesRequest, old_health.NodeWatchResourcesResponse
]


async def until_told(stream: NewStream | OldStream, expected: int) -> None:
    """Reads until the first GPU is told as expected; the other is healthy all the time."""
    async for told in stream:
        states = {one.device.device_name: one.health for one in told.devices}
        assert {states[name] for name in ("gpu-1", "gpu-1-share")} == {health.HEALTHY}
        if {states[name] for name in ("gpu-0", "gpu-0-share")} == {expected}:
            return


def test_health_is_told_at_once_in_both_versions(scenario: Callable[[Steps], None]) -> None:
    async def steps(world: DraWorld, kubelet: Kubelet) -> None:
        async with kubelet.channel() as channel:
            new: NewStream = health_grpc.DRAResourceHealthStub(channel).NodeWatchResources(
                health.NodeWatchResourcesRequest()
            )
            old: OldStream = old_health_grpc.DRAResourceHealthStub(channel).NodeWatchResources(
                old_health.NodeWatchResourcesRequest()
            )
            for state, expected in (
                (HealthState.HEALTHY, health.HEALTHY),
                (HealthState.UNHEALTHY, health.UNHEALTHY),
                (HealthState.HEALTHY, health.HEALTHY),
            ):
                world.set_health(state, "xid 79")
                await until_told(new, expected)
                await until_told(old, expected)
            new.cancel()
            old.cancel()

    scenario(steps)


def test_the_slices_say_what_the_node_has(scenario: Callable[[Steps], None]) -> None:
    async def steps(world: DraWorld, kubelet: Kubelet) -> None:
        await eventually(lambda: len(world.slices) == 3)
        owner = world.small.objects["/api/v1/nodes/node-a"]["metadata"]["uid"]
        for one in world.slices.values():
            assert one["metadata"]["ownerReferences"][0]["uid"] == owner
        writes = len(world.small.writes)
        world.look(*world.inventory.snapshot.gpus)
        await asyncio.sleep(0.5)
        assert len(world.small.writes) == writes

    scenario(steps)


def test_wiped_slices_come_back(scenario: Callable[[Steps], None]) -> None:
    async def steps(world: DraWorld, kubelet: Kubelet) -> None:
        await eventually(lambda: len(world.slices) == 3)
        for path in [path for path in world.small.objects if path.startswith(SLICES)]:
            world.small.remove(path)
        await eventually(lambda: len(world.slices) == 3)
        await eventually(
            lambda: len({str(one["spec"]["pool"]) for one in world.slices.values()}) == 1
        )

    scenario(steps)


def test_a_sick_gpu_is_tainted_and_the_taint_goes_when_it_recovers(
    scenario: Callable[[Steps], None],
) -> None:
    async def steps(world: DraWorld, kubelet: Kubelet) -> None:
        def taints() -> int:
            return json.dumps(list(world.slices.values())).count("gpu.gpuslice.io/unhealthy")

        await eventually(lambda: len(world.slices) == 3)
        generations = {one["spec"]["pool"]["generation"] for one in world.slices.values()}
        world.set_health(HealthState.UNHEALTHY, "xid 79")
        await eventually(lambda: taints() == 3)
        world.set_health(HealthState.HEALTHY)
        await eventually(lambda: taints() == 0)
        assert {one["spec"]["pool"]["generation"] for one in world.slices.values()} == generations

    scenario(steps)


def test_a_held_gpu_that_goes_stays_published_until_it_is_given_back(
    scenario: Callable[[Steps], None],
) -> None:
    async def steps(world: DraWorld, kubelet: Kubelet) -> None:
        first, second = world.inventory.snapshot.gpus
        world.allocate("mine", share())
        await kubelet.prepare("mine")
        world.look(second)
        await eventually(
            lambda: "gpu.gpuslice.io/absent" in json.dumps(list(world.slices.values()))
        )
        await kubelet.unprepare("mine")
        world.look(second)
        await eventually(lambda: len(world.slices) == 2)
        world.look(first, second)
        await eventually(lambda: len(world.slices) == 3)

    scenario(steps)


def without_new_fields(thing: Object) -> Object:
    """What Kubernetes 1.34 keeps of a slice."""
    spec = thing.get("spec", {})
    spec.pop("sharedCounters", None)
    for device in spec.get("devices", ()):
        for name in ("consumesCounters", "allowMultipleAllocations", "taints"):
            device.pop(name, None)
        for capacity in device.get("capacity", {}).values():
            capacity.pop("requestPolicy", None)
    return thing


def test_where_fields_are_dropped_whole_gpus_alone_are_offered(
    tmp_path: Path, node: SimNode, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with dra_world(tmp_path, node) as world:
            world.small.keeps = without_new_fields
            async with running(world):
                await eventually(lambda: len(world.slices) == 2)
                names = [
                    [device["name"] for device in one["spec"]["devices"]]
                    for one in world.slices.values()
                ]
                assert names == [["gpu-0"], ["gpu-1"]]
                world.set_health(HealthState.UNHEALTHY, "sick")
                await eventually(
                    lambda: (
                        [one["spec"]["pool"]["resourceSliceCount"] for one in world.slices.values()]
                        == [1]
                    )
                )
                writes = len(world.small.writes)
                await asyncio.sleep(0.5)
                assert len(world.small.writes) == writes

    asyncio.run(run())
    assert "the API server drops fields of slices sharing=False taints=False" in caplog.text


def test_a_node_without_gpus_says_so_with_an_empty_slice(tmp_path: Path, node: SimNode) -> None:
    async def run() -> None:
        async with dra_world(tmp_path, node) as world:
            world.look()
            async with running(world):
                await eventually(lambda: len(world.slices) == 1)
                (only,) = world.slices.values()
                assert "devices" not in only["spec"]

    asyncio.run(run())


def test_the_status_of_a_claim_follows_the_health_of_its_gpu(
    scenario: Callable[[Steps], None],
) -> None:
    async def steps(world: DraWorld, kubelet: Kubelet) -> None:
        def condition() -> Object:
            devices = parts(part(world.small.objects[f"{CLAIMS}/mine"], "status"), "devices")
            return parts(devices[0], "conditions")[0] if devices else {}

        world.allocate("mine", share())
        await kubelet.prepare("mine")
        await eventually(lambda: condition().get("status") == "True")
        world.set_health(HealthState.UNHEALTHY, "xid 79")
        await eventually(lambda: condition().get("status") == "False")
        assert condition()["message"] == "xid 79"

    scenario(steps)


def test_claims_that_the_cluster_has_no_more_are_ended_and_others_are_not(
    scenario: Callable[[Steps], None],
) -> None:
    async def steps(world: DraWorld, kubelet: Kubelet) -> None:
        for name in ("kept", "deleted", "another", "deallocated"):
            world.allocate(name, share(10))
        await kubelet.prepare("kept", "deleted", "another", "deallocated")
        claims = world.driver()._claims  # pyright: ignore[reportPrivateUsage]
        world.small.refusals += [Refusal(500, "away")] * 4
        await sweep(world.server, claims)
        assert len(world.shares.all()) == 4
        world.small.remove(f"{CLAIMS}/deleted")
        world.small.objects[f"{CLAIMS}/another"]["metadata"]["uid"] = "of another"
        del world.small.objects[f"{CLAIMS}/deallocated"]["status"]["allocation"]
        await sweep(world.server, claims)
        assert [one.owner.claim for one in world.shares.all()] == ["kept"]

    scenario(steps)


def test_an_administrator_s_file_goes_with_the_claim(scenario: Callable[[Steps], None]) -> None:
    async def steps(world: DraWorld, kubelet: Kubelet) -> None:
        for name in ("kept", "deleted"):
            world.allocate(name, {"device": "gpu-0-admin", "adminAccess": True})
        await kubelet.prepare("kept", "deleted")
        world.cdi.agree(())
        claims = world.driver()._claims  # pyright: ignore[reportPrivateUsage]
        await sweep(world.server, claims)
        assert len(world.cdi.present()) == 2
        world.small.remove(f"{CLAIMS}/deleted")
        await sweep(world.server, claims)
        assert world.cdi.present() == {"uid-of-kept-0"}

    scenario(steps)


def test_a_share_has_the_id_that_the_scheduler_gave_it_where_that_is_free(
    scenario: Callable[[Steps], None],
) -> None:
    async def steps(world: DraWorld, kubelet: Kubelet) -> None:
        chosen = "0f0e0d0c-0b0a-4908-8706-050403020100"
        world.allocate("mine", share(shareID=chosen))
        world.allocate("same", share(shareID=chosen))
        world.allocate("odd", share(shareID="../../etc"))
        await kubelet.prepare("mine")
        answers = await kubelet.prepare("same", "odd")
        (mine,), (same,), (odd,) = (world.held(name) for name in ("mine", "same", "odd"))
        assert mine.id == chosen == Path(mine.directory).name
        assert len({mine.id, same.id, odd.id}) == 3
        assert Path(odd.directory).parent == Path(mine.directory).parent
        assert answers["odd"].devices[0].share_id == "../../etc"

    scenario(steps)


def leave_behind(path: Path) -> None:
    """As a driver does that is killed."""
    path.touch()


def test_a_new_instance_has_sockets_of_its_own_and_removes_those_left_behind(
    tmp_path: Path, node: SimNode
) -> None:
    async def run() -> None:
        async with dra_world(tmp_path, node) as world:
            async with running(world) as first:
                old = (await first.info()).endpoint
                assert [str(one) for one in world.endpoints] == [old]
            assert world.registrars == world.endpoints == []
            left = Path(old), world.kubelet_dir / "plugins_registry/gpu.gpuslice.io-0000-reg.sock"
            for path in left:
                leave_behind(path)
            async with running(world) as second:
                await eventually(lambda: not {*left} & {*world.registrars, *world.endpoints})
                assert (await second.info()).endpoint != old
                leave_behind(left[1])  # a newer one was killed before it took over
                await eventually(lambda: not left[1].exists())

    asyncio.run(run())


def test_who_asks_a_new_instance_waits_until_it_owns_the_node(
    tmp_path: Path, node: SimNode
) -> None:
    async def run() -> None:
        async with dra_world(tmp_path, node) as world:
            world.allocate("mine", share())
            world.allocate("gone", share())
            front = world.front()
            await front.open()
            new = Kubelet(world)
            preparing = asyncio.create_task(new.prepare("mine"))
            unpreparing = asyncio.create_task(new.unprepare("gone"))
            await front.registered()
            await asyncio.sleep(0.5)
            assert not preparing.done() and not unpreparing.done()
            async with running(world, front):
                assert (await preparing)["mine"].devices
                assert await unpreparing == {"gone": ""}
            assert world.registrars == world.endpoints == []

    asyncio.run(asyncio.wait_for(run(), 60))


def test_an_instance_leaves_the_sockets_of_a_newer_one(tmp_path: Path, node: SimNode) -> None:
    async def run() -> None:
        async with dra_world(tmp_path, node) as world:
            newer = world.front()
            await newer.open()
            theirs = {*world.registrars, *world.endpoints}
            async with running(world):
                await eventually(lambda: len(world.slices) == 3)
                assert theirs < {*world.registrars, *world.endpoints}
            assert theirs == {*world.registrars, *world.endpoints}
            await newer.close()
            assert world.registrars == world.endpoints == []

    asyncio.run(asyncio.wait_for(run(), 60))


def test_calls_are_counted_by_how_they_ended(scenario: Callable[[Steps], None]) -> None:
    async def steps(world: DraWorld, kubelet: Kubelet) -> None:
        world.allocate("mine", share())
        await kubelet.prepare("mine", "absent")
        counted = {
            sample.labels["outcome"]: sample.value
            for family in world.calls.histogram.collect()
            for sample in family.samples
            if sample.name.endswith("_count")
        }
        assert counted == {"ok": 1.0, "error": 1.0}

    scenario(steps)
