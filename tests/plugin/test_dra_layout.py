"""Which ResourceSlices say what the node has."""

from dataclasses import replace
from typing import Any

from gpuslice_agent.entities import Effect
from gpuslice_agent.model import Gpu, Health, HealthState, Snapshot
from gpuslice_plugin.api import Object
from gpuslice_plugin.dra.attributes import attributes, pci_address, semver
from gpuslice_plugin.dra.cards import Card
from gpuslice_plugin.dra.layout import Features, Rules, layout, slice_name
from gpuslice_plugin.dra.names import Kind
from gpuslice_plugin.quantity import parse

GIB = 1 << 30
NODE = Snapshot(driver_version="580.95.05", cuda_version="13.0", enforcement="shim+kernel")
RULES = Rules("node-a", slots=16, overcommit_ratio=1.0)


def gpu(index: int, **fields: Any) -> Gpu:
    known = Gpu(index, f"GPU-{index}", "H100", f"00000000:{index:02X}:00.0", 80 * GIB)
    return replace(known, **{"health": Health(HealthState.HEALTHY), **fields})


def cards(count: int) -> list[Card]:
    return [Card(index, gpu(index)) for index in range(count)]


def slices(
    given: list[Card], rules: Rules = RULES, features: Features | None = None
) -> list[Object]:
    found = layout(given, NODE, rules, features or Features(), {"GPU-0": "pci0000:15"})
    return [one.content for one in found]


def device(contents: list[Object], name: str) -> Object:
    return next(
        one for content in contents for one in content.get("devices", ()) if one["name"] == name
    )


def test_eight_gpus_are_a_counters_slice_and_a_slice_each() -> None:
    contents = slices(cards(8))
    assert len(contents) == 9
    assert [one["name"] for one in contents[0]["sharedCounters"]] == [f"gpu-{n}" for n in range(8)]
    for content in contents[1:]:
        assert "sharedCounters" not in content  # refused together from Kubernetes 1.35 on
        assert len(content["devices"]) == 3


def test_sixteen_gpus_stay_within_eight_counter_sets_a_slice() -> None:
    counters = [one for one in slices(cards(16)) if "sharedCounters" in one]
    assert [len(one["sharedCounters"]) for one in counters] == [8, 8]


def test_a_node_without_gpus_has_one_empty_slice() -> None:
    assert slices([]) == [{}]


def test_slices_are_in_order_and_names_within_253_characters() -> None:
    names = [slice_name(position, "node-a") for position in (0, 1, 15, 16, 300)]
    assert names == sorted(names)
    long = slice_name(1, "x" * 253)
    assert len(long) <= 253
    assert long != slice_name(1, "x" * 252 + "y")


def test_whole_and_shared_devices_draw_on_the_same_counter_in_full() -> None:
    contents = slices(cards(1))
    counter = contents[0]["sharedCounters"][0]["counters"]["memory"]
    for name in ("gpu-0", "gpu-0-share"):
        (consumed,) = device(contents, name)["consumesCounters"]
        assert consumed == {"counterSet": "gpu-0", "counters": {"memory": counter}}


def test_an_administrator_s_device_draws_on_nothing_and_is_tainted() -> None:
    admin = device(slices(cards(1)), "gpu-0-admin")
    assert "consumesCounters" not in admin and "capacity" not in admin
    assert admin["taints"] == [{"key": "gpu.gpuslice.io/admin-access", "effect": "NoSchedule"}]


def test_a_share_may_be_asked_in_whole_mebibytes_up_to_the_card() -> None:
    odd = Card(0, gpu(0, memory_bytes=80 * GIB - 12345))
    memory = device(slices([odd]), "gpu-0-share")["capacity"]["gpumem"]
    policy = memory["requestPolicy"]
    least, most, step = (parse(policy["validRange"][name]) for name in ("min", "max", "step"))
    assert (most - least) % step == 0
    assert (parse(policy["default"]) - least) % step == 0
    assert most == (80 * GIB - 12345) // (1 << 20) * (1 << 20) == parse(memory["value"])


def test_overcommit_publishes_more_than_the_card_and_gives_no_share_more_than_it() -> None:
    contents = slices(cards(1), replace(RULES, overcommit_ratio=1.5))
    memory = device(contents, "gpu-0-share")["capacity"]["gpumem"]
    assert parse(memory["value"]) == 120 * GIB
    assert parse(memory["requestPolicy"]["validRange"]["max"]) == 80 * GIB
    assert parse(device(contents, "gpu-0")["capacity"]["memory"]["value"]) == 80 * GIB


