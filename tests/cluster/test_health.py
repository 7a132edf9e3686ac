"""What Kubernetes is told of a sick GPU, and of a program's own fault; and what it is not told."""

import ctypes
import os
import sys
from collections.abc import Iterator

import pytest

from gpuslice_agent import native_files
from gpuslice_agent.entities import pci_address
from gpuslice_plugin.health.condition import MESSAGE_BYTES, TYPE

from . import tenants
from .api import Object
from .cluster import Cluster, wait
from .simulated_gpus import DIRECTORY
from .test_dra_health import inject, tainted

GPU = 1  # that of claims
STORM = 10_000
METRICS = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:9477/metrics').read())"


@pytest.fixture
def pod(cluster: Cluster, namespace: str, shares_of_claims: None) -> str:
    """With a program on the GPU of claims."""
    cluster.api.create("resourceclaims", tenants.claim("share", 30, 3000), namespace)
    cluster.api.create("pods", tenants.pod("trainer", claims=["share"]), namespace)
    cluster.wait_phase(namespace, "trainer", "Running")
    tenants.seen(cluster, namespace, "trainer")
    return "trainer"


@pytest.fixture
def well(cluster: Cluster) -> Iterator[None]:
    """Before, and again after."""
    wait("a healthy node", lambda: status(cluster) == "True")
    yield
    inject(cluster, "reset")
    wait("the GPU to be well again", lambda: status(cluster) == "True" and not tainted(cluster))


def condition(cluster: Cluster) -> Object:
    conditions = cluster.node_status().get("conditions", [])
    none: Object = {}
    return next((one for one in conditions if one["type"] == TYPE), none)


def status(cluster: Cluster) -> str:
    return str(condition(cluster).get("status", ""))


def of_node(cluster: Cluster) -> list[Object]:
    """The Events that the agent wrote on the node."""
    return cluster.api.list(
        "events",
        "default",
        fieldSelector=f"involvedObject.name={cluster.node_name},source=gpuslice.io/agent",
    )


def of_pods(cluster: Cluster, namespace: str) -> list[Object]:
    return cluster.api.list("events", namespace, fieldSelector="source=gpuslice.io/agent")


def uuid(cluster: Cluster) -> str:
    return cluster.agent.snapshot().gpus[GPU].uuid


def is_healthy_by_metric(cluster: Cluster, gpu: str) -> bool:
    page = cluster.node.run(sys.executable, "-c", METRICS)
    (line,) = [
        one for one in page.split("\\n") if one.startswith("gpuslice_gpu_healthy{") and gpu in one
    ]
    return float(line.split()[-1]) == 1.0


def pids(cluster: Cluster) -> list[int]:
    shares = cluster.agent.snapshot().shares
    return [process.pid for share in shares for process in share.usage.processes]


def logs(cluster: Cluster, lines: int, code: int, pid: int) -> None:
    """Into the node's kernel log."""
    library = ctypes.CDLL(str(native_files.simulation() / "libgpuslice_sim_kmsg.so"))
    path = cluster.node.root / DIRECTORY.relative_to("/") / "kmsg"
    pci = pci_address(cluster.agent.snapshot().gpus[GPU].pci_bus_id)
    line = f"NVRM: Xid (PCI:{pci}): {code}, pid={pid}, name=tenant, Graphics Exception".encode()
    for _ in range(lines):
        assert library.sim_kmsg_append(os.fsencode(path), 4, line) >= 0


def test_a_lost_gpu_is_told_everywhere_and_well_again_by_itself(
    cluster: Cluster, pod: str, well: None
) -> None:
    gpu, before = uuid(cluster), len(of_node(cluster))
    inject(cluster, "xid", "79")
    wait("the condition", lambda: status(cluster) == "False", 5)
    assert gpu in condition(cluster)["message"]
    wait("the taints", lambda: tainted(cluster) >= {"gpu-1", "gpu-1-share"}, 5)
    wait("the metric", lambda: not is_healthy_by_metric(cluster, gpu), 5)
    wait("the event", lambda: len(of_node(cluster)) > before, 5)
    assert any(
        one["reason"] == "GpuUnhealthy" and gpu in one["message"] for one in of_node(cluster)
    )
    inject(cluster, "reset")
    wait("the condition to be gone", lambda: status(cluster) == "True")
    wait("the taints to be gone", lambda: not tainted(cluster))
    wait("the metric to be well", lambda: is_healthy_by_metric(cluster, gpu), 5)


def test_a_fault_of_a_program_is_told_to_its_pod_and_a_storm_of_them_in_few_words(
    cluster: Cluster, namespace: str, pod: str, well: None
) -> None:
    before, told = condition(cluster), len(of_node(cluster))
    (pid,) = wait("the program to be seen", lambda: pids(cluster))
    logs(cluster, 1, 13, pid)
    (event,) = wait("an event", lambda: of_pods(cluster, namespace), 5)
    assert (event["involvedObject"]["name"], event["reason"]) == (pod, "GpuFaultCaused")
    logs(cluster, STORM, 13, pid)
    # The storm is over for the agent once it has taken in a fault that came behind it.
    logs(cluster, 1, 31, pid)
    wait("the end of the storm", lambda: len(of_pods(cluster, namespace)) == 2, 20)
    assert condition(cluster) == before
    assert len(condition(cluster)["message"].encode()) <= MESSAGE_BYTES
    assert len(of_node(cluster)) == told
    assert not tainted(cluster)
