"""MIG partitions as metrics, with the pod that has each. How well one is, is with health."""

from collections.abc import Iterable

from gpuslice_agent.mig import MigDevice
from gpuslice_agent.model import Gpu, Owner, Snapshot
from gpuslice_agent.publish.metrics.families import Family, Kind, labels

NOBODY = Owner()


def of_partitions(snapshot: Snapshot) -> Iterable[Family]:
    mode = Family("gpuslice_gpu_mig_mode", "1 where the GPU is in MIG mode.")
    info = Family("gpuslice_mig", "What does not change of a MIG partition.", Kind.INFO)
    memory = Family("gpuslice_mig_memory_bytes", "Memory of a MIG partition.")
    for gpu in snapshot.gpus:
        mode.add(int(gpu.reading.mig), labels(uuid=gpu.uuid))
        for device in gpu.reading.mig_devices:
            what = partition_labels(gpu, device)
            place = labels(start=device.place.start, slices=device.place.slices)
            info.add(1, f"{what},{labels(profile=device.name)},{place}")
            owner = owner_of(snapshot, gpu, device)
            pod = labels(namespace=owner.namespace, pod=owner.pod, container=owner.container)
            memory.add(device.memory_bytes, f"{what},{pod}")
    yield from (mode, info, memory)


def partition_labels(gpu: Gpu, device: MigDevice) -> str:
    """By numbers too: one that no program can use yet has no UUID."""
    return labels(
        uuid=gpu.uuid,
        mig_uuid=device.uuid,
        gi=device.gpu_instance,
        ci=device.compute_instance,
    )


def owner_of(snapshot: Snapshot, gpu: Gpu, device: MigDevice) -> Owner:
    """Without a name where it is nobody's, or not ours."""
    held = (share for share in snapshot.shares if share.gpu_uuid == gpu.uuid)
    return next((one.owner for one in held if one.mig and _same(one.mig, device)), NOBODY)


def _same(one: MigDevice, other: MigDevice) -> bool:
    return (one.gpu_instance, one.compute_instance) == (other.gpu_instance, other.compute_instance)
