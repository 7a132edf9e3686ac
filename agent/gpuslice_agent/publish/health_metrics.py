"""The node's health as metrics: states, what to do, Xids, and whether faults are heard of.

An Xid is a counter with the time of the last, not a gauge of the last code: that never goes back.
"""

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from gpuslice_agent.entities import Entity, EntityHealth, EntityState, gpu_entity, pci_address
from gpuslice_agent.model import Snapshot

LABELS = ("kind", "uuid", "pci", "gi", "ci")


def of_health(snapshot: Snapshot) -> Iterable[Metric]:
    yield from _states(_entities(snapshot))
    yield from _xids(snapshot)
    up = GaugeMetricFamily(
        "gpuslice_fault_source_up", "1 where a source of faults is read.", labels=("source",)
    )
    for name, why in snapshot.health.sources:
        up.add_metric((name,), float(not why))
    yield up
    yield CounterMetricFamily(
        "gpuslice_kernel_log_gaps",
        "Times that the kernel's log ran over before it was read.",
        snapshot.health.kernel_log_gaps,
    )


def _entities(snapshot: Snapshot) -> tuple[EntityHealth, ...]:
    """Every GPU, and whatever else ever had a fault."""
    known = {one.entity: one for one in snapshot.health.entities}
    for gpu in snapshot.gpus:
        entity = gpu_entity(pci_address(gpu.pci_bus_id))
        known.setdefault(entity, EntityHealth(entity, gpu.uuid))
    return tuple(known.values())


def _states(entities: Iterable[EntityHealth]) -> Iterable[Metric]:
    state = GaugeMetricFamily(
        "gpuslice_health_state", "1 for the state that it is in.", labels=(*LABELS, "state")
    )
    action = GaugeMetricFamily(
        "gpuslice_health_action_info", "What has to be done about it.", labels=(*LABELS, "action")
    )
    for one in entities:
        labels = _labels(one.entity, one.uuid)
        for each in EntityState:
            state.add_metric((*labels, each.value), float(one.state is each))
        action.add_metric((*labels, one.action.value), 1.0)
    yield state
    yield action


def _xids(snapshot: Snapshot) -> Iterable[Metric]:
    errors = CounterMetricFamily(
        "gpuslice_xid_errors",
        "Faults by Xid, or by SXid of an NVSwitch; the most that any source told.",
        labels=(*LABELS, "xid"),
    )
    last = GaugeMetricFamily(
        "gpuslice_xid_last_timestamp_seconds", "When it was last.", labels=(*LABELS, "xid")
    )
    for count in snapshot.health.counts:
        labels = (*_labels(count.entity, count.uuid), str(count.code))
        errors.add_metric(labels, count.count)
        last.add_metric(labels, count.last_at)
    yield errors
    yield last


def _labels(entity: Entity, uuid: str) -> tuple[str, ...]:
    gi, ci = ("" if number is None else str(number) for number in (entity.gi, entity.ci))
    return entity.kind.value, uuid, entity.pci, gi, ci
