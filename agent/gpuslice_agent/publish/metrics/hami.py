"""HAMi's names, with its labels and its units: what it calls a ratio goes from 0 to 100."""

import time
from collections.abc import Callable, Iterable

from gpuslice_agent.model import Gpu, Process, Share, Snapshot
from gpuslice_agent.publish.metrics.families import Family, labels

ZONE = 'zone="vGPU"'
SECONDS = 1e-9


def _sum(part: Callable[[Process], int]) -> Callable[[Share], float]:
    return lambda share: sum(part(process) for process in share.usage.processes)


OF_CONTAINER: tuple[tuple[str, str, Callable[[Share], float | None]], ...] = (
    ("hami_vgpu_memory_used_bytes", "Memory used.", lambda s: s.usage.used_bytes),
    ("hami_vgpu_memory_limit_bytes", "Memory limit.", lambda s: s.limits.memory_bytes),
    ("hami_container_device_memory_bytes", "Memory used.", lambda s: s.usage.used_bytes),
    (
        "hami_container_device_utilization_ratio",
        "Percent of the GPU's time used.",
        lambda s: round(s.usage.busy_ratio * 100, 3),
    ),
    (
        "hami_container_last_kernel_elapsed_seconds",
        "Time since the last kernel.",
        lambda s: _since_last_kernel(s),
    ),
    ("hami_vgpu_memory_context_bytes", "Memory of contexts.", _sum(lambda p: p.context_bytes)),
    ("hami_vgpu_memory_module_bytes", "Memory of modules.", _sum(lambda p: p.module_bytes)),
    ("hami_vgpu_memory_buffer_bytes", "Memory of buffers.", _sum(lambda p: p.data_bytes)),
    ("hami_vgpu_memory_allocated_bytes", "Memory promised.", lambda s: s.limits.memory_bytes),
    ("hami_vgpu_core_allocated_ratio", "Percent promised.", lambda s: s.limits.cores),
)


def of_hami(snapshot: Snapshot, node: str) -> Iterable[Family]:
    yield from _of_gpus(snapshot, node)
    yield _of_partitions(snapshot, node)
    containers = tuple(_containers(snapshot, node))
    for name, text, value_of in OF_CONTAINER:
        yield Family(name, text).add_each((label, value_of(share)) for share, label in containers)


def _of_gpus(snapshot: Snapshot, node: str) -> Iterable[Family]:
    names = {
        "hami_host_gpu_memory_used_bytes": "Memory used, by NVML.",
        "hami_host_gpu_utilization_ratio": "Percent of the time in which a kernel ran.",
        "hami_host_gpu_memory_controller_utilization_ratio": "Percent of the time in which memory "
        "was read or written.",
        "hami_gpu_memory_limit_bytes": "Memory that can be promised.",
        "hami_gpu_core_limit_ratio": "Percent of the time that can be promised.",
        "hami_gpu_memory_allocated_bytes": "Memory promised.",
        "hami_gpu_core_allocated_ratio": "Percent of the time promised.",
        "hami_gpu_shared_count": "Shares of the GPU.",
    }
    families = {name: Family(name, text) for name, text in names.items()}
    for gpu in snapshot.gpus:
        label = labels(
            node=node, device_index=gpu.index, device_uuid=gpu.uuid, device_type=gpu.name
        )
        for family, value in zip(families.values(), _values(snapshot, gpu), strict=True):
            family.add(value, f"{label},{ZONE}")
    yield from families.values()


def _of_partitions(snapshot: Snapshot, node: str) -> Family:
    family = Family("hami_mig_device_info", "A MIG partition.")
    for gpu in snapshot.gpus:
        for device in gpu.reading.mig_devices:
            card = labels(node=node, device_index=gpu.index, device_uuid=gpu.uuid)
            what = labels(
                mig_uuid=device.uuid,
                profile=device.name,
                gpu_instance_id=device.gpu_instance,
                compute_instance_id=device.compute_instance,
            )
            family.add(1, f"{card},{what},{ZONE}")
    return family


def _values(snapshot: Snapshot, gpu: Gpu) -> tuple[float | None, ...]:
    """In the order of the names above."""
    promised, reading = snapshot.promised(gpu.uuid), gpu.reading
    busy, memory_busy = reading.utilization_ratio, reading.memory_utilization_ratio
    return (
        reading.memory_used_bytes,
        None if busy is None else round(busy * 100, 3),
        None if memory_busy is None else round(memory_busy * 100, 3),
        gpu.memory_bytes,
        100,
        promised.memory_bytes,
        promised.cores,
        sum(share.gpu_uuid == gpu.uuid for share in snapshot.shares),
    )


def _containers(snapshot: Snapshot, node: str) -> Iterable[tuple[Share, str]]:
    """Shares of pods; vdevice_index counts those of one container."""
    counted: dict[tuple[str, str, str], int] = {}
    for share in snapshot.shares:
        owner = share.owner
        if not owner.pod or share.limits.whole:  # no shim measures what is whole
            continue
        key = (owner.namespace, owner.pod, owner.container)
        index = counted[key] = counted.get(key, -1) + 1
        who = labels(namespace=owner.namespace, pod=owner.pod, container=owner.container)
        where = labels(node=node, vdevice_index=index, device_uuid=share.gpu_uuid)
        yield share, f"{who},{where},{ZONE}"


def _since_last_kernel(share: Share) -> float | None:
    last = max((process.last_activity_ns for process in share.usage.processes), default=0)
    return max(0.0, time.monotonic() - last * SECONDS) if last else None
