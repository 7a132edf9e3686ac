"""Six GPUs of the device plugin: what is asked for as sums, and has to fit on single GPUs."""

import os
from collections.abc import Iterator, Mapping

import pytest

from gpuslice_plugin.quantity import parse

from . import ledger, tenants
from .api import Object
from .cluster import Cluster, temporary, wait
from .node import REPOSITORY
from .tenants import MIB

GPUS = 6


@pytest.fixture(scope="module")
def started_six(kube: str) -> Iterator[Cluster]:
    with temporary(f"test-{os.getpid()}-six", "dgx-h100", kube) as up:
        up.kubectl("apply", f"--kustomize={REPOSITORY / 'deploy/policies'}")
        up.agent.start()
        up.wait_served()
        yield up


@pytest.fixture
def six(started_six: Cluster) -> Iterator[Cluster]:
    """As it was before, whatever a test does to the agent."""
    yield started_six
    started_six.api.delete_all("pods", "default", grace=0)
    wait("no pod", lambda: not started_six.api.list("pods", "default"))
    wait("no share", lambda: not started_six.agent.snapshot().shares)


def begin(cluster: Cluster, name: str, limits: Mapping[str, int], **annotations: str) -> None:
    document = tenants.pod(name, limits=limits)
    document["metadata"]["annotations"] = {
        f"gpuslice.io/{key}": value for key, value in annotations.items()
    }
    cluster.api.create("pods", document, "default")


def fill(cluster: Cluster) -> list[str]:
    """Takes 40 % of each GPU, so that 60 % are free on each."""
    names = [f"fill-{number}" for number in range(GPUS)]
    for name in names:
        begin(cluster, name, {"gpucores": 40, "gpumem": 1000}, placement="spread")
    for name in names:
        cluster.wait_phase("default", name, "Running")
    assert len({share.gpu_uuid for share in cluster.agent.snapshot().shares}) == GPUS
    return names


def reason(cluster: Cluster, name: str) -> str:
    """Why the kubelet has not started the container."""

    def said() -> str:
        for container in cluster.pod("default", name)["status"].get("containerStatuses", ()):
            if (waiting := container["state"].get("waiting", {})).get("message"):
                return str(waiting["message"])
        return ""

    return wait(f"a reason why {name} waits", said)


def given_gpus(cluster: Cluster, name: str) -> int:
    """By what the runtime gave the container: a simulated driver shows it all of the node."""
    variables = cluster.exec("default", name, "env").splitlines()
    return sum(one.startswith("GPUSLICE_SIM_GPU_") for one in variables)


def restart_agent(cluster: Cluster, **settings: object) -> None:
    """Returns once the kubelet has noticed both, that it was gone and that it is there."""
    cluster.agent.stop()
    wait("the plugin to be missed", lambda: allocatable(cluster, "gpucores") == 0)
    cluster.agent.start(**settings)
    cluster.wait_served()


def allocatable(cluster: Cluster, word: str) -> int:
    return parse(cluster.node_status()["allocatable"].get(f"nvidia.com/{word}", "0"))


def test_whole_gpus_wait_for_whole_gpus_and_get_two_as_soon_as_there_are_two(six: Cluster) -> None:
    names = fill(six)
    begin(six, "whole", {"gpucores": 200})
    assert "asks for 2 whole GPUs" in (why := reason(six, "whole"))
    assert "is held by 1 share" in why
    six.api.delete("pods", names[1], "default")
    six.wait_gone("pods", "default", names[1])
    assert six.pod("default", "whole")["status"]["phase"] == "Pending"
    six.api.delete("pods", names[4], "default")
    six.wait_phase("default", "whole", "Running")
    assert given_gpus(six, "whole") == 2


def test_a_pod_that_fits_nowhere_is_evicted_where_so_configured(six: Cluster) -> None:
    fill(six)
    restart_agent(six, unfit="evict", unfit_seconds=2)
    begin(six, "unfit", {"gpucores": 70, "gpumem": 1000})
    conditions: list[Object] = []

    def evicted() -> bool:
        found = six.api.get("pods", "unfit", "default")
        if found:
            conditions[:] = found["status"].get("conditions", [])
        return found is None

    wait("the pod to be evicted", evicted)
    (disruption,) = [one for one in conditions if one["type"] == "DisruptionTarget"]
    assert disruption["reason"] == "UnfitForGpus"
    assert "60 % of its time free" in disruption["message"]
    restart_agent(six)


@pytest.mark.parametrize(
    ("limits", "count", "memory_mib"),
    [
        ({"gpu": 2}, 2, None),
        ({"gpu": 2, "gpumem": 3000}, 2, 3000),
        ({"gpu": 3, "gpucores": 30, "gpumem": 3000}, 3, 3000),
        ({"gpucores": 50, "gpumem": 3000}, 1, 3000),
        ({"gpumem": 3000}, 1, 3000),
        ({"gpucores": 200}, 2, None),
    ],
    ids=str,
)
def test_each_row_of_the_table(
    six: Cluster, limits: dict[str, int], count: int, memory_mib: int | None
) -> None:
    begin(six, "one", limits)
    seen = tenants.seen(six, "default", "one")
    assert given_gpus(six, "one") == count
    if memory_mib is not None:
        assert [gpu.total_bytes for gpu in seen] == [memory_mib * MIB] * count
    held = [share.limits for share in ledger.shares(six.agent.state)]
    assert len(held) == count
    assert {one.whole for one in held} == {memory_mib is None}
    assert {one.cores for one in held} == {100 if memory_mib is None else limits.get("gpucores", 0)}


def test_cores_alone_bring_the_same_part_of_the_memory_and_the_scheduler_knows(
    six: Cluster,
) -> None:
    gpus = six.agent.snapshot().gpus[:GPUS]
    whole = sum(gpu.memory_bytes // MIB for gpu in gpus)
    wait("nothing to be held", lambda: allocatable(six, "gpumem") == whole)
    begin(six, "half", {"gpucores": 50})
    (gpu,) = tenants.seen(six, "default", "half")
    assert abs(gpu.total_bytes - gpus[0].memory_bytes // 2) < 4 * MIB
    taken = -(-gpu.total_bytes // MIB)
    wait("the memory to be counted", lambda: allocatable(six, "gpumem") == whole - taken)
    six.api.delete("pods", "half", "default")
    wait("the memory to be there again", lambda: allocatable(six, "gpumem") == whole)
