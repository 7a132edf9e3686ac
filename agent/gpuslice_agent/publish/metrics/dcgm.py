"""The names of NVIDIA's dcgm-exporter, with its labels and its units: MiB, percent, MHz, mJ.

Series of a GPU have no pod, unless the GPU is one pod's alone. Of a GPU that is shared, each
container has its own utilisation and memory beside them: sum over one kind or the other.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gpuslice_agent.entities import EntityKind, pci_address
from gpuslice_agent.model import Gpu, Reading, Share, Snapshot
from gpuslice_agent.publish.metrics.families import Family, Kind, labels

MIB = 1 << 20
MEGA = 1e6
Values = tuple[tuple[str, Kind, str, Callable[[Reading], float | None]], ...]
GAUGE, COUNTER = Kind.GAUGE, Kind.FOREIGN_COUNTER


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else round(value * factor, 6)


def _whole(value: float | None, factor: float) -> int | None:
    return None if value is None else round(value * factor)


OF_READING: Values = (
    ("SM_CLOCK", GAUGE, "SM clock (MHz).", lambda r: _whole(r.sm_clock_hertz, 1 / MEGA)),
    ("MEM_CLOCK", GAUGE, "Memory clock (MHz).", lambda r: _whole(r.memory_clock_hertz, 1 / MEGA)),
    ("GPU_TEMP", GAUGE, "Temperature (C).", lambda r: _whole(r.temperature_celsius, 1)),
    ("POWER_USAGE", GAUGE, "Power draw (W).", lambda r: r.power_watts),
    (
        "TOTAL_ENERGY_CONSUMPTION",
        COUNTER,
        "Energy since the driver was loaded (mJ).",
        lambda r: _whole(r.energy_joules, 1000),
    ),
    (
        "PCIE_REPLAY_COUNTER",
        COUNTER,
        "Retries on the PCIe bus.",
        lambda r: r.pcie_replays,
    ),
    (
        "MEM_COPY_UTIL",
        GAUGE,
        "Memory utilization (%).",
        lambda r: _whole(r.memory_utilization_ratio, 100),
    ),
)


@dataclass(slots=True)
class _Use:
    """What one container uses of one GPU."""

    busy_ratio: float = 0.0
    bytes: int = 0


def of_dcgm(snapshot: Snapshot, node: str) -> Iterable[Family]:
    cards = [(gpu, _card(snapshot, gpu, node)) for gpu in snapshot.gpus]
    for name, kind, text, value_of in OF_READING:
        yield Family(f"DCGM_FI_DEV_{name}", text, kind).add_each(
            (label + _only_pod(snapshot, gpu), value_of(gpu.reading)) for gpu, label in cards
        )
    yield _xids(snapshot, cards)
    yield from _used(snapshot, cards)


def _card(snapshot: Snapshot, gpu: Gpu, node: str) -> str:
    what = labels(
        gpu=gpu.index,
        UUID=gpu.uuid,
        pci_bus_id=gpu.pci_bus_id.upper(),
        device=f"nvidia{gpu.index}",
        modelName=gpu.name,
    )
    # dcgm-exporter renamed Hostname in 2026; dashboards ask for either.
    where = labels(Hostname=node, hostname=node, DCGM_FI_DRIVER_VERSION=snapshot.driver_version)
    return f"{what},{where}"


def _only_pod(snapshot: Snapshot, gpu: Gpu) -> str:
    held = (one for one in snapshot.shares if one.gpu_uuid == gpu.uuid)
    whole = next((one for one in held if _is_whole_gpu(one)), None)
    return _pod(whole) if whole else ""


def _is_whole_gpu(share: Share) -> bool:
    return share.limits.whole and share.limits.mig is None


def _pod(share: Share) -> str:
    owner = share.owner
    if not owner.pod:
        return ""
    pod = labels(namespace=owner.namespace, pod=owner.pod, container=owner.container)
    return f",{pod},{labels(pod_uid=owner.pod_uid)}"


def _xids(snapshot: Snapshot, cards: list[tuple[Gpu, str]]) -> Family:
    """The last code, as dcgm-exporter has it; 0: none since the node's memory of faults begins."""
    family = Family("DCGM_FI_DEV_XID_ERRORS", "The last Xid.")
    counts = [one for one in snapshot.health.counts if one.entity.kind is not EntityKind.NVSWITCH]
    for gpu, label in cards:
        of_gpu = [one for one in counts if one.entity.pci == pci_address(gpu.pci_bus_id)]
        last = max(of_gpu, key=lambda one: one.last_at, default=None)
        family.add(last.code if last else 0, label + _only_pod(snapshot, gpu))
    return family


def _used(snapshot: Snapshot, cards: list[tuple[Gpu, str]]) -> Iterable[Family]:
    utilization = Family("DCGM_FI_DEV_GPU_UTIL", "GPU utilization (%).")
    active = Family("DCGM_FI_PROF_GR_ENGINE_ACTIVE", "Part of the time that the GPU worked.")
    used = Family("DCGM_FI_DEV_FB_USED", "Memory used (MiB).")
    free = Family("DCGM_FI_DEV_FB_FREE", "Memory free (MiB).")
    for gpu, label in cards:
        reading, card = gpu.reading, label + _only_pod(snapshot, gpu)
        _add(reading, card, utilization, active, used)
        free.add((gpu.memory_bytes - reading.memory_used_bytes) // MIB, card)
        for pod, use in _by_container(snapshot, gpu).items():
            utilization.add(_whole(use.busy_ratio, 100), label + pod)
            active.add(_times(use.busy_ratio, 1), label + pod)
            used.add(use.bytes // MIB, label + pod)
    yield from (utilization, active, used, free)


def _add(reading: Reading, card: str, utilization: Family, active: Family, used: Family) -> None:
    utilization.add(_whole(reading.utilization_ratio, 100), card)
    active.add(reading.utilization_ratio, card)
    used.add(reading.memory_used_bytes // MIB, card)


def _by_container(snapshot: Snapshot, gpu: Gpu) -> dict[str, _Use]:
    """Shares of one container on one GPU are one series."""
    uses: dict[str, _Use] = {}
    for share in snapshot.shares:
        pod = _pod(share)
        if share.gpu_uuid == gpu.uuid and pod and not share.limits.whole:
            use = uses.setdefault(pod, _Use())
            use.busy_ratio += share.usage.busy_ratio
            use.bytes += share.usage.used_bytes
    return uses
