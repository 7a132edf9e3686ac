"""The model survives the way over the wire."""

from dataclasses import replace

import pytest

from gpuslice_agent.control import messages
from gpuslice_agent.mig import MigPlace
from gpuslice_agent.model import (
    GpuPath,
    Health,
    HealthState,
    Limits,
    Order,
    Overcommit,
    Owner,
    OwnerKind,
    Pacing,
    Policy,
    Priority,
    Process,
    Reading,
    ShareRequest,
    ShareState,
    Snapshot,
    Usage,
)

from .nodes import gpu, node, share

PROCESS = Process(
    pid=1,
    tenant_pid=2,
    name="python",
    memory_bytes=3,
    context_bytes=4,
    module_bytes=5,
    data_bytes=6,
    array_bytes=7,
    managed_bytes=8,
    pinned_bytes=9,
    swapped_bytes=10,
    busy_ns=11,
    throttled_ns=12,
    launches=13,
    last_activity_ns=14,
    waiting=True,
)


def test_a_snapshot_arrives_as_it_was_sent() -> None:
    on = gpu(
        compute_capability=(9, 0),
        numa_node=0,
        reading=Reading(5, 0.25, None, 300.5),
        strangers=(replace(PROCESS, pod_uid="uid-2", container_id="c"),),
        path=GpuPath.DRA,
    )
    usage = Usage(1, 2, 0.5, 3, True, 4, Pacing.LOCAL, (PROCESS,))
    held = replace(share(on, cores=30), state=ShareState.CORRUPT, directory="/x", usage=usage)
    owner = Owner(
        "claim team/gpu",
        kind=OwnerKind.CLAIM,
        key="claim/uid-3/gpu/0",
        namespace="team",
        pod="train",
        pod_uid="uid-1",
        container="main",
        claim="gpu",
        claim_uid="uid-3",
    )
    place = MigPlace(19, "1g.10gb", 3, 1)
    whole = Limits(100, 5, overcommit=Overcommit.SWAP, whole=True, mig=place)
    claimed = replace(share(on, id="two"), owner=owner, limits=whole)
    sick = replace(gpu(1), health=Health(HealthState.UNHEALTHY, "hung"))
    sent = replace(node(on, sick, shares=(held, claimed)), simulated=True, cuda_version="13.0")
    sent = replace(sent, strangers_stopped=2)
    assert messages.snapshot_from_message(messages.snapshot_to_message(sent)) == sent


def test_a_node_without_gpus_says_why() -> None:
    blind = Snapshot(problem="No GPU can be seen.")
    assert messages.snapshot_from_message(messages.snapshot_to_message(blind)) == blind


@pytest.mark.parametrize(
    "request_",
    [
        ShareRequest(),
        ShareRequest(cores=0, memory_bytes=0),
        ShareRequest(
            30,
            1 << 40,
            ("0", "GPU-1"),
            2,
            Policy.ELASTIC,
            Priority.HIGH,
            7,
            Order.TOPOLOGY,
            Owner("me", 42),
        ),
        ShareRequest(whole=True),
    ],
)
def test_a_request_arrives_as_it_was_sent(request_: ShareRequest) -> None:
    assert messages.request_from_message(messages.request_to_message(request_)) == request_
