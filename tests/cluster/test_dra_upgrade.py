"""A newer agent takes over from an older one while pods with claims keep coming."""

import time
from collections.abc import Iterator

import pytest

from . import tenants
from .agreement import wait_agreed
from .cluster import Cluster, wait
from .node import Process

PODS = 8
BEFORE = 2
PAUSE_SECONDS = 0.5


@pytest.fixture
def older(cluster: Cluster) -> Iterator[Process]:
    """The agent of a pod, which gives way to another pod's."""
    cluster.agent.stop()
    cluster.start_agent(pod_uid="older")
    process = cluster.agent.process
    yield process
    cluster.agent.stop()
    process.stop()
    cluster.start_agent()  # without an agent the pods would not go


@pytest.mark.usefixtures("shares_of_claims")
def test_no_pod_with_a_claim_waits_for_an_upgrade(
    cluster: Cluster, namespace: str, older: Process
) -> None:
    cluster.api.create("resourceclaimtemplates", tenants.template("small", 5, 500), namespace)
    known = cluster.registrations()
    names = [f"pod-{number}" for number in range(PODS)]
    for number, name in enumerate(names):
        if number == BEFORE:
            cluster.agent.start(pod_uid="newer")
        cluster.api.create("pods", tenants.pod(name, "tenant", "1", template="small"), namespace)
        time.sleep(PAUSE_SECONDS)
    for name in names:
        cluster.wait_phase(namespace, name, "Running")
        # A kubelet that knows no instance of a driver says so, and asks again a minute later.
        assert "Failed" not in " ".join(cluster.events(namespace, name))
    wait("the newer agent to serve", lambda: cluster.registrations() > known)
    assert older.alive()  # it stands by
    assert "standing by" in cluster.agent.process.log.read_text()
    wait_agreed(cluster)
