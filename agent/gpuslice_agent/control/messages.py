"""Between the model and the messages of the control API, both ways."""

from dataclasses import asdict
from typing import Literal

import msgspec

from gpuslice_agent.entities import NodeHealth
from gpuslice_agent.mig import MigPlace
from gpuslice_agent.model import (
    Gpu,
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
    Share,
    ShareRequest,
    ShareState,
    Snapshot,
    Usage,
)
from gpuslice_proto.gpuslice.v1 import control_pb2 as pb

POLICIES = {Policy.HARD: pb.POLICY_HARD, Policy.ELASTIC: pb.POLICY_ELASTIC}
PRIORITIES = {
    Priority.LOW: pb.PRIORITY_LOW,
    Priority.NORMAL: pb.PRIORITY_NORMAL,
    Priority.HIGH: pb.PRIORITY_HIGH,
}
POLICY_OF = {number: policy for policy, number in POLICIES.items()}
PRIORITY_OF = {number: priority for priority, number in PRIORITIES.items()}


def request_to_message(request: ShareRequest) -> pb.CreateRequest:
    return pb.CreateRequest(
        gpus=request.gpus,
        cores=request.cores,
        memory_bytes=request.memory_bytes,
        policy=POLICIES[request.policy] if request.policy else pb.POLICY_UNSPECIFIED,
        priority=PRIORITIES[request.priority],
        weight=request.weight,
        owner_pid=request.owner.pid,
        owner=request.owner.name,
        placement=request.placement or "",
        count=request.count,
        whole=request.whole,
    )


def request_from_message(message: pb.CreateRequest) -> ShareRequest:
    """Raises ValueError for a placement that is none."""
    return ShareRequest(
        cores=message.cores if message.HasField("cores") else None,
        memory_bytes=message.memory_bytes if message.HasField("memory_bytes") else None,
        gpus=tuple(message.gpus),
        count=message.count or 1,
        policy=POLICY_OF.get(message.policy),
        priority=PRIORITY_OF.get(message.priority, Priority.NORMAL),
        weight=message.weight or 1,
        placement=Order(message.placement) if message.placement else None,
        owner=Owner(name=message.owner, pid=message.owner_pid),
        whole=message.whole,
    )


def process_to_message(process: Process) -> pb.Process:
    return pb.Process(
        pid=process.pid,
        tenant_pid=process.tenant_pid,
        name=process.name,
        memory_bytes=process.memory_bytes,
        context_bytes=process.context_bytes,
        module_bytes=process.module_bytes,
        data_bytes=process.data_bytes,
        array_bytes=process.array_bytes,
        managed_bytes=process.managed_bytes,
        pinned_bytes=process.pinned_bytes,
        swapped_bytes=process.swapped_bytes,
        busy_ns=process.busy_ns,
        throttled_ns=process.throttled_ns,
        launches=process.launches,
        last_activity_ns=process.last_activity_ns,
        waiting=process.waiting,
        pod_uid=process.pod_uid,
        container_id=process.container_id,
    )


def process_from_message(message: pb.Process) -> Process:
    return Process(
        pid=message.pid,
        tenant_pid=message.tenant_pid,
        name=message.name,
        memory_bytes=message.memory_bytes,
        context_bytes=message.context_bytes,
        module_bytes=message.module_bytes,
        data_bytes=message.data_bytes,
        array_bytes=message.array_bytes,
        managed_bytes=message.managed_bytes,
        pinned_bytes=message.pinned_bytes,
        swapped_bytes=message.swapped_bytes,
        busy_ns=message.busy_ns,
        throttled_ns=message.throttled_ns,
        launches=message.launches,
        last_activity_ns=message.last_activity_ns,
        waiting=message.waiting,
        pod_uid=message.pod_uid,
        container_id=message.container_id,
    )


def owner_to_message(owner: Owner) -> pb.Owner:
    return pb.Owner(
        kind=owner.kind,
        namespace=owner.namespace,
        pod=owner.pod,
        pod_uid=owner.pod_uid,
        container=owner.container,
        claim=owner.claim,
        claim_uid=owner.claim_uid,
        key=owner.key,
    )


def _owner(name: str, pid: int, message: pb.Owner) -> Owner:
    return Owner(
        name=name,
        pid=pid,
        # An older agent knows of no other.
        kind=OwnerKind(message.kind) if message.kind else OwnerKind.PROCESS,
        namespace=message.namespace,
        pod=message.pod,
        pod_uid=message.pod_uid,
        container=message.container,
        claim=message.claim,
        claim_uid=message.claim_uid,
        key=message.key,
    )


def share_to_message(share: Share, gpu_index: int) -> pb.Share:
    return pb.Share(
        id=share.id,
        gpu_uuid=share.gpu_uuid,
        gpu_index=gpu_index,
        cores=share.limits.cores,
        memory_bytes=share.limits.memory_bytes,
        policy=POLICIES[share.limits.policy],
        priority=PRIORITIES[share.limits.priority],
        weight=share.limits.weight,
        overcommit=share.limits.overcommit,
        whole=share.limits.whole,
        mig=_partition_to_message(share.limits.mig),
        held_by=owner_to_message(share.owner),
        owner=share.owner.name,
        owner_pid=share.owner.pid,
        directory=share.directory,
        created_at=share.created_at,
        state=share.state,
        used_bytes=share.usage.used_bytes,
        busy_ns=share.usage.busy_ns,
        busy_ratio=share.usage.busy_ratio,
        throttled=share.usage.throttled,
        throttled_ns=share.usage.throttled_ns,
        over_bytes=share.usage.over_bytes,
        pacing=share.usage.pacing,
        processes=map(process_to_message, share.usage.processes),
    )


