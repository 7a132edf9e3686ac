"""/metrics from the current Snapshot: NVML is never asked for a scrape."""

import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from gpuslice_agent.errors import PublishError
from gpuslice_agent.model import Gpu, HealthState, Share, ShareState, Snapshot
from gpuslice_agent.publish.health_metrics import of_health

NS = 1e-9
GPU_LABELS = ("uuid",)
# With the pod on each: what scales on metrics picks series by it, and cannot join.
SHARE_LABELS = ("share", "uuid", "namespace", "pod", "container")

Gauges = tuple[tuple[str, str, Callable[[Gpu, Snapshot], float | None]], ...]

OF_GPU: Gauges = (
    ("gpuslice_gpu_memory_bytes", "Memory that programs can use.", lambda g, _: g.memory_bytes),
    (
        "gpuslice_gpu_memory_used_bytes",
        "Memory in use, by NVML.",
        lambda g, _: g.reading.memory_used_bytes,
    ),
    (
        "gpuslice_gpu_memory_promised_bytes",
        "Memory promised to shares.",
        lambda g, s: s.promised(g.uuid).memory_bytes,
    ),
    (
        "gpuslice_gpu_cores_promised_ratio",
        "Part of the GPU's time promised to shares.",
        lambda g, s: s.promised(g.uuid).cores / 100,
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
        "gpuslice_gpu_healthy",
        "1 where the GPU is healthy, 0 where it is not or nothing is known.",
        lambda g, _: float(g.health.state is HealthState.HEALTHY),
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

SHARE_GAUGES: tuple[tuple[str, str, Callable[[Share], float]], ...] = (
    ("memory_limit_bytes", "Memory that the share may hold.", lambda s: s.limits.memory_bytes),
    ("memory_used_bytes", "Memory charged to the share.", lambda s: s.usage.used_bytes),
    (
        "memory_pinned_bytes",
        "Host memory that the share's processes have pinned; it counts towards no limit.",
        lambda s: sum(process.pinned_bytes for process in s.usage.processes),
    ),
    (
        "memory_over_bytes",
        "Memory on the card beyond the limit, by NVML.",
        lambda s: s.usage.over_bytes,
    ),
    (
        "cores_limit_ratio",
        "Part of the GPU's time promised to the share.",
        lambda s: s.limits.cores / 100,
    ),
    (
        "busy_ratio",
        "Part of the GPU's time used in the last interval.",
        lambda s: s.usage.busy_ratio,
    ),
    ("processes", "Processes that hold the share.", lambda s: len(s.usage.processes)),
)

SHARE_COUNTERS: tuple[tuple[str, str, Callable[[Share], float]], ...] = (
    ("busy_seconds", "GPU time that the share used.", lambda s: s.usage.busy_ns * NS),
    (
        "throttled_seconds",
        "Time that threads of the share were held back at a launch.",
        lambda s: s.usage.throttled_ns * NS,
    ),
)


class SnapshotCollector(Collector):
    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterable[Metric]:
        snapshot = self._snapshot()
        yield InfoMetricFamily("gpuslice_build", "This agent.", {"version": _version()})
        yield GaugeMetricFamily(
            "gpuslice_snapshot_age_seconds",
            "How old the values here are.",
            max(0.0, time.time() - snapshot.taken_at),
        )
        yield _gpu_info(snapshot)
        for name, text, value_of in OF_GPU:
            family = GaugeMetricFamily(name, text, labels=GPU_LABELS)
            for gpu in snapshot.gpus:
                value = value_of(gpu, snapshot)
                if value is not None:
                    family.add_metric((gpu.uuid,), value)
            yield family
        yield from _of_strangers(snapshot)
        yield from _of_shares(snapshot)
        yield from of_health(snapshot)


def _of_strangers(snapshot: Snapshot) -> Iterable[Metric]:
    memory = GaugeMetricFamily(
        "gpuslice_stranger_memory_bytes",
        "Memory of a process that holds no share of the GPU, and the pod and container it is in.",
        labels=("uuid", "pid", "process", "pod_uid", "container_id"),
    )
    for gpu in snapshot.gpus:
        for one in gpu.strangers:
            labels = (gpu.uuid, str(one.pid), one.name, one.pod_uid, one.container_id)
            memory.add_metric(labels, one.memory_bytes)
    yield memory
    yield CounterMetricFamily(
        "gpuslice_strangers_stopped",
        "Processes that the agent stopped because they went round their share, or had none.",
        snapshot.strangers_stopped,
    )
    yield InfoMetricFamily(
        "gpuslice_enforcement", "Which walls stand.", {"walls": snapshot.enforcement}
    )


def _of_shares(snapshot: Snapshot) -> Iterable[Metric]:
    for name, text, value_of in SHARE_GAUGES:
        gauge = GaugeMetricFamily(f"gpuslice_share_{name}", text, labels=SHARE_LABELS)
        for share in snapshot.shares:
            gauge.add_metric(_labels(share), value_of(share))
        yield gauge
    for name, text, value_of in SHARE_COUNTERS:
        counter = CounterMetricFamily(
            f"gpuslice_share_{name}",
            text,
            labels=SHARE_LABELS,
        )
        for share in snapshot.shares:
            counter.add_metric(_labels(share), value_of(share), share.created_at)
        yield counter
    state = GaugeMetricFamily(
        "gpuslice_share_state", "1 for the state the share is in.", labels=(*SHARE_LABELS, "state")
    )
    info = InfoMetricFamily("gpuslice_share", "What does not change.", labels=SHARE_LABELS)
    for share in snapshot.shares:
        for one in ShareState:
            state.add_metric((*_labels(share), one), float(share.state is one))
        info.add_metric(
            _labels(share),
            {
                "kind": share.owner.kind.value,
                "owner": share.owner.name,
                "claim": share.owner.claim,
                "whole": str(share.limits.whole).lower(),
                "policy": share.limits.policy.value,
                "priority": share.limits.priority.value,
            },
        )
    yield state
    yield info


def _labels(share: Share) -> tuple[str, ...]:
    owner = share.owner
    return share.id, share.gpu_uuid, owner.namespace, owner.pod, owner.container


def _gpu_info(snapshot: Snapshot) -> Metric:
    """Names apart from values: they join on the UUID, and 20 series do not carry them each."""
    family = InfoMetricFamily("gpuslice_gpu", "What does not change.", labels=GPU_LABELS)
    for gpu in snapshot.gpus:
        family.add_metric(
            (gpu.uuid,),
            {
                "index": str(gpu.index),
                "name": gpu.name,
                "pci_bus_id": gpu.pci_bus_id,
                "driver_version": snapshot.driver_version,
                "cuda_version": snapshot.cuda_version,
            },
        )
    return family


@contextmanager
def serve_metrics(
    address: str, snapshot: Callable[[], Snapshot], more: Iterable[Collector] = ()
) -> Generator[None]:
    """Serves /metrics in a thread of its own, which only ever reads one reference.

    `more` are collectors of others, safe to read from a thread.
    """
    if not address:
        yield
        return
    host, _, port = address.rpartition(":")
    registry = CollectorRegistry()
    for collector in (SnapshotCollector(snapshot), *more):
        registry.register(collector)
    try:
        server, thread = start_http_server(int(port), host.strip("[]"), registry)
    except (OSError, OverflowError) as error:
        raise PublishError(
            f"/metrics cannot be served on {address} ({error}): set another metrics_address, "
            "or an empty one for none."
        ) from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _version() -> str:
    try:
        return version("gpuslice")
    except PackageNotFoundError:
        return "unknown"
