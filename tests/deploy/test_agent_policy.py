"""The agent of a node may touch what is that node's, and nothing else."""

import re
from contextlib import AbstractContextManager

import pytest

from ..cluster.api import Object, Refused
from .kubernetes import NODES, Kubernetes

pytestmark = pytest.mark.cluster

HERE, THERE = NODES
SLICES = "/apis/resource.k8s.io/v1/resourceslices"


def slice_of(node: str, name: str, driver: str = "gpu.gpuslice.io") -> Object:
    pool = {"name": node, "generation": 1, "resourceSliceCount": 1}
    return {
        "metadata": {"name": name},
        "spec": {"driver": driver, "nodeName": node, "pool": pool, "devices": []},
    }


def change(kubernetes: Kubernetes, name: str) -> None:
    """By the agent of HERE, as it does: the whole slice anew."""
    there = kubernetes.admin.get("resourceslices", name)
    assert there is not None
    there["spec"]["pool"]["generation"] += 1
    kubernetes.as_user(HERE).request("PUT", f"{SLICES}/{name}", there)


def event_by(reporter: str, name: str) -> Object:
    return {
        "metadata": {"name": name, "namespace": "default"},
        "involvedObject": {"kind": "Pod", "name": "some", "namespace": "default"},
        "reason": "Tried",
        "message": "by a test",
        "type": "Normal",
        "reportingComponent": "gpuslice",
        "reportingInstance": reporter,
    }


def prepared(node: str) -> Object:
    device = {"driver": "gpu.gpuslice.io", "pool": node, "device": "gpu-0"}
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "Prepared",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    return {"status": {"devices": [{**device, "conditions": [ready]}]}}


def labels(**values: str) -> Object:
    return {"metadata": {"labels": values}}


def refused(sentence: str) -> AbstractContextManager[object]:
    return pytest.raises(Refused, match=re.escape(sentence))


def test_it_writes_and_deletes_the_slices_of_its_own_node(kubernetes: Kubernetes) -> None:
    agent = kubernetes.as_user(HERE)
    agent.create("resourceslices", slice_of(HERE, "ours"))
    change(kubernetes, "ours")
    agent.delete("resourceslices", "ours")


def test_it_may_not_make_change_or_delete_the_slice_of_another_node(kubernetes: Kubernetes) -> None:
    agent, sentence = kubernetes.as_user(HERE), f"agent of node {HERE} may write the slices of its"
    with refused(sentence):
        agent.create("resourceslices", slice_of(THERE, "forged"))
    kubernetes.as_user(THERE).create("resourceslices", slice_of(THERE, "theirs"))
    with refused(sentence):
        change(kubernetes, "theirs")
    with refused(sentence):
        agent.delete("resourceslices", "theirs")


def test_it_may_not_write_the_slices_of_another_driver(kubernetes: Kubernetes) -> None:
    with refused("may write the slices of its own GPUs only"):
        kubernetes.as_user(HERE).create(
            "resourceslices", slice_of(HERE, "others", driver="gpu.nvidia.com")
        )


def test_it_labels_its_own_node_with_its_own_labels_only(kubernetes: Kubernetes) -> None:
    agent = kubernetes.as_user(HERE)
    agent.patch("nodes", HERE, labels(**{"gpuslice.io/gpu.model": "A100"}))
    agent.patch("nodes", HERE, labels(**{"nvidia.com/gpu.count": "8"}))
    agent.patch("nodes", HERE, {"metadata": {"labels": {"gpuslice.io/gpu.model": None}}})
    with refused("may write that node only"):
        agent.patch("nodes", THERE, labels(**{"gpuslice.io/gpu.model": "A100"}))
    with refused("not topology.kubernetes.io/zone."):
        agent.patch("nodes", HERE, labels(**{"topology.kubernetes.io/zone": "a"}))
    with refused("not gpuslice.io.example.com/x."):
        agent.patch("nodes", HERE, labels(**{"gpuslice.io.example.com/x": "a"}))


