"""What a claim was allocated, and what is wrong with it."""

from typing import Any

import pytest

from gpuslice_agent.model import Gpu, Limits, Overcommit, OwnerKind, Policy, Priority
from gpuslice_plugin.api import Object
from gpuslice_plugin.dra.cards import Card
from gpuslice_plugin.dra.claims import ClaimReference, placements, read
from gpuslice_plugin.dra.share_config import ShareConfig, decode, merged
from gpuslice_plugin.errors import ClaimError

GIB = 1 << 30
REFERENCE = ClaimReference("default", "mine", "uid-1")
CARDS = {0: Card(0, Gpu(0, "GPU-0", "H100", "0000:00:00.0", 80 * GIB))}
CONFIG = {"apiVersion": "gpu.gpuslice.io/v1alpha1", "kind": "ShareConfig"}


def result(**fields: Any) -> Object:
    known = {
        "driver": "gpu.gpuslice.io",
        "pool": "node-a",
        "device": "gpu-0-share",
        "request": "gpu",
        "shareID": "share-1",
        "consumedCapacity": {"gpucores": "30", "gpumem": "20Gi", "slots": "1"},
    }
    return {**known, **fields}


def opaque(parameters: object, *requests: str, driver: str = "gpu.gpuslice.io") -> Object:
    return {"requests": list(requests), "opaque": {"driver": driver, "parameters": parameters}}


def claim(*results: Object, config: tuple[Object, ...] = (), pods: tuple[str, ...] = ()) -> Object:
    return {
        "metadata": {"uid": "uid-1"},
        "status": {
            "allocation": {"devices": {"results": list(results), "config": list(config)}},
            "reservedFor": [{"resource": "pods", "name": name, "uid": name} for name in pods],
        },
    }


def limits(*results: Object, config: tuple[Object, ...] = ()) -> list[Limits]:
    found = placements(
        read(claim(*results, config=config), REFERENCE, "node-a"), CARDS, Policy.HARD
    )
    return [one.limits for one in found]


def test_consumed_capacity_becomes_the_limits() -> None:
    assert limits(result()) == [Limits(30, 20 * GIB)]


def test_the_owner_names_the_claim_its_pod_and_the_cdi_device() -> None:
    (place,) = placements(
        read(claim(result(), pods=("pod-a",)), REFERENCE, "node-a"), CARDS, Policy.HARD
    )
    assert place.gpu_uuid == "GPU-0"
    owner = place.owner
    assert (owner.kind, owner.namespace, owner.claim) == (OwnerKind.CLAIM, "default", "mine")
    assert (owner.claim_uid, owner.pod, owner.key) == ("uid-1", "pod-a", "claim/uid-1/gpu/0")
    assert owner.cdi_devices == ("uid-1-0",)


def test_two_shares_of_one_gpu_in_one_claim_are_two() -> None:
    one, two = result(request="a"), result(request="b", shareID="share-2")
    found = placements(read(claim(one, two), REFERENCE, "node-a"), CARDS, Policy.HARD)
    assert len({place.owner.key for place in found}) == 2
    assert len({place.owner.cdi_devices for place in found}) == 2


def test_a_whole_gpu_has_all_of_it_and_no_shim() -> None:
    whole = result(device="gpu-0", consumedCapacity=None, shareID=None)
    assert limits(whole) == [Limits(100, 80 * GIB, whole=True)]


def test_admin_access_takes_nothing() -> None:
    assert limits(result(adminAccess=True, consumedCapacity=None)) == []


def test_other_drivers_and_other_nodes_are_not_ours() -> None:
    assert limits(result(driver="nic.example.com"), result(pool="node-b")) == []


def test_a_subrequest_is_known_by_its_request_alone() -> None:
    (found,) = read(claim(result(request="gpu/small")), REFERENCE, "node-a").results
    assert found.request == "gpu"


def test_a_config_is_for_the_requests_it_names() -> None:
    elastic = opaque({**CONFIG, "policy": "elastic"}, "a")
    low = opaque({**CONFIG, "priority": "low"})
    alternative = opaque({**CONFIG, "overcommit": "swap"}, "b/small")
    found = limits(
        result(request="a"), result(request="b/small"), config=(elastic, low, alternative)
    )
    assert [(one.policy, one.priority, one.overcommit) for one in found] == [
        (Policy.ELASTIC, Priority.LOW, Overcommit.OFF),
        (Policy.HARD, Priority.LOW, Overcommit.SWAP),
    ]


def test_the_claim_s_own_config_goes_over_that_of_its_class() -> None:
    of_class = opaque({**CONFIG, "policy": "elastic", "priority": "high"})
    of_claim = opaque({**CONFIG, "policy": "hard"})
    (found,) = limits(result(), config=(of_class, of_claim))
    assert (found.policy, found.priority) == (Policy.HARD, Priority.HIGH)


def test_a_config_for_another_driver_is_not_read() -> None:
    assert limits(result(), config=(opaque("anything", driver="nic.example.com"),))


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        (None, "are no object: write a ShareConfig"),
        ("policy: hard", "are no object: write a ShareConfig"),
        ({"kind": "ShareConfig"}, "has apiVersion None: write gpu.gpuslice.io/v1alpha1"),
        ({**CONFIG, "apiVersion": "v1"}, "has apiVersion 'v1': write gpu.gpuslice.io/v1alpha1"),
        ({**CONFIG, "kind": "GpuConfig"}, "are of kind 'GpuConfig': write ShareConfig"),
        ({**CONFIG, "polcy": "hard"}, "field 'polcy': it may have policy, priority, overcommit"),
        ({**CONFIG, "policy": "soft"}, "policy 'soft': write one of hard, elastic"),
        ({**CONFIG, "policy": ["hard"]}, r"policy \['hard'\]: write one of hard, elastic"),
        ({**CONFIG, "priority": 1}, "priority 1: write one of low, normal, high"),
        ({**CONFIG, "overcommit": True}, "overcommit True: write one of off, swap"),
    ],
)
def test_each_mistake_in_a_config_gets_its_sentence(parameters: object, sentence: str) -> None:
    with pytest.raises(ClaimError, match=sentence):
        limits(result(), config=(opaque(parameters),))


def test_a_config_may_leave_everything_to_us() -> None:
    assert decode(CONFIG) == ShareConfig() == merged([])


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ({"metadata": {"uid": "uid-2"}}, "is another one now"),
        ({"metadata": {"uid": "uid-1"}}, "is not allocated"),
        ({"metadata": {"uid": "uid-1"}, "status": {}}, "is not allocated"),
    ],
)
def test_a_claim_that_is_not_the_one_meant_is_refused(document: Object, sentence: str) -> None:
    with pytest.raises(ClaimError, match=sentence):
        read(document, REFERENCE, "node-a")


@pytest.mark.parametrize("device", ["gpu-7-share", "gpu-0-mig-1", "nic-0"])
def test_a_device_that_this_node_has_not_is_refused(device: str) -> None:
    with pytest.raises(ClaimError, match=f"This node has no device {device}"):
        limits(result(device=device))


def test_the_device_of_administrators_is_for_them_alone() -> None:
    with pytest.raises(ClaimError, match="gpu-0-admin is for requests with adminAccess alone"):
        limits(result(device="gpu-0-admin"))


def test_a_share_without_consumed_capacity_is_refused() -> None:
    with pytest.raises(ClaimError, match="DRAConsumableCapacity"):
        limits(result(consumedCapacity=None))
