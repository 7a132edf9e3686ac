"""Nodes to decide about, as values."""

from gpuslice_agent.enforcement.library import Slot
from gpuslice_agent.model import (
    Gpu,
    Health,
    HealthState,
    Limits,
    Owner,
    Share,
    Snapshot,
)

GIB = 1 << 30


def gpu(index: int = 0, *, gib: int = 80, **more: object) -> Gpu:
    return Gpu(
        index=index,
        uuid=f"GPU-{index:08d}-aaaa",
        name="NVIDIA A100",
        pci_bus_id=f"00000000:{index:02x}:00.0",
        memory_bytes=gib * GIB,
        health=Health(HealthState.HEALTHY),
        **more,  # type: ignore[arg-type]
    )


def share(on: Gpu, cores: int = 0, gib: int = 1, id: str = "one") -> Share:
    return Share(id, on.uuid, Limits(cores, gib * GIB), Owner("test"), created_at=1.0)


def node(*gpus: Gpu, shares: tuple[Share, ...] = ()) -> Snapshot:
    return Snapshot(taken_at=1.0, driver_version="1", gpus=gpus, shares=shares)


def slot(pid: int, pid_namespace: int = 1, start_time: int = 1) -> Slot:
    nothing = (0,) * 12
    return Slot(0, pid, pid_namespace, start_time, *nothing, waiting=False)
