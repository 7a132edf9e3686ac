"""A GPU that falls ill, as the pod, the scheduler and the claim see it."""

import os
from collections.abc import Iterator

import pytest

from gpuslice_agent import native_files

from . import simulated_gpus
from .api import Object
from .cluster import Cluster, temporary, wait
from .test_dra_kubelet import runs, slices, start

NAMESPACE = "sick"
GPU = 1  # the one that claims get


def inject(cluster: Cluster, *fault: str) -> None:
    program = native_files.sim_node_program()
    cluster.node.run(program, "inject", "--gpu", str(GPU), simulated_gpus.DIRECTORY, *fault)


def healths(cluster: Cluster, namespace: str, name: str) -> set[str]:
    """As the kubelet shows them in the pod's status."""
    statuses = cluster.pod(namespace, name)["status"].get("containerStatuses", [])
    return {
        resource["health"]
        for one in statuses
        for claim in one.get("allocatedResourcesStatus", [])
        for resource in claim["resources"]
    }


def tainted(cluster: Cluster) -> set[str]:
    devices: list[Object] = [
        device for one in slices(cluster) for device in one["spec"].get("devices", [])
    ]
    key = "gpu.gpuslice.io/unhealthy"
    return {
        device["name"]
        for device in devices
        if key in {taint["key"] for taint in device.get("taints", [])}
    }


def ready(cluster: Cluster, namespace: str) -> set[str]:
    """What the claims of the namespace say of their devices."""
    return {
        condition["status"]
        for claim in cluster.api.list("resourceclaims", namespace)
        for device in claim["status"].get("devices", [])
        for condition in device["conditions"]
    }


@pytest.fixture
def own(kube: str) -> Iterator[Cluster]:
    """A cluster that nobody else needs: its GPU stays lost."""
    with temporary(f"sick-{os.getpid()}", "2xa100-80g", kube) as up:
        up.agent.start()
        up.wait_served()
        up.create_namespace(NAMESPACE)
        yield up


def test_a_gpu_that_falls_off_the_bus_is_seen_by_its_pod_its_claim_and_the_scheduler(
    own: Cluster,
) -> None:
    start(own, NAMESPACE, "one")
    runs(own, NAMESPACE, "one")
    wait("a healthy device", lambda: healths(own, NAMESPACE, "one") == {"Healthy"})
    inject(own, "xid", "79")
    wait("a sick device", lambda: healths(own, NAMESPACE, "one") == {"Unhealthy"})
    wait("its taints", lambda: tainted(own) == {"gpu-1", "gpu-1-share", "gpu-1-admin"})
    wait("the claim to say so", lambda: ready(own, NAMESPACE) == {"False"})
    start(own, NAMESPACE, "two")
    wait(
        "the scheduler to keep away",
        lambda: any("cannot allocate" in one for one in own.events(NAMESPACE, "two")),
    )