def test_each_share_takes_one_of_the_slots() -> None:
    slots = device(slices(cards(1)), "gpu-0-share")["capacity"]["slots"]
    assert slots == {"value": "16", "requestPolicy": {"default": "1", "validValues": ["1"]}}


def test_a_sick_gpu_is_tainted_in_every_form_and_the_others_are_not() -> None:
    sick = Card(0, gpu(0, health=Health(HealthState.UNHEALTHY, "fallen off the bus")))
    contents = slices([sick, Card(1, gpu(1))])
    taint = {"key": "gpu.gpuslice.io/unhealthy", "effect": "NoSchedule"}
    assert device(contents, "gpu-0")["taints"] == [taint]
    assert device(contents, "gpu-0-share")["taints"] == [taint]
    assert taint in device(contents, "gpu-0-admin")["taints"]
    assert "taints" not in device(contents, "gpu-1")
    assert slices([Card(0, gpu(0)), Card(1, gpu(1))])[2] == contents[2]


def test_a_gpu_that_nothing_may_go_on_using_evicts() -> None:
    health = Health(HealthState.UNHEALTHY, "uncontained error", Effect.NO_EXECUTE)
    contents = slices([Card(0, gpu(0, health=health))])
    (taint,) = device(contents, "gpu-0-share")["taints"]
    assert taint["effect"] == "NoExecute"


def test_a_gpu_that_is_gone_but_held_stays_with_a_taint_of_its_own() -> None:
    gone = Card(0, gpu(0, health=Health(HealthState.UNHEALTHY, "gone")), absent=True)
    (taint,) = device(slices([gone]), "gpu-0-share")["taints"]
    assert taint["key"] == "gpu.gpuslice.io/absent"


def test_without_the_features_of_1_36_only_whole_healthy_gpus_are_offered() -> None:
    sick = Card(1, gpu(1, health=Health(HealthState.UNHEALTHY, "sick")))
    contents = slices([Card(0, gpu(0)), sick], features=Features(sharing=False, taints=False))
    assert [[one["name"] for one in content["devices"]] for content in contents] == [["gpu-0"]]
    (whole,) = contents[0]["devices"]
    assert whole.keys() == {"name", "attributes", "capacity"}
    assert whole["capacity"].keys() == {"memory"}
    assert "requestPolicy" not in whole["capacity"]["memory"]


def test_the_standard_attributes_are_there_where_they_are_known() -> None:
    found = device(slices([Card(0, gpu(0, numa_node=1))]), "gpu-0")["attributes"]
    assert found["resource.kubernetes.io/pciBusID"] == {"string": "0000:00:00.0"}
    assert found["resource.kubernetes.io/pcieRoot"] == {"string": "pci0000:15"}
    assert found["resource.kubernetes.io/numaNode"] == {"int": 1}
    assert found["enforcement"] == {"string": "shim+kernel"}
    without = device(slices([Card(1, gpu(1))]), "gpu-1")["attributes"]
    assert not {"resource.kubernetes.io/pcieRoot", "resource.kubernetes.io/numaNode"} & set(without)


def test_versions_are_semantic_ones_and_the_driver_s_own_words_stay_readable() -> None:
    found = device(slices(cards(1)), "gpu-0")["attributes"]
    assert found["driverVersion"] == {"version": "580.95.5"}
    assert found["driverVersionName"] == {"string": "580.95.05"}
    assert [semver(text) for text in ("13.0", "8", "", "470.223.02.1")] == [
        "13.0.0",
        "8.0.0",
        "",
        "470.223.2",
    ]


def test_strings_are_cut_to_64_bytes_of_whole_characters() -> None:
    found = attributes(Kind.WHOLE, gpu(0, name="ü" * 40), NODE, "")
    assert found["productName"] == {"string": "ü" * 32}


def test_a_device_has_at_most_32_attributes_and_capacities_with_identifiers_as_names() -> None:
    for one in slices([Card(0, gpu(0, numa_node=0, compute_capability=(9, 0)))])[1]["devices"]:
        names = [*one["attributes"], *one.get("capacity", {})]
        assert len(names) <= 32
        assert all(name.rpartition("/")[2].isidentifier() for name in names)
        assert all(len(name.rpartition("/")[2]) <= 32 for name in names)


def test_pci_addresses_are_written_as_the_kernel_writes_them() -> None:
    assert pci_address("00000000:17:00.0") == "0000:17:00.0"
    assert pci_address("00010000:C1:00.1") == "10000:c1:00.1"
    assert pci_address("nonsense") == ""
