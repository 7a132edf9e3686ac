"""Where the API server drops the fields of shares (before 1.36): whole GPUs and a line of log."""

import pytest

from . import tenants
from .agreement import wait_agreed
from .cluster import Cluster, wait
from .test_dra_claims import claim, request, shares_of

SHARES_SINCE = (1, 36)


@pytest.fixture(autouse=True)
def older(kube: str) -> None:
    if tuple(map(int, kube.split(".")[:2])) >= SHARES_SINCE:
        pytest.skip("this Kubernetes keeps the fields: make cluster-test KUBE=1.34 has none")


def test_only_whole_gpus_are_published(cluster: Cluster) -> None:
    slices = cluster.api.list("resourceslices", fieldSelector="spec.driver=gpu.gpuslice.io")
    devices = [device for one in slices for device in one["spec"]["devices"]]
    assert [device["name"] for device in devices] == ["gpu-1"]
    assert "consumesCounters" not in devices[0]
    assert "the API server drops fields of slices sharing=False" in cluster.agent.process.tail(1000)


def test_a_pod_gets_a_whole_gpu_and_the_next_one_waits_for_it(
    cluster: Cluster, namespace: str
) -> None:
    for name in ("one", "two"):
        made = claim(name, request("gpu", "gpu.gpuslice.io"))
        cluster.api.create("resourceclaims", made, namespace)
        pod = tenants.pod(name, "tenant", "1", claims=[name])
        cluster.api.create("pods", pod, namespace)
        if name == "one":
            tenants.seen(cluster, namespace, "one")
    (share,) = shares_of(cluster, namespace, "one")
    assert share.limits.whole
    wait(
        "the scheduler to say that nothing is free",
        lambda: any("cannot allocate" in one for one in cluster.events(namespace, "two")),
    )
    cluster.api.delete("pods", "one", namespace, grace=0)
    cluster.wait_phase(namespace, "two", "Running")
    wait_agreed(cluster)