def _partition_to_message(place: MigPlace | None) -> pb.Partition | None:
    return None if place is None else pb.Partition(**asdict(place))


def _partition(message: pb.Partition) -> MigPlace:
    return MigPlace(message.profile_id, message.profile, message.start, message.slices)


def share_from_message(message: pb.Share) -> Share:
    return Share(
        id=message.id,
        gpu_uuid=message.gpu_uuid,
        limits=Limits(
            cores=message.cores,
            memory_bytes=message.memory_bytes,
            policy=POLICY_OF[message.policy],
            priority=PRIORITY_OF[message.priority],
            weight=message.weight,
            overcommit=Overcommit(message.overcommit) if message.overcommit else Overcommit.OFF,
            whole=message.whole,
            mig=_partition(message.mig) if message.HasField("mig") else None,
        ),
        owner=_owner(message.owner, message.owner_pid, message.held_by),
        created_at=message.created_at,
        directory=message.directory,
        state=ShareState(message.state),
        usage=Usage(
            used_bytes=message.used_bytes,
            busy_ns=message.busy_ns,
            busy_ratio=message.busy_ratio,
            throttled_ns=message.throttled_ns,
            throttled=message.throttled,
            over_bytes=message.over_bytes,
            pacing=Pacing(message.pacing),
            processes=tuple(map(process_from_message, message.processes)),
        ),
    )


def gpu_to_message(gpu: Gpu, snapshot: Snapshot) -> pb.Gpu:
    promised = snapshot.promised(gpu.uuid)
    capability = gpu.compute_capability
    return pb.Gpu(
        index=gpu.index,
        uuid=gpu.uuid,
        name=gpu.name,
        pci_bus_id=gpu.pci_bus_id,
        memory_bytes=gpu.memory_bytes,
        memory_used_bytes=gpu.reading.memory_used_bytes,
        memory_promised_bytes=promised.memory_bytes,
        cores_promised=promised.cores,
        utilization_ratio=gpu.reading.utilization_ratio,
        temperature_celsius=gpu.reading.temperature_celsius,
        power_watts=gpu.reading.power_watts,
        health=gpu.health.state,
        health_reason=gpu.health.reason,
        strangers=map(process_to_message, gpu.strangers),
        numa_node=gpu.numa_node,
        compute_capability=f"{capability[0]}.{capability[1]}" if capability else "",
        path=gpu.path,
    )


def gpu_from_message(message: pb.Gpu) -> Gpu:
    def known(
        name: Literal["utilization_ratio", "temperature_celsius", "power_watts"],
    ) -> float | None:
        return getattr(message, name) if message.HasField(name) else None

    major, _, minor = message.compute_capability.partition(".")
    return Gpu(
        index=message.index,
        uuid=message.uuid,
        name=message.name,
        pci_bus_id=message.pci_bus_id,
        memory_bytes=message.memory_bytes,
        compute_capability=(int(major), int(minor)) if minor else None,
        numa_node=message.numa_node if message.HasField("numa_node") else None,
        reading=Reading(
            memory_used_bytes=message.memory_used_bytes,
            utilization_ratio=known("utilization_ratio"),
            temperature_celsius=known("temperature_celsius"),
            power_watts=known("power_watts"),
        ),
        health=Health(HealthState(message.health), message.health_reason),
        strangers=tuple(map(process_from_message, message.strangers)),
        path=GpuPath(message.path) if message.path else GpuPath.LOCAL,
    )


def snapshot_to_message(snapshot: Snapshot) -> pb.Snapshot:
    index = {gpu.uuid: gpu.index for gpu in snapshot.gpus}
    return pb.Snapshot(
        taken_at=snapshot.taken_at,
        driver_version=snapshot.driver_version,
        cuda_version=snapshot.cuda_version,
        enforcement=snapshot.enforcement,
        simulated=snapshot.simulated,
        problem=snapshot.problem,
        health=msgspec.json.encode(snapshot.health),
        strangers_stopped=snapshot.strangers_stopped,
        gpus=(gpu_to_message(gpu, snapshot) for gpu in snapshot.gpus),
        shares=(share_to_message(share, index.get(share.gpu_uuid, 0)) for share in snapshot.shares),
    )


def snapshot_from_message(message: pb.Snapshot) -> Snapshot:
    return Snapshot(
        taken_at=message.taken_at,
        driver_version=message.driver_version,
        cuda_version=message.cuda_version,
        enforcement=message.enforcement,
        simulated=message.simulated,
        problem=message.problem,
        health=msgspec.json.decode(message.health or b"{}", type=NodeHealth),
        strangers_stopped=message.strangers_stopped,
        gpus=tuple(map(gpu_from_message, message.gpus)),
        shares=tuple(map(share_from_message, message.shares)),
    )
