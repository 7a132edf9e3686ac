"""Shares in containers as careful people write them, and what the agent says whose they are."""

import json
from typing import Any

import pytest

from . import tenants
from .agreement import wait_agreed
from .api import Object
from .cluster import Cluster
from .tenants import MIB, OUT_OF_MEMORY

MEMORY = 3000  # MiB


def hardened(pod: Object, **more: Any) -> Object:
    """As the Pod Security Standard `restricted` wants it, and without anything to write to."""
    pod["spec"] |= {
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 4711,
            "runAsGroup": 4711,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **more,
    }
    for container in pod["spec"]["containers"]:
        container["securityContext"] = {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
    return pod


def check(gpu: tenants.SeenGpu) -> None:
    assert gpu.total_bytes == MEMORY * MIB
    assert gpu.refused == OUT_OF_MEMORY


def test_a_restricted_container_has_its_share(cluster: Cluster, namespace: str) -> None:
    limits = {"gpucores": 20, "gpumem": MEMORY}
    cluster.api.create("pods", hardened(tenants.pod("one", limits=limits)), namespace)
    (gpu,) = tenants.seen(cluster, namespace, "one")
    check(gpu)
    wait_agreed(cluster)


@pytest.mark.usefixtures("shares_of_claims")
def test_containers_with_one_claim_have_one_share(cluster: Cluster, namespace: str) -> None:
    cluster.api.create("resourceclaims", tenants.claim("gpu", 20, MEMORY), namespace)
    pod = tenants.pod("two", claims=["gpu"])
    main = pod["spec"]["containers"][0]
    pod["spec"]["containers"].append({**main, "name": "second", "command": ["sleep", "1000"]})
    cluster.api.create("pods", hardened(pod), namespace)
    (gpu,) = tenants.seen(cluster, namespace, "two", "main")
    check(gpu)
    (share,) = [one for one in cluster.agent.snapshot().shares if one.owner.claim == "gpu"]
    listed = cluster.kubectl(
        "exec", "--namespace", namespace, "two", "--container=second", "--", "ls",
        "/run/gpuslice/shares",
    )  # fmt: skip
    assert listed.split() == [share.id]


@pytest.mark.usefixtures("shares_of_claims")
def test_a_container_with_two_shares_sees_two_gpus_each_with_its_limit(
    cluster: Cluster, namespace: str
) -> None:
    """One by the device plugin, one by a claim."""
    cluster.api.create("resourceclaims", tenants.claim("gpu", 20, MEMORY), namespace)
    limits = {"gpucores": 20, "gpumem": MEMORY}
    pod = tenants.pod("both", claims=["gpu"], limits=limits)
    cluster.api.create("pods", hardened(pod), namespace)
    gpus = tenants.seen(cluster, namespace, "both")
    assert len({gpu.uuid for gpu in gpus}) == 2
    for gpu in gpus:
        check(gpu)


@pytest.mark.usefixtures("shares_of_claims")
def test_status_says_whose_every_share_is(cluster: Cluster, namespace: str) -> None:
    cluster.api.create("resourceclaims", tenants.claim("gpu", 20, MEMORY), namespace)
    limits = {"gpucores": 20, "gpumem": MEMORY}
    cluster.api.create("pods", tenants.pod("both", claims=["gpu"], limits=limits), namespace)
    tenants.seen(cluster, namespace, "both")
    shares = json.loads(cluster.agent.command("status", "--json"))["shares"]
    ours = {one["kind"]: one for one in shares if one["namespace"] == namespace}
    assert ours.keys() == {"container", "claim"}
    assert (ours["container"]["pod"], ours["container"]["container"]) == ("both", "main")
    assert (ours["claim"]["claim"], ours["claim"]["pod"]) == ("gpu", "both")
