"""MIG partitions as devices: what the slices say, and what becomes of a claim that has one."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpuslice_agent import simulation
from gpuslice_agent.mig import MigDevice, MigPolicy, MigProfile
from gpuslice_agent.model import Gpu
from gpuslice_agent.simulation import SimNode
from gpuslice_plugin.api import Object
from gpuslice_plugin.dra.cards import Card
from gpuslice_plugin.dra.layout import Features, Rules, names
from gpuslice_plugin.dra.names import DeviceName, Kind, device_name
from gpuslice_plugin.quantity import parse

from ..agent.mig_node import shown
from ..agent.world import nvml_of
from .dra_world import DraWorld, dra_world, eventually, running, share
from .test_dra_layout import RULES, device, slices

CUTTING = replace(RULES, mig=True)
TAINT = {"key": "gpu.gpuslice.io/mig", "effect": "NoSchedule"}


def described(profile: str) -> tuple[Gpu, ...]:
    """The GPUs of a simulated machine, as NVML says."""

    async def ask(node: SimNode) -> tuple[Gpu, ...]:
        nvml = nvml_of(node)
        try:
            return (await nvml.describe()).gpus
        finally:
            await nvml.end()

    with simulation.temporary(profile, 1) as node:
        return asyncio.run(ask(node))


@pytest.fixture(scope="module")
def a100() -> Gpu:
    return described("2xa100-80g")[0]


def consumed(contents: list[Object], name: str) -> dict[str, int]:
    (one,) = device(contents, name)["consumesCounters"]
    return {counter: parse(amount["value"]) for counter, amount in one["counters"].items()}


def available(contents: list[Object]) -> dict[str, int]:
    counters = contents[0]["sharedCounters"][0]["counters"]
    return {name: parse(amount["value"]) for name, amount in counters.items()}


def fit_together(contents: list[Object], *device_names: str) -> bool:
    """As the scheduler counts."""
    left = available(contents)
    for name in device_names:
        for counter, amount in consumed(contents, name).items():
            left[counter] -= amount
    return min(left.values()) >= 0


def test_profiles_and_places_are_what_nvml_says(a100: Gpu) -> None:
    a10040 = described("2xa100-40g")[0]
    for gpu, profile in ((a100, "1g.10gb"), (a10040, "1g.5gb")):
        found = slices([Card(0, gpu)], CUTTING)
        first = device(found, "gpu-0-mig-19-0")
        assert first["attributes"]["profile"] == {"string": profile}
        assert first["attributes"]["type"] == {"string": "mig"}
        assert first["attributes"]["uuid"] == {"string": gpu.uuid}
        smallest = next(one for one in gpu.mig_profiles if one.id == 19)
        assert parse(first["capacity"]["memory"]["value"]) == smallest.memory_bytes
    assert described("t4")[0].mig_profiles == ()


def test_without_the_setting_and_without_mig_nothing_is_different(a100: Gpu) -> None:
    assert [one["name"] for one in slices([Card(0, a100)])[1]["devices"]] == [
        "gpu-0-share",
        "gpu-0",
        "gpu-0-admin",
    ]
    other = replace(a100, mig_profiles=())
    assert slices([Card(0, other)], CUTTING) == slices([Card(0, other)])


def test_a_gpu_s_forms_exclude_each_other(a100: Gpu) -> None:
    found = slices([Card(0, a100)], CUTTING)
    for one in ("gpu-0", "gpu-0-share"):
        assert fit_together(found, one)
        for start in range(7):
            assert not fit_together(found, one, f"gpu-0-mig-19-{start}")
    assert not fit_together(found, "gpu-0-mig-19-1", "gpu-0-mig-14-0")
    assert not fit_together(found, "gpu-0-mig-0-0", "gpu-0-mig-20-3")


def test_what_the_driver_can_make_beside_each_other_the_scheduler_can_give(a100: Gpu) -> None:
    found = slices([Card(0, a100)], CUTTING)
    assert fit_together(found, *(f"gpu-0-mig-19-{start}" for start in range(7)))
    assert fit_together(found, "gpu-0-mig-5-0", "gpu-0-mig-9-4")
    assert fit_together(found, *(f"gpu-0-mig-15-{start}" for start in (0, 2, 4, 6)))
    # One of this kind a GPU, wherever it is.
    assert not fit_together(found, "gpu-0-mig-20-0", "gpu-0-mig-20-1")


@pytest.mark.parametrize("profile", ["2xa100-40g", "dgx-h100", "h200", "dgx-b200"])
def test_every_model_stays_within_the_limits_of_the_api(profile: str) -> None:
    found = slices([Card(0, described(profile)[0])], CUTTING)
    assert len(available(found)) <= 32
    for content in found[1:]:
        assert len(content["devices"]) <= 64
        for one in content["devices"]:
            assert len([*one["attributes"], *one.get("capacity", {})]) <= 32
            assert all(len(each["counters"]) <= 32 for each in one.get("consumesCounters", ()))
            assert device_name(one["name"]) is not None and len(one["name"]) <= 63


def test_more_devices_than_a_slice_may_have_go_on_in_the_next() -> None:
    many = tuple(
        MigProfile(number, f"{number}g", 1 << 30, 1, 14, 7, 1, tuple(range(7)))
        for number in range(1, 12)
    )
    card = Card(0, replace(described("t4")[0], mig_profiles=many))
    found = slices([card], CUTTING)
    assert [len(one["devices"]) for one in found[1:]] == [64, 80 - 64]


def test_what_others_have_cut_is_tainted(a100: Gpu) -> None:
    two = next(one for one in a100.mig_profiles if one.id == 14)
    foreign = MigDevice("MIG-x", two.name, two.places[1], two.memory_bytes, 0, 3)
    found = slices(
        [Card(0, replace(a100, foreign_partitions=(foreign,), partitioned=True))], CUTTING
    )
    tainted = {one["name"] for one in found[1]["devices"] if TAINT in one.get("taints", ())}
    assert {"gpu-0", "gpu-0-share", "gpu-0-mig-19-2", "gpu-0-mig-19-3"} <= tainted
    assert not {"gpu-0-admin", "gpu-0-mig-19-1", "gpu-0-mig-19-4"} & tainted
    old = slices(
        [Card(0, replace(a100, foreign_partitions=(foreign,), partitioned=True))],
        CUTTING,
        Features(sharing=False, taints=False),
    )
    assert old == [{}]


def test_without_counters_no_partition_is_offered(a100: Gpu) -> None:
    found = slices([Card(0, a100)], CUTTING, Features(sharing=False, taints=False))
    assert [one["name"] for one in found[0]["devices"]] == ["gpu-0"]


def test_device_names_say_the_profile_and_the_place(a100: Gpu) -> None:
    assert device_name("gpu-3-mig-19-4") == DeviceName(3, Kind.MIG, 19, 4)
    assert device_name("gpu-3-mig-19") is None
    known = list(names(Card(3, a100), Rules("node-a", 16, 1.0, mig=True)))
    assert [device_name(str(name)) for name in known] == known


async def within(
    state: Path, node: SimNode, test: Callable[[DraWorld], Coroutine[Any, Any, None]]
) -> None:
    async with dra_world(state, node, MigPolicy.ON_DEMAND) as world:
        await test(world)


def devices_of(node: SimNode) -> list[Object]:
    found: list[Object] = shown(node)["gpus"][0]["mig"] or []
    return found


def edits_of(world: DraWorld, name: str) -> list[Object]:
    path = world.state / "cdi" / f"k8s.gpu.gpuslice.io-{name}.json"
    return [one["containerEdits"] for one in json.loads(path.read_text())["devices"]]


def test_a_claim_gets_its_partition_and_gives_it_back(tmp_path: Path, node: SimNode) -> None:
    async def test(world: DraWorld) -> None:
        uuid = world.gpu().uuid
        async with running(world) as kubelet:
            await eventually(lambda: "gpu-0-mig-19-3" in json.dumps(world.slices))
            world.allocate("mine", {"device": "gpu-0-mig-19-3"})
            answer = (await kubelet.prepare("mine"))["mine"]
            assert answer.error == ""
            (mig,) = devices_of(node)
            (held,) = world.held("mine")
            assert held.mig is not None and held.mig.uuid == mig["uuid"]
            (edits,) = edits_of(world, "uid-of-mine-0")
            assert f"CUDA_VISIBLE_DEVICES={mig['uuid']}" in edits["env"]
            assert edits["deviceNodes"] == [{"path": "/dev/nvidia0"}]
            assert "mounts" not in edits
            assert (await kubelet.prepare("mine"))["mine"] == answer
            assert len(devices_of(node)) == 1
            assert await kubelet.unprepare("mine") == {"mine": ""}
            await eventually(lambda: not world.shares.all())
            assert devices_of(node) == []
            world.allocate("shared", share())
            assert (await kubelet.prepare("shared"))["shared"].error == ""
            assert shown(node)["gpus"][0]["mig"] is None
            assert [one.gpu_uuid for one in world.held("shared")] == [uuid]

    asyncio.run(within(tmp_path, node, test))
