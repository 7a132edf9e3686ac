"""A pod gets its shares when its first container starts, and loses them when it is over."""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from gpuslice_agent.errors import AllocationError
from gpuslice_agent.simulation import SimNode
from gpuslice_plugin.errors import UnknownContainerError
from gpuslice_proto.podresources.v1 import podresources_pb2 as pr

from .objects import Object, container, pod
from .plugin_world import PODS, PluginWorld, eventually, plugin_world

CORES, SLOTS = "nvidia.com/gpucores", "nvidia.com/gpu"


def asking(name: str, init: Iterable[str] = (), **more: Any) -> Object:
    limits = {CORES: "50", SLOTS: "1", "nvidia.com/gpumem": "3000"}
    return pod(
        name,
        main=[container("main", limits)],
        init=[container(one, limits) for one in init],
        **more,
    )


def admit(world: PluginWorld, document: Object, first_id: int = 0) -> tuple[frozenset[str], ...]:
    """What the kubelet does before it starts containers; the sets of ids of cores and slots."""
    world.put(document)
    uid = document["metadata"]["uid"]
    cores = frozenset(f"core-n-{number}" for number in range(first_id, first_id + 50))
    slots = frozenset({f"slot-n-{first_id}"})
    spec = document["spec"]
    for one in (*spec["initContainers"], *spec["containers"]):
        for resource, ids in ((CORES, cores), (SLOTS, slots)):
            world.kubelet.give(uid, one["name"], resource, ids, cdi_name(uid, one, resource))
    return cores, slots


def cdi_name(uid: str, one: Object, resource: str) -> str:
    return f"k8s.gpu.gpuslice.io/share={uid}-{one['name']}-{resource.rpartition('/')[2]}"


def test_the_first_call_binds_the_whole_pod_and_the_others_find_it_bound(
    tmp_path: Path, node: SimNode
) -> None:
    async def test() -> None:
        async with plugin_world(tmp_path, node) as world:
            cores, slots = admit(world, asking("one", init=["first"]))
            await world.binding.bind(SLOTS, slots)
            shares = world.shares.all()
            assert world.sizes() == {"first": (50, 3000), "main": (50, 3000)}
            assert world.devices() == {
                f"uid-of-one-{name}-{resource}"
                for name in ("first", "main")
                for resource in ("gpu", "gpucores")
            }
            for resource, ids in ((CORES, cores), (SLOTS, slots), (CORES, cores)):
                await world.binding.bind(resource, ids)
            assert world.shares.all() == shares
            assert not world.kubelet.was_listed

    asyncio.run(test())


def test_a_pod_that_we_hear_of_after_the_kubelet_is_waited_for(
    tmp_path: Path, node: SimNode
) -> None:
    async def test() -> None:
        async with plugin_world(tmp_path, node) as world:
            document = asking("late")
            cores, _ = admit(world, document)
            world.remove("late")
            binding = asyncio.create_task(world.binding.bind(CORES, cores))
            await asyncio.sleep(0.2)
            world.put(document)
            await binding
            assert world.sizes() == {"main": (50, 3000)}

    asyncio.run(test())


def test_ids_that_the_checkpoint_does_not_have_bind_nothing(tmp_path: Path, node: SimNode) -> None:
    async def test() -> None:
        async with plugin_world(tmp_path, node) as world:
            cores, _ = admit(world, asking("one"))
            with pytest.raises(UnknownContainerError, match="names no pod"):
                await world.binding.bind(CORES, cores - {"core-n-0"})
            assert world.shares.all() == ()

    asyncio.run(test())


def test_of_two_live_pods_with_one_set_the_younger_is_deleted(
    tmp_path: Path, node: SimNode
) -> None:
    async def test() -> None:
        async with plugin_world(tmp_path, node) as world:
            older = asking("older", created="2026-01-01T00:00:00Z")
            younger = asking("younger", created="2026-01-01T00:00:05Z")
            for document in (older, younger):
                cores, _ = admit(world, document)
                name = document["metadata"]["name"]
                world.small.put(f"/api/v1/namespaces/default/pods/{name}", document)
            await eventually(lambda: len(world.small.objects) == 4)
            await asyncio.sleep(0.2)
            with pytest.raises(UnknownContainerError, match="the younger is deleted"):
                await world.binding.bind(CORES, cores)
            assert "/api/v1/namespaces/default/pods/younger" not in world.small.objects
            assert "/api/v1/namespaces/default/pods/older" in world.small.objects
            world.remove("younger")
            await asyncio.sleep(0.2)
            await world.binding.bind(CORES, cores)
            assert [share.owner.pod for share in world.shares.all()] == ["older"]

    asyncio.run(test())


