"""The node and its GPUs as metrics, in base units."""

from collections.abc import Callable, Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from gpuslice_agent.model import Gpu, HealthState, Promise, ShareState, Snapshot
from gpuslice_agent.publish.metrics.families import Family, Kind, labels

# Of each GPU, the largest: a shell loop on the host must not become a thousand series.
STRANGERS_SHOWN = 20

Values = tuple[tuple[str, str, Callable[[Gpu, Promise], float | None]], ...]

OF_GPU: Values = (
    ("gpuslice_gpu_memory_bytes", "Memory that programs can use.", lambda g, _: g.memory_bytes),
    (
        "gpuslice_gpu_memory_used_bytes",
        "Memory in use, by NVML.",
        lambda g, _: g.reading.memory_used_bytes,
    ),
    (
        "gpuslice_gpu_memory_promised_bytes",
        "Memory promised to shares.",
        lambda _, promised: promised.memory_bytes,
    ),
    (
        "gpuslice_gpu_cores_promised_ratio",
        "Part of the GPU's time promised to shares.",
        lambda _, promised: promised.cores / 100,
    ),
    (
        "gpuslice_gpu_utilization_ratio",
        "Part of the last sample period in which a kernel ran, by NVML.",
        lambda g, _: g.reading.utilization_ratio,
    ),
    (
        "gpuslice_gpu_temperature_celsius",
        "Temperature of the GPU.",
        lambda g, _: g.reading.temperature_celsius,
    ),
    ("gpuslice_gpu_power_watts", "Power drawn by the card.", lambda g, _: g.reading.power_watts),
    (
        "gpuslice_gpu_memory_utilization_ratio",
        "Part of the last sample period in which memory was read or written, by NVML.",
        lambda g, _: g.reading.memory_utilization_ratio,
    ),
    ("gpuslice_gpu_sm_clock_hertz", "Clock of the SMs.", lambda g, _: g.reading.sm_clock_hertz),
    (
        "gpuslice_gpu_memory_clock_hertz",
        "Clock of the memory.",
        lambda g, _: g.reading.memory_clock_hertz,
    ),
    (
        "gpuslice_gpu_processes",
        "Processes on the GPU, by NVML.",
        lambda g, _: len(g.reading.processes),
    ),
    (
        "gpuslice_gpu_healthy",
        "1 where the GPU is healthy, 0 where it is not or nothing is known.",
        lambda g, _: int(g.health.state is HealthState.HEALTHY),
    ),
    (
        "gpuslice_gpu_stranger_processes",
        "Processes on the GPU that hold no share.",
        lambda g, _: len(g.strangers),
    ),
    (
        "gpuslice_gpu_stranger_memory_bytes",
        "Memory of the processes that hold no share.",
        lambda g, _: sum(process.memory_bytes for process in g.strangers),
    ),
)


COUNTED: Values = (
    (
        "gpuslice_gpu_energy_joules",
        "Energy drawn since the driver was loaded.",
        lambda g, _: g.reading.energy_joules,
    ),
    (
        "gpuslice_gpu_pcie_replays",
        "Retries on the PCIe bus since the driver was loaded.",
        lambda g, _: g.reading.pcie_replays,
    ),
)


def of_node(snapshot: Snapshot) -> Iterable[Family]:
    yield Family("gpuslice_build", "This agent.", Kind.INFO).add_each(
        ((labels(version=_version()), 1),)
    )
    yield Family("gpuslice_enforcement", "Which walls stand.", Kind.INFO).add_each(
        ((labels(walls=snapshot.enforcement), 1),)
    )
    # Not an age: that would be right only at the moment of the scrape.
    yield Family("gpuslice_snapshot_timestamp_seconds", "When the values here were read.").add_each(
        (("", snapshot.taken_at),)
    )
    yield Family(
        "gpuslice_strangers_stopped",
        "Processes that the agent stopped because they went round their share, or had none.",
        Kind.COUNTER,
    ).add_each((("", snapshot.strangers_stopped),))


def of_gpus(snapshot: Snapshot) -> Iterable[Family]:
    promised = {gpu.uuid: snapshot.promised(gpu.uuid) for gpu in snapshot.gpus}
    for values, kind in ((OF_GPU, Kind.GAUGE), (COUNTED, Kind.COUNTER)):
        for name, text, value_of in values:
            yield Family(name, text, kind).add_each(
                (labels(uuid=gpu.uuid), value_of(gpu, promised[gpu.uuid])) for gpu in snapshot.gpus
            )
    yield _shares_by_state(snapshot)
    yield _strangers(snapshot)
    yield _info(snapshot)


def _shares_by_state(snapshot: Snapshot) -> Family:
    family = Family("gpuslice_gpu_shares", "Shares of the GPU, by their state.")
    for gpu in snapshot.gpus:
        states = [share.state for share in snapshot.shares if share.gpu_uuid == gpu.uuid]
        for state in ShareState:
            family.add(states.count(state), labels(uuid=gpu.uuid, state=state.value))
    return family


def _strangers(snapshot: Snapshot) -> Family:
    family = Family(
        "gpuslice_stranger_memory_bytes",
        "Memory of a process that holds no share of the GPU, and the pod and container it is in.",
    )
    for gpu in snapshot.gpus:
        largest = sorted(gpu.strangers, key=lambda one: (-one.memory_bytes, one.pid))
        for one in largest[:STRANGERS_SHOWN]:
            place = labels(pod_uid=one.pod_uid, container_id=one.container_id)
            who = labels(uuid=gpu.uuid, pid=one.pid, process=one.name)
            family.add(one.memory_bytes, f"{who},{place}")
    return family


def _info(snapshot: Snapshot) -> Family:
    """Names apart from values: they join on the UUID, and 20 series do not carry them each."""
    family = Family("gpuslice_gpu", "What does not change.", Kind.INFO)
    for gpu in snapshot.gpus:
        what = labels(uuid=gpu.uuid, index=gpu.index, name=gpu.name, pci_bus_id=gpu.pci_bus_id)
        driver = labels(driver_version=snapshot.driver_version, cuda_version=snapshot.cuda_version)
        family.add(1, f"{what},{driver},{labels(path=gpu.path.value)}")
    return family


@cache
def _version() -> str:
    try:
        return version("gpuslice")
    except PackageNotFoundError:
        return "unknown"
