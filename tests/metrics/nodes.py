"""A full node, and its page."""

from dataclasses import replace

from prometheus_client import CollectorRegistry

from gpuslice_agent.entities import XidCount, gpu_entity, pci_address
from gpuslice_agent.mig import MigDevice, MigPlace
from gpuslice_agent.model import (
    Gpu,
    GpuProcess,
    Health,
    HealthState,
    Limits,
    Owner,
    OwnerKind,
    Process,
    Reading,
    Share,
    Snapshot,
    Usage,
)
from gpuslice_agent.publish.metrics.content import content
from gpuslice_agent.publish.metrics.page import Format, Page

GIB = 1 << 30
CODES = (13, 31, 43, 45, 63, 74, 79, 94, 95, 119)  # more than any GPU has seen


def partition(card: int, number: int) -> MigDevice:
    place = MigPlace(19, "1g.10gb", number, 1)
    return MigDevice(f"MIG-{card}-{number}", "1g.10gb", place, 10 * GIB, card, number + 7)


def gpu(index: int) -> Gpu:
    return Gpu(
        index,
        f"GPU-{index:08d}-1111-2222-3333-444444444444",
        "NVIDIA A100-SXM4-80GB",
        f"00000000:{index + 1:02x}:00.0",
        80 * GIB,
        reading=Reading(
            memory_used_bytes=5 * GIB,
            utilization_ratio=0.4,
            temperature_celsius=40.0,
            power_watts=123.4,
            memory_utilization_ratio=0.25,
            sm_clock_hertz=1410e6,
            memory_clock_hertz=1593e6,
            energy_joules=1234.5,
            pcie_replays=3,
            processes=(GpuProcess(7, GIB),),
            mig=True,
            mig_devices=tuple(partition(index, number) for number in range(7)),
        ),
        health=Health(HealthState.HEALTHY),
        strangers=tuple(Process(pid=pid, name="x", memory_bytes=pid) for pid in range(1, 101)),
    )


def share(on: Gpu, number: int) -> Share:
    owner = Owner(
        name=f"team/chat-{number}",
        kind=OwnerKind.CONTAINER,
        namespace="team",
        pod=f"chat-{number}",
        pod_uid=f"uid-{number}",
        container="main",
    )
    usage = Usage(
        used_bytes=GIB // 2,
        busy_ns=2_500_000_000 + number,
        busy_ratio=0.01,
        throttled_ns=500_000_000,
        processes=(Process(pid=number, context_bytes=1, data_bytes=2, last_activity_ns=1),),
    )
    id = f"{on.index}-{number}"
    return Share(id, on.uuid, Limits(1, GIB), owner, created_at=1.0, usage=usage)


def full(gpus: int = 8, shares: int = 80) -> Snapshot:
    """Nothing is unknown, everything has happened."""
    cards = tuple(gpu(index) for index in range(gpus))
    empty = Snapshot(taken_at=100.0, driver_version="615.1", cuda_version="13.5", gpus=cards)
    counts = tuple(
        XidCount(gpu_entity(pci_address(card.pci_bus_id)), code, 2, 50.0 + code, card.uuid)
        for card in cards
        for code in CODES
    )
    held = tuple(share(card, number) for card in cards for number in range(shares))
    health = replace(empty.health, counts=counts, sources=(("kmsg", ""), ("nvml", "it is gone")))
    return replace(empty, shares=held, health=health)


def written(snapshot: Snapshot, form: Format = Format.TEXT, compatibility: str = "") -> str:
    """The page as it is served."""
    page = Page(snapshot, content(compatibility, "node-1")(snapshot), CollectorRegistry())
    return page.body(form, gzipped=False).decode()