def test_a_checkpoint_that_the_kubelet_contradicts_binds_nothing(
    tmp_path: Path, node: SimNode
) -> None:
    async def test() -> None:
        async with plugin_world(tmp_path, node) as world:
            cores, _ = admit(world, asking("one"))
            devices = pr.ContainerDevices(resource_name=CORES, device_ids=["core-n-99"])
            containers = [pr.ContainerResources(name="main", devices=[devices])]
            held = pr.PodResources(name="one", namespace="default", containers=containers)
            world.kubelet.pods["default", "one"] = held
            with pytest.raises(UnknownContainerError, match="differ"):
                await world.binding.bind(CORES, cores)
            assert world.shares.all() == ()

    asyncio.run(test())


def test_names_that_allocate_gave_anew_are_names_of_the_same_share(
    tmp_path: Path, node: SimNode
) -> None:
    async def test() -> None:
        async with plugin_world(tmp_path, node) as world:
            document = asking("one")
            cores, _ = admit(world, document)
            await world.binding.bind(CORES, cores)
            (share,) = world.shares.all()
            world.kubelet.forget()
            name = "k8s.gpu.gpuslice.io/share=anew"
            world.kubelet.give(share.owner.pod_uid, "main", CORES, cores, name)
            await world.binding.bind(CORES, cores)
            assert [one.id for one in world.shares.all()] == [share.id]
            assert world.devices() == {"anew"}

    asyncio.run(test())


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_has_ended_is_released(tmp_path: Path, node: SimNode, phase: str) -> None:
    async def test() -> None:
        async with plugin_world(tmp_path, node) as world:
            cores, _ = admit(world, asking("one"))
            await world.binding.bind(CORES, cores)
            world.put(asking("one", phase=phase))
            await eventually(lambda: not world.shares.all())
            assert world.devices() == set()

    asyncio.run(test())


def test_a_pod_that_is_gone_is_released_once_the_kubelet_lists_it_no_more(
    tmp_path: Path, node: SimNode
) -> None:
    async def test() -> None:
        async with plugin_world(tmp_path, node) as world:
            cores, _ = admit(world, asking("one"))
            devices = pr.ContainerDevices(resource_name=CORES, device_ids=list(cores))
            containers = [pr.ContainerResources(name="main", devices=[devices])]
            held = pr.PodResources(name="one", namespace="default", containers=containers)
            world.kubelet.pods["default", "one"] = held
            await world.binding.bind(CORES, cores)
            world.remove("one")
            await asyncio.sleep(0.5)
            assert world.shares.all() != ()
            del world.kubelet.pods["default", "one"]
            await eventually(lambda: not world.shares.all())
            assert not world.kubelet.was_listed

    asyncio.run(test())


def test_a_pod_without_room_is_counted_and_evicted_where_so_configured(
    tmp_path: Path, node: SimNode
) -> None:
    async def test() -> None:
        async with plugin_world(tmp_path, node, evict_after=0.1) as world:
            for number in range(4):
                cores, _ = admit(world, asking(f"pod-{number}"), first_id=100 * number)
                await world.binding.bind(CORES, cores)
            document = asking("pod-4")
            cores, _ = admit(world, document, first_id=400)
            name = "/api/v1/namespaces/default/pods/pod-4"
            world.small.put(name, document)
            with pytest.raises(AllocationError, match="There is no room now for container main"):
                await world.binding.bind(CORES, cores)
            await eventually(lambda: name not in world.small.objects)
            assert ("PATCH", f"{name}/status?fieldManager=gpuslice") in world.small.writes
            await eventually(lambda: world.unfit.evicted == 1)
            assert f"{PODS}/pod-4" in world.small.objects, "only this small server keeps it twice"

    asyncio.run(test())