def test_it_may_not_write_the_spec_of_its_node(kubernetes: Kubernetes) -> None:
    with refused("its labels, not its spec"):
        kubernetes.as_user(HERE).patch("nodes", HERE, {"spec": {"unschedulable": True}})


def test_it_writes_the_status_of_its_own_node_only(kubernetes: Kubernetes) -> None:
    agent = kubernetes.as_user(HERE)
    memory: Object = {"status": {"capacity": {"nvidia.com/gpumem": "81920"}}}
    agent.patch("nodes", f"{HERE}/status", memory)
    with refused("may write that node only"):
        agent.patch("nodes", f"{THERE}/status", memory)


def test_it_marks_and_deletes_pods_of_its_own_node_only(kubernetes: Kubernetes) -> None:
    agent, sentence = kubernetes.as_user(HERE), "may write and delete the pods of that node only"
    disrupted: Object = {"status": {"conditions": [{"type": "DisruptionTarget", "status": "True"}]}}
    kubernetes.pod("ours", HERE)
    agent.patch("pods", "ours/status", disrupted, "default")
    agent.delete("pods", "ours", "default")
    kubernetes.pod("theirs", THERE)
    with refused(sentence):
        agent.patch("pods", "theirs/status", disrupted, "default")
    with refused(sentence):
        agent.delete("pods", "theirs", "default")


def test_it_may_not_delete_a_pod_that_is_on_no_node_yet(kubernetes: Kubernetes) -> None:
    waiting: Object = {
        "metadata": {"name": "waiting"},
        "spec": {
            "schedulingGates": [{"name": "example.com/never"}],
            "containers": [{"name": "one", "image": "none"}],
        },
    }
    kubernetes.admin.create("pods", waiting, "default")
    with refused("may write and delete the pods of that node only"):
        kubernetes.as_user(HERE).delete("pods", "waiting", "default")


def test_it_may_not_evict_since_admission_does_not_see_the_pod_behind_an_eviction(
    kubernetes: Kubernetes,
) -> None:
    kubernetes.pod("staying", HERE)
    eviction: Object = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": "staying", "namespace": "default"},
    }
    with refused("cannot create resource"):
        kubernetes.as_user(HERE).request(
            "POST", "/api/v1/namespaces/default/pods/staying/eviction", eviction
        )


def test_it_writes_the_status_of_claims_that_are_allocated_on_its_node_only(
    kubernetes: Kubernetes,
) -> None:
    for node, name in ((HERE, "ours"), (THERE, "theirs")):
        kubernetes.allocated_claim(name, node)
    kubernetes.as_user(HERE).patch("resourceclaims", "ours/status", prepared(HERE), "default")
    for content, sentence in (
        (prepared(THERE), "arbitrary-node:patch"),  # the API server's own rule, from 1.36 on
        ({"status": {"reservedFor": None}}, "may write the status of claims allocated there only"),
    ):
        with refused(sentence):
            kubernetes.as_user(HERE).patch("resourceclaims", "theirs/status", content, "default")


def test_it_reports_in_its_own_name_only(kubernetes: Kubernetes) -> None:
    agent = kubernetes.as_user(HERE)
    agent.create("events", event_by(HERE, "ours"), "default")
    with refused("may report in its own name only"):
        agent.create("events", event_by(THERE, "forged"), "default")


def test_a_token_that_names_no_node_may_write_nothing(kubernetes: Kubernetes) -> None:
    agent = kubernetes.as_user("nowhere")
    with refused("names no node"):
        agent.create("resourceslices", slice_of(HERE, "any"))
    with refused("names no node"):
        agent.patch("nodes", HERE, labels(**{"gpuslice.io/gpu.model": "A100"}))
    with refused("names no node"):
        agent.create("events", event_by("", "any"), "default")


def test_others_are_left_alone(kubernetes: Kubernetes) -> None:
    kubernetes.admin.create("resourceslices", slice_of(THERE, "by-the-admin"))
