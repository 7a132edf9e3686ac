"""The node as one JSON object. Fields are added, never renamed or given another meaning.

Sizes are bytes, times nanoseconds unless the name says otherwise, ratios from 0 to 1; null: the
GPU does not say.
"""

from gpuslice_agent.model import Gpu, Process, Share, Snapshot

VERSION = 1


def document(snapshot: Snapshot) -> dict[str, object]:
    return {
        "version": VERSION,
        "taken_at": snapshot.taken_at,
        "driver_version": snapshot.driver_version,
        "cuda_version": snapshot.cuda_version,
        "enforcement": snapshot.enforcement,
        "simulated": snapshot.simulated,
        "problem": snapshot.problem,
        "gpus": [_gpu(gpu, snapshot) for gpu in snapshot.gpus],
        "shares": [_share(share, snapshot) for share in snapshot.shares],
    }


def _gpu(gpu: Gpu, snapshot: Snapshot) -> dict[str, object]:
    promised = snapshot.promised(gpu.uuid)
    return {
        "index": gpu.index,
        "uuid": gpu.uuid,
        "name": gpu.name,
        "pci_bus_id": gpu.pci_bus_id,
        "memory_bytes": gpu.memory_bytes,
        "memory_used_bytes": gpu.reading.memory_used_bytes,
        "memory_promised_bytes": promised.memory_bytes,
        "cores_promised": promised.cores,
        "utilization_ratio": gpu.reading.utilization_ratio,
        "temperature_celsius": gpu.reading.temperature_celsius,
        "power_watts": gpu.reading.power_watts,
        "health": gpu.health.state.value,
        "health_reason": gpu.health.reason,
        "path": gpu.path.value,
        "strangers": [_process(process) for process in gpu.strangers],
    }


def _share(share: Share, snapshot: Snapshot) -> dict[str, object]:
    gpu = snapshot.gpu(share.gpu_uuid)
    limits, usage = share.limits, share.usage
    return {
        "id": share.id,
        "gpu_uuid": share.gpu_uuid,
        "gpu_index": None if gpu is None else gpu.index,
        "cores": limits.cores,
        "memory_bytes": limits.memory_bytes,
        "policy": limits.policy.value,
        "priority": limits.priority.value,
        "weight": limits.weight,
        "overcommit": limits.overcommit.value,
        "whole": limits.whole,
        "mig": None if limits.mig is None else limits.mig.profile,
        "owner": share.owner.name,
        "owner_pid": share.owner.pid,
        "kind": share.owner.kind.value,
        "namespace": share.owner.namespace,
        "pod": share.owner.pod,
        "pod_uid": share.owner.pod_uid,
        "container": share.owner.container,
        "claim": share.owner.claim,
        "claim_uid": share.owner.claim_uid,
        "directory": share.directory,
        "created_at": share.created_at,
        "state": share.state.value,
        "pacing": usage.pacing.value,
        "used_bytes": usage.used_bytes,
        "busy_ns": usage.busy_ns,
        "busy_ratio": usage.busy_ratio,
        "throttled": usage.throttled,
        "throttled_ns": usage.throttled_ns,
        "processes": [_process(process) for process in usage.processes],
    }


def _process(process: Process) -> dict[str, object]:
    return {
        "pid": process.pid,
        "tenant_pid": process.tenant_pid,
        "name": process.name,
        "memory_bytes": process.memory_bytes,
        "context_bytes": process.context_bytes,
        "module_bytes": process.module_bytes,
        "data_bytes": process.data_bytes,
        "array_bytes": process.array_bytes,
        "managed_bytes": process.managed_bytes,
        "pinned_bytes": process.pinned_bytes,
        "swapped_bytes": process.swapped_bytes,
        "busy_ns": process.busy_ns,
        "throttled_ns": process.throttled_ns,
        "launches": process.launches,
        "waiting": process.waiting,
        "pod_uid": process.pod_uid,
        "container_id": process.container_id,
    }
