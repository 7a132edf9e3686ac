"""Which ids a sick GPU takes along, and which the kubelet should prefer."""

from dataclasses import replace
from typing import Any

from gpuslice_agent.model import (
    Gpu,
    GpuPath,
    Health,
    HealthState,
    MemoryResource,
    Share,
    Snapshot,
)
from gpuslice_plugin.device_plugin.checkpoint import Entry
from gpuslice_plugin.device_plugin.ids import count
from gpuslice_plugin.device_plugin.preferred import preferred
from gpuslice_plugin.device_plugin.resources import Resource, sick_ids
from gpuslice_plugin.node_resources import memory
from gpuslice_plugin.pods import Pod, read

from ..unit import nodes
from ..unit.nodes import GIB, node
from .objects import container, pod

CORES = Resource("core", "nvidia.com/gpucores", 100)
SLOTS = Resource("slot", "nvidia.com/gpu", 10)
GPUMEM = "nvidia.com/gpumem"


def gpu(index: int, numa_node: int = 0) -> Gpu:
    return nodes.gpu(index, path=GpuPath.PLUGIN, numa_node=numa_node)


def sick(one: Gpu) -> Gpu:
    return replace(one, health=Health(HealthState.UNHEALTHY, "Xid 79"))


def held(on: Gpu, pod_uid: str = "", cores: int = 0, gib: int = 1, **limits: Any) -> Share:
    share = nodes.share(on, cores=cores, gib=gib)
    owner = replace(share.owner, pod_uid=pod_uid, container="main", key=f"{pod_uid}/{on.index}")
    return replace(share, owner=owner, limits=replace(share.limits, **limits))


def given(pod_uid: str, ids: list[str]) -> Entry:
    return Entry(pod_uid, "main", CORES.name, frozenset(ids))


def sick_cores(snapshot: Snapshot, gpus: list[Gpu], *entries: Entry) -> frozenset[str]:
    return sick_ids(CORES, count("core", gpus, 100).ids, gpus, snapshot, entries)


def test_a_sick_gpu_takes_its_bound_ids_and_as_many_free_ones_as_it_could_have_served() -> None:
    two = [gpu(0), gpu(1)]
    on_sick = [f"core-0-{number}" for number in range(30)]
    on_well = [f"core-0-{number}" for number in range(30, 50)]
    shares = (held(two[0], "a", cores=30), held(two[1], "b", cores=20))
    snapshot = node(sick(two[0]), two[1], shares=shares)
    unhealthy = sick_cores(snapshot, two, given("a", on_sick), given("b", on_well))
    assert set(on_sick) <= unhealthy
    assert not set(on_well) & unhealthy
    assert len(unhealthy) == 100


def test_free_ids_are_those_of_the_sick_gpu_s_numa_node() -> None:
    two = [gpu(0, numa_node=0), gpu(1, numa_node=1)]
    unhealthy = sick_cores(node(two[0], sick(two[1])), two)
    assert unhealthy == {f"core-1-{number}" for number in range(100)}


def test_a_gpu_that_is_gone_is_sick() -> None:
    two = [gpu(0), gpu(1)]
    assert len(sick_cores(node(two[0]), two)) == 100
    assert sick_cores(node(*two), two) == frozenset()


def test_of_shares_on_two_gpus_only_the_part_on_the_sick_one_is_unhealthy() -> None:
    two = [gpu(0), gpu(1)]
    shares = (held(two[0], "a", cores=30), held(two[1], "a", cores=30))
    ids = [f"core-0-{number}" for number in range(60)]
    unhealthy = sick_cores(node(sick(two[0]), two[1], shares=shares), two, given("a", ids))
    assert len(unhealthy & set(ids)) == 30


def names(
    size: int, snapshot: Snapshot, available: list[str], must: tuple[str, ...] = ()
) -> set[str]:
    chosen = preferred(CORES, available, must, size, snapshot)
    assert len(chosen) == size
    return {one.split("-")[1] for one in chosen}


def ids_of(gpus: list[Gpu]) -> list[str]:
    return [str(one) for one in count("core", gpus, 100).ids]


def test_ids_come_from_one_numa_node_that_has_room() -> None:
    two = [gpu(0, 0), gpu(1, 1)]
    full = node(*two, shares=(held(two[0], "a", cores=80),))
    assert names(50, full, ids_of(two)) == {"1"}
    assert names(10, full, ids_of(two)[80:]) == {"0"}, "the node with fewest ids left"


def test_where_no_numa_node_has_room_the_ids_leave_the_choice_open() -> None:
    two = [gpu(0, 0), gpu(1, 1)]
    busy = node(*two, shares=tuple(held(one, "a", cores=60) for one in two))
    assert names(50, busy, ids_of(two)) == {"0", "1"}


def test_whole_gpus_need_as_many_empty_ones_on_the_node() -> None:
    four = [gpu(0, 0), gpu(1, 0), gpu(2, 1), gpu(3, 1)]
    one_used = node(*four, shares=(held(four[0], "a", cores=10),))
    assert names(200, one_used, ids_of(four)) == {"1"}


def test_ids_that_must_be_among_them_are() -> None:
    two = [gpu(0, 0), gpu(1, 1)]
    chosen = preferred(SLOTS, ["slot-0-1", "slot-1-1"], ["slot-1-1"], 1, node(*two))
    assert chosen == ("slot-1-1",)


def waiting(uid: str, mib: int) -> Pod:
    return read(pod(uid, uid=uid, main=[container("main", {GPUMEM: str(mib)})]))


def published(snapshot: Snapshot, *pods: Pod, ratio: float = 1.0) -> int:
    return memory(MemoryResource.MIB, GPUMEM, snapshot, pods, ratio)


def test_the_node_has_the_memory_of_its_plugin_gpus() -> None:
    mixed = node(gpu(0), nodes.gpu(1, path=GpuPath.DRA))
    assert published(mixed) == 80 * 1024
    assert published(mixed, ratio=1.5) == 120 * 1024
    assert memory(MemoryResource.PERCENTAGE, "x", node(gpu(0), gpu(1)), (), 1.0) == 200


def test_memory_that_is_held_without_being_asked_for_by_name_is_left_out() -> None:
    one = node(gpu(0), shares=(held(gpu(0), "a", gib=10),))
    assert published(one, waiting("a", 10 * 1024)) == 80 * 1024
    assert published(one, waiting("a", 4 * 1024)) == 74 * 1024
    assert published(one) == 70 * 1024


def test_no_less_is_said_than_pods_were_admitted_with() -> None:
    whole = held(gpu(0), "a", memory_bytes=80 * GIB, whole=True)
    one = node(gpu(0), shares=(whole,))
    assert published(one) == 0
    assert published(one, waiting("b", 3000)) == 3000


def test_of_a_sick_gpu_there_is_what_is_held_on_it() -> None:
    two = node(sick(gpu(0)), gpu(1), shares=(held(gpu(0), "a", gib=10),))
    assert published(two, waiting("a", 10 * 1024)) == 90 * 1024
