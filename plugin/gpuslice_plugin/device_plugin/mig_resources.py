"""MIG partitions that an administrator made, as devices: pure. Each profile is a resource."""

from collections.abc import Mapping

from gpuslice_agent.mig import MigDevice
from gpuslice_agent.model import Gpu, GpuPath, HealthState, Snapshot
from gpuslice_plugin.device_plugin import ids
from gpuslice_plugin.device_plugin.resources import Device

Partition = tuple[Gpu, MigDevice]


def partitions(snapshot: Snapshot) -> dict[str, Partition]:
    """By UUID, which is the device's id: those that programs can use."""
    return {
        one.uuid: (gpu, one)
        for gpu in snapshot.gpus
        if gpu.path is GpuPath.PLUGIN
        for one in gpu.foreign_partitions
        if one.uuid
    }


def resource_name(prefix: str, partition: MigDevice) -> str:
    """As NVIDIA's plugin calls it: `+` is no letter of a resource name."""
    return f"{prefix}/mig-{partition.name.replace('+', '.')}"


def devices(prefix: str, known: Mapping[str, Partition], now: Snapshot) -> dict[str, list[Device]]:
    """By resource; `known` are all that were ever seen. Those that were removed are no devices any
    more, those of a GPU that is lost are sick."""
    found: dict[str, list[Device]] = {}
    present = partitions(now)
    for uuid, (gpu, one) in sorted(known.items()):
        seen = now.gpu(gpu.uuid)
        if uuid in present or seen is None:
            healthy = seen is not None and seen.health.state is not HealthState.UNHEALTHY
            device = Device(uuid, ids.home(gpu), healthy)
            found.setdefault(resource_name(prefix, one), []).append(device)
    return found
