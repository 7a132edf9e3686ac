"""Where the shares of a pod go, and the sentence when they go nowhere."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from gpuslice_agent.allocation import Defaults
from gpuslice_agent.errors import AllocationError, RequestError
from gpuslice_agent.model import (
    Gpu,
    GpuPath,
    Health,
    HealthState,
    Order,
    Placement,
    Policy,
    Priority,
    Snapshot,
)
from gpuslice_plugin.device_plugin.checkpoint import Entry
from gpuslice_plugin.device_plugin.planner import Rules, plan, with_places
from gpuslice_plugin.device_plugin.wants import of_pod
from gpuslice_plugin.pods import read

from ..unit import nodes
from ..unit.nodes import GIB, node, share
from .objects import Object, container, pod

RULES = Rules(Defaults(), slots_per_gpu=10)
MIB = 1 << 20


def gpu(index: int, **more: Any) -> Gpu:
    return nodes.gpu(index, path=GpuPath.PLUGIN, **more)


def some(count: int) -> Snapshot:
    return node(*(gpu(index) for index in range(count)))


def asks(name: str = "main", **words: int) -> Object:
    return container(name, {f"nvidia.com/{word}": str(value) for word, value in words.items()})


def entries_of(document: Object, ids: Sequence[str]) -> list[Entry]:
    spec = document["spec"]
    return [
        Entry(document["metadata"]["uid"], one["name"], "nvidia.com/gpu", frozenset(ids), ("cdi",))
        for one in (*spec["initContainers"], *spec["containers"])
        if "nvidia.com/gpu" in one["resources"]["limits"]
        or "nvidia.com/gpucores" in one["resources"]["limits"]
    ]


def placed(
    document: Object,
    snapshot: Snapshot,
    rules: Rules = RULES,
    ids: Sequence[str] = ("slot-n-0",),
) -> tuple[Placement, ...]:
    wanted = read(document)
    return plan(wanted, of_pod(wanted, entries_of(document, ids), "nvidia.com"), snapshot, rules)


def where(places: Sequence[Placement], snapshot: Snapshot) -> list[int]:
    index = {one.uuid: one.index for one in snapshot.gpus}
    return [index[place.gpu_uuid] for place in places]


def refusal(document: Object, snapshot: Snapshot, kind: type[Exception] = AllocationError) -> str:
    with pytest.raises(kind) as caught:
        placed(document, snapshot)
    assert type(caught.value) is kind
    return str(caught.value)


def test_one_container_gets_one_share_of_the_size_it_asks_for() -> None:
    (place,) = placed(pod(main=[asks(gpucores=50, gpumem=3000)]), some(1))
    assert (place.limits.cores, place.limits.memory_bytes) == (50, 3000 * MIB)
    assert not place.limits.whole
    assert place.owner.key == "pod/uid-of-pod/main/0"
    assert place.owner.cdi_devices == ("cdi",)
    assert (place.owner.namespace, place.owner.pod, place.owner.container) == (
        "default",
        "pod",
        "main",
    )


def test_whole_gpus_are_all_of_a_gpu_without_a_shim() -> None:
    places = placed(pod(main=[asks(gpu=2)]), some(2))
    assert where(places, some(2)) == [0, 1]
    assert {(one.limits.whole, one.limits.cores) for one in places} == {(True, 100)}
    assert places[0].limits.memory_bytes == 80 * GIB


def test_shares_of_one_container_lie_on_gpus_of_their_own() -> None:
    places = placed(pod(main=[asks(gpu=2, gpumem=3000)]), some(2))
    assert where(places, some(2)) == [0, 1]
    assert {place.limits.memory_bytes for place in places} == {3000 * MIB}
    text = refusal(pod(main=[asks(gpu=3, gpumem=3000)]), some(2), RequestError)
    assert "3000 MiB on each of 3 GPUs" in text


def test_a_pod_on_a_full_node_waits_with_a_sentence_that_says_what_is_left() -> None:
    full = replace(some(2), shares=(share(gpu(0), cores=40), share(gpu(1), cores=40, gib=79)))
    text = refusal(pod(main=[asks(gpucores=70, gpumem=3000)]), full)
    assert text == (
        "There is no room now for container main, which asks for 70 % of a GPU's time and 3000 MiB:"
        " GPU 0 has only 60 % of its time free; GPU 1 has only 60 % of its time and 1 GiB of its"
        " memory free."
    )


def test_a_free_sum_that_is_no_whole_gpu_is_no_room() -> None:
    six = node(*(gpu(index) for index in range(6)))
    busy = replace(six, shares=tuple(share(gpu(index), cores=40) for index in range(6)))
    assert "each of GPUs 0, 1, 2, 3, 4, 5 is held by 1 share" in refusal(
        pod(main=[asks(gpucores=200)]), busy
    )
    one_free = replace(busy, shares=busy.shares[1:])
    assert "GPU 0 has room for one of them" in refusal(pod(main=[asks(gpucores=200)]), one_free)
    two_free = replace(busy, shares=busy.shares[2:])
    assert where(placed(pod(main=[asks(gpucores=200)]), two_free), six) == [0, 1]


def test_init_and_main_container_share_one_place() -> None:
    document = pod(
        init=[asks("one", gpucores=60, gpumem=50_000), asks("two", gpucores=100)],
        main=[asks(gpucores=80, gpumem=70_000)],
    )
    places = placed(document, some(1))
    assert [place.owner.moments for place in places] == [(0,), (1,), (2,)]
    promised = with_places(some(1), places).promised(gpu(0).uuid)
    assert (promised.cores, promised.memory_bytes) == (100, 80 * GIB)


def test_a_sidecar_is_there_beside_every_later_container() -> None:
    sidecar = {**asks("side", gpucores=30, gpumem=100), "restartPolicy": "Always"}
    fits = pod(
        init=[sidecar, asks("one", gpucores=70, gpumem=1)], main=[asks(gpucores=70, gpumem=1)]
    )
    assert where(placed(fits, some(1)), some(1)) == [0, 0, 0]
    tight = pod(
        init=[asks("one", gpucores=80, gpumem=1), sidecar], main=[asks(gpucores=71, gpumem=1)]
    )
    assert "container side" in refusal(tight, some(1), RequestError)


def test_a_pod_takes_no_second_gpu_for_a_moment_it_has_a_place_for() -> None:
    document = pod(init=[asks("one", gpucores=50, gpumem=1)], main=[asks(gpucores=50, gpumem=1)])
    crowded = replace(some(2), shares=(share(gpu(1), cores=50),))
    assert where(placed(document, crowded), crowded) == [1, 1]
    spread = Rules(Defaults(placement=Order.SPREAD), 10)
    assert where(placed(document, crowded, spread), crowded) == [0, 0]


def test_several_containers_find_the_way_around_each_other() -> None:
    """Largest first by time would put 50 and 40 beside the wrong neighbours."""
    left = replace(some(2), shares=(share(gpu(0), cores=40), share(gpu(1), cores=50)))
    document = pod(
        main=[
            asks("a", gpucores=50, gpumem=1),
            asks("b", gpucores=30, gpumem=1),
            asks("c", gpucores=30, gpumem=1),
        ]
    )
    assert where(placed(document, left), left) == [1, 0, 0]


def test_binpack_and_spread_choose_as_configured_and_as_the_pod_wishes() -> None:
    used = replace(some(2), shares=(share(gpu(1), cores=10),))
    small = [asks(gpucores=10, gpumem=1)]
    spread = Rules(Defaults(placement=Order.SPREAD), 10)
    assert where(placed(pod(main=small), used), used) == [1]
    assert where(placed(pod(main=small), used, spread), used) == [0]
    wish = {"hami.io/gpu-scheduler-policy": "spread"}
    assert where(placed(pod(main=small, annotations=wish), used), used) == [0]
    own = {"gpuslice.io/placement": "binpack"}
    assert where(placed(pod(main=small, annotations=wish | own), used), used) == [1]


def test_topology_takes_gpus_near_each_other() -> None:
    def linked(index: int) -> Gpu:
        others = [other for other in range(4) if other != index]
        ways = [(gpu(other).uuid, 0 if other // 2 == index // 2 else 50) for other in others]
        return gpu(index, distances=tuple(ways))

    pairs = node(*map(linked, range(4)))
    used = replace(pairs, shares=(share(gpu(0), cores=10),))
    wish = {"hami.io/gpu-scheduler-policy": "topology-aware"}
    assert where(placed(pod(main=[asks(gpu=2)], annotations=wish), used), used) == [2, 3]


def test_binding_stays_on_the_numa_node_that_the_kubelet_chose() -> None:
    two = node(gpu(0, numa_node=0), gpu(1, numa_node=1))
    small = pod(main=[asks(gpu=1, gpumem=1)])
    assert where(placed(small, two, ids=["slot-1-3"]), two) == [1]
    assert where(placed(small, two, ids=["slot-1-3", "core-0-1"]), two) == [0]
    full = replace(two, shares=(share(gpu(1, numa_node=1), gib=80),))
    with pytest.raises(AllocationError, match="GPU 0 is on NUMA node 0, and the kubelet chose 1"):
        placed(small, full, ids=["slot-1-3"])


def test_only_gpus_of_the_device_plugin_are_taken() -> None:
    mixed = node(nodes.gpu(0, path=GpuPath.DRA), gpu(1))
    assert where(placed(pod(main=[asks(gpu=1)]), mixed), mixed) == [1]
    with pytest.raises(AllocationError, match="no GPU for the device plugin"):
        placed(pod(main=[asks(gpu=1)]), node(nodes.gpu(0, path=GpuPath.DRA)))


def test_a_gpu_takes_no_more_shares_than_it_has_slots() -> None:
    one_slot = Rules(Defaults(), slots_per_gpu=1)
    used = replace(some(2), shares=(share(gpu(0), cores=10),))
    assert where(placed(pod(main=[asks(gpucores=10)]), used, one_slot), used) == [1]


def test_a_sick_gpu_is_passed_over_and_named() -> None:
    sick = gpu(0)
    sick = replace(sick, health=Health(HealthState.UNHEALTHY, "Xid 79"))
    assert where(placed(pod(main=[asks(gpu=1)]), node(sick, gpu(1))), some(2)) == [1]
    assert "GPU 0 is unhealthy (Xid 79)" in refusal(pod(main=[asks(gpu=1)]), node(sick))


def test_gpus_of_another_type_than_the_pod_wants_are_passed_over() -> None:
    mixed = node(gpu(0), replace(gpu(1), name="NVIDIA H100 80GB HBM3"))
    wants = {"nvidia.com/use-gputype": "V100, h100"}
    assert where(placed(pod(main=[asks(gpu=1)], annotations=wants), mixed), mixed) == [1]
    avoids = {"nvidia.com/nouse-gputype": "A100"}
    assert where(placed(pod(main=[asks(gpu=1)], annotations=avoids), mixed), mixed) == [1]
    names = {"nvidia.com/use-gpuuuid": gpu(1).uuid}
    assert where(placed(pod(main=[asks(gpu=1)], annotations=names), mixed), mixed) == [1]
    wrong = {"nvidia.com/use-gputype": "V100"}
    text = refusal(pod(main=[asks(gpu=1)], annotations=wrong), some(1), RequestError)
    assert "GPU 0 is a NVIDIA A100, and the pod wants V100" in text


def test_priority_and_policy_are_hami_s_or_our_own() -> None:
    def limits(document: Object) -> tuple[Priority, Policy]:
        (place,) = placed(document, some(1))
        return place.limits.priority, place.limits.policy

    env = [{"name": "CUDA_TASK_PRIORITY", "value": "0"}]
    env.append({"name": "GPU_CORE_UTILIZATION_POLICY", "value": "default"})
    hami = pod(main=[{**asks(gpucores=10), "env": env}])
    assert limits(hami) == (Priority.HIGH, Policy.ELASTIC)
    own = {"gpuslice.io/priority": "low", "gpuslice.io/policy": "hard"}
    assert limits(pod(main=[{**asks(gpucores=10), "env": env}], annotations=own)) == (
        Priority.LOW,
        Policy.HARD,
    )
    odd = pod(main=[asks(gpucores=10)], annotations={"gpuslice.io/priority": "urgent"})
    assert "is one of low, normal, high" in refusal(odd, some(1), RequestError)


def test_what_a_gpu_never_holds_is_said_to_be_impossible() -> None:
    text = refusal(pod(main=[asks(gpu=1, gpumem=90_000)]), some(1), RequestError)
    assert text.startswith("This node can never take container main")
    assert "GPU 0 has 80 GiB in all" in text
    assert "Container main cannot have what it asks" in refusal(
        pod(main=[asks(gpucores=150)]), some(1), RequestError
    )


def test_memory_that_the_kubelet_cannot_tell_us_of_is_explained() -> None:
    assert "add nvidia.com/gpu: 1" in refusal(pod(main=[asks(gpumem=10)]), some(1), RequestError)


def test_sums_written_by_the_admission_policy_mean_what_was_asked() -> None:
    document = pod(
        main=[asks(gpu=2, gpumem=6000)],
        annotations={"asked.gpuslice.io/main": "gpu=2,gpumem=3000"},
    )
    assert {one.limits.memory_bytes for one in placed(document, some(2))} == {3000 * MIB}
