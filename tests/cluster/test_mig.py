"""MIG partitions that claims ask for, on a real cluster: GPU 1 is cut when it is needed."""

from collections.abc import Iterator
from typing import Any

import pytest

from . import tenants
from .agreement import wait_agreed
from .api import Object
from .cluster import Cluster, wait
from .tenants import MIB
from .test_dra_claims import claim, create, request, shares_of, sized

GPU = 1  # the one of the claims
PROFILE = "1g.10gb"
SELECTOR = f'device.attributes["gpu.gpuslice.io"].profile == "{PROFILE}"'


@pytest.fixture(scope="module")
def agent_that_cuts(started: Cluster) -> Iterator[None]:
    started.agent.stop()
    started.start_agent(mig="on-demand")
    wait("partitions in the slices", lambda: is_cuttable(started))
    yield
    leave_uncut(started)
    started.agent.stop()
    started.start_agent()
    wait("no partitions in the slices", lambda: not is_cuttable(started))


@pytest.fixture
def cutting(agent_that_cuts: None, cluster: Cluster) -> Cluster:
    return cluster


def leave_uncut(cluster: Cluster) -> None:
    """The next share has the agent switch MIG mode off; one that may not cut would leave it on."""
    small = claim("uncut", request("gpu", capacity=sized(10, 1000)))
    create(cluster, "default", small, tenants.pod("uncut", "tenant", "1", claims=["uncut"]))
    tenants.seen(cluster, "default", "uncut")
    cluster.api.delete("pods", "uncut", "default")
    cluster.api.delete("resourceclaims", "uncut", "default")
    wait("the share to be gone", lambda: not cluster.agent.snapshot().shares)


def is_cuttable(cluster: Cluster) -> bool:
    slices = cluster.api.list("resourceslices")
    names = [one["name"] for each in slices for one in each["spec"].get("devices", ())]
    return any("-mig-" in name for name in names)


def partition(name: str) -> Object:
    return request(name, "mig.gpuslice.io", selectors=[{"cel": {"expression": SELECTOR}}])


def partitions(cluster: Cluster) -> list[dict[str, Any]]:
    """As the GPU itself says."""
    found: list[dict[str, Any]] = cluster.gpus.show()["gpus"][GPU]["mig"] or []
    return found


def test_a_claim_s_program_sees_its_partition_alone_which_goes_with_the_pod(
    cutting: Cluster, namespace: str
) -> None:
    mine = claim("mine", partition("one"), partition("other"))
    pod = tenants.pod("one", "tenant", "1", claims=["mine"])
    pod["spec"]["containers"] = [tenants.container_of(n, "tenant", "1") for n in ("one", "other")]
    for container in pod["spec"]["containers"]:
        container["resources"] = {"claims": [{"name": "c0", "request": container["name"]}]}
    create(cutting, namespace, mine, pod)
    seen = [tenants.seen(cutting, namespace, "one", name) for name in ("one", "other")]
    there = partitions(cutting)
    (one,), (other,) = seen
    uuids = {gpu.uuid.removeprefix("GPU-") for gpu in (one, other)}
    assert uuids == {mig["uuid"].removeprefix("MIG-") for mig in there}
    assert {one.total_bytes, other.total_bytes} == {mig["memory_total_bytes"] for mig in there}
    assert PROFILE in there[0]["name"]
    assert len(shares_of(cutting, namespace, "mine")) == 2
    wait_agreed(cutting)
    cutting.api.delete("pods", "one", namespace)
    wait("the partitions to be gone", lambda: not partitions(cutting))
    wait_agreed(cutting)


def test_a_share_waits_until_the_partition_of_its_gpu_is_gone_and_the_other_way_round(
    cutting: Cluster, namespace: str
) -> None:
    cut = claim("cut", partition("gpu"))
    create(cutting, namespace, cut, tenants.pod("cut", "tenant", "1", claims=["cut"]))
    tenants.seen(cutting, namespace, "cut")
    small = claim("small", request("gpu", capacity=sized(10, 1000)))
    create(cutting, namespace, small, tenants.pod("small", "tenant", "1", claims=["small"]))
    wait_for_no_room(cutting, namespace, "small")
    cutting.api.delete("pods", "cut", namespace)
    (gpu,) = tenants.seen(cutting, namespace, "small")
    assert gpu.total_bytes == 1000 * MIB
    again = claim("again", partition("gpu"))
    create(cutting, namespace, again, tenants.pod("again", "tenant", "1", claims=["again"]))
    wait_for_no_room(cutting, namespace, "again")
    assert partitions(cutting) == []
    cutting.api.delete("pods", "small", namespace)
    tenants.seen(cutting, namespace, "again")
    assert len(partitions(cutting)) == 1
    wait_agreed(cutting)


def test_a_killed_agent_finds_the_partition_of_a_running_pod(
    cutting: Cluster, namespace: str
) -> None:
    mine = claim("mine", partition("gpu"))
    create(cutting, namespace, mine, tenants.pod("one", "tenant", "1", claims=["mine"]))
    tenants.seen(cutting, namespace, "one")
    before = partitions(cutting)
    cutting.agent.kill()
    cutting.start_agent(mig="on-demand")
    assert partitions(cutting) == before
    wait_agreed(cutting)
    cutting.api.delete("pods", "one", namespace)
    wait("the partition to be gone", lambda: not partitions(cutting))
    wait_agreed(cutting)


def wait_for_no_room(cluster: Cluster, namespace: str, pod: str) -> None:
    wait(
        "the scheduler to say that nothing is free",
        lambda: any("cannot allocate" in one for one in cluster.events(namespace, pod)),
    )
