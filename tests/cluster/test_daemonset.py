"""The agent as its users run it: the image, from the manifests, with the rights they grant."""

import json
import os
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest

from ..deploy import image
from . import cluster, keeper, tenants
from .cluster import Cluster, wait
from .node import REPOSITORY

OVERLAY = REPOSITORY / "deploy/overlays/simulated"
LAST_SETTING = 'log_level = "debug"'
NAMESPACE = "gpuslice"
ACCOUNT = "system:serviceaccount:gpuslice:gpuslice-agent"
MIB = 1 << 20
# Rights for what does not happen here, and other tests make happen.
IN_NEED_ONLY = {
    ("update", "resourceslices"),  # a GPU's health changes
    ("delete", "resourceslices"),  # a GPU is gone
    ("delete", "pods"),  # `unfit: evict`, two pods with one set of devices, a dead GPU
    ("patch", "pods/status"),  # DisruptionTarget, before such a pod is deleted
    ("create", "events"),  # a pod that has to wait, a fault
    ("patch", "events"),  # the same fault again
    ("associated-node:patch", "resourceclaims/driver"),  # looked up by the API server itself
}


@pytest.fixture(scope="module")
def installed(kube: str) -> Iterator[Cluster]:
    with cluster.temporary(f"daemonset-{os.getpid()}", "2xa100-80g", kube) as up:
        up.runtime.load(image.archive())
        up.kubectl("label", "node", up.node_name, "gpuslice.io/agent=true")
        # The tests' kubelet has not all of the machine: its groups lie below one of its own.
        settings = f'cgroup_root = "/{keeper.cgroup_of(up.node.folder)}"'
        manifests = up.kubectl("kustomize", str(OVERLAY))
        assert manifests.count(LAST_SETTING) == 1
        up.apply(manifests.replace(LAST_SETTING, f"{LAST_SETTING}\n    {settings}"), NAMESPACE)
        up.create_namespace("users")
        wait("the agent to be ready", lambda: ready_agents(up), 90)
        yield up


def agents(up: Cluster) -> list[Any]:
    return [
        pod
        for pod in up.api.list(
            "pods", NAMESPACE, labelSelector="app.kubernetes.io/name=gpuslice-agent"
        )
        if "deletionTimestamp" not in pod["metadata"]
    ]


def ready_agents(up: Cluster) -> list[Any]:
    return [
        pod
        for pod in agents(up)
        if any(
            one["type"] == "Ready" and one["status"] == "True"
            for one in pod["status"].get("conditions", ())
        )
    ]


def requests(up: Cluster) -> list[Any]:
    """What the agent asked the API server for, by the API server's own record."""
    lines = up.control_plane.audit_log.read_text().splitlines()
    return [one for one in map(json.loads, lines) if one["user"]["username"] == ACCOUNT]


def granted(up: Cluster) -> set[tuple[str, str]]:
    role = up.api.request("GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles/gpuslice-agent")
    return {
        (verb, resource)
        for rule in role["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def asked_for(event: Any) -> tuple[str, str]:
    about = event["objectRef"]
    return event["verb"], "/".join(filter(None, (about["resource"], about.get("subresource"))))


def test_a_claim_gets_its_share_from_the_agent_in_its_pod(installed: Cluster) -> None:
    installed.api.create("resourceclaims", tenants.claim("share", 30, 3000), "users")
    installed.api.create("pods", tenants.pod("by-claim", claims=["share"]), "users")
    installed.wait_phase("users", "by-claim", "Running")
    (gpu,) = tenants.seen(installed, "users", "by-claim")
    assert gpu.total_bytes == 3000 * MIB


def test_a_container_gets_its_share_through_the_device_plugin(installed: Cluster) -> None:
    pod = tenants.pod("by-plugin", limits={"gpucores": 50, "gpumem": 3000})
    installed.api.create("pods", pod, "users")
    installed.wait_phase("users", "by-plugin", "Running")
    (gpu,) = tenants.seen(installed, "users", "by-plugin")
    assert gpu.total_bytes == 3000 * MIB


def test_a_new_agent_takes_over_from_the_old_one_beside_it(installed: Cluster) -> None:
    (old,) = ready_agents(installed)
    installed.kubectl("rollout", "restart", "daemonset/gpuslice-agent", f"--namespace={NAMESPACE}")
    installed.kubectl(
        "rollout", "status", "daemonset/gpuslice-agent", f"--namespace={NAMESPACE}", "--timeout=90s"
    )
    (new,) = ready_agents(installed)
    assert new["metadata"]["name"] != old["metadata"]["name"]
    installed.api.create("resourceclaims", tenants.claim("later", 30, 2000), "users")
    installed.api.create("pods", tenants.pod("after", claims=["later"]), "users")
    installed.wait_phase("users", "after", "Running")
    (gpu,) = tenants.seen(installed, "users", "after")
    assert gpu.total_bytes == 2000 * MIB


def test_it_is_granted_everything_that_it_asks_for_and_nothing_else(installed: Cluster) -> None:
    """Last: by now it has started, served both paths, and been replaced."""
    events = requests(installed)
    refused = [
        (*asked_for(event), urllib.parse.unquote(event["requestURI"]))
        for event in events
        if event["responseStatus"]["code"] == 403
    ]
    assert refused == []
    assert granted(installed) - {asked_for(event) for event in events} == IN_NEED_ONLY
