"""The node's health as metrics: states, what to do, Xids, and whether faults are heard of.

An Xid is a counter with the time of the last, not a gauge of the last code: that never goes back.
"""

from collections.abc import Iterable

from gpuslice_agent.entities import Entity, EntityHealth, EntityState, gpu_entity, pci_address
from gpuslice_agent.model import Snapshot
from gpuslice_agent.publish.metrics.families import Family, Kind, labels


def of_health(snapshot: Snapshot) -> Iterable[Family]:
    yield from _states(_entities(snapshot))
    yield from _xids(snapshot)
    yield Family("gpuslice_fault_source_up", "1 where a source of faults is read.").add_each(
        (labels(source=name), int(not why)) for name, why in snapshot.health.sources
    )
    yield Family(
        "gpuslice_kernel_log_gaps",
        "Times that the kernel's log ran over before it was read.",
        Kind.COUNTER,
    ).add_each((("", snapshot.health.kernel_log_gaps),))


def _entities(snapshot: Snapshot) -> tuple[EntityHealth, ...]:
    """Every GPU, and whatever else ever had a fault."""
    known = {one.entity: one for one in snapshot.health.entities}
    for gpu in snapshot.gpus:
        entity = gpu_entity(pci_address(gpu.pci_bus_id))
        known.setdefault(entity, EntityHealth(entity, gpu.uuid))
    return tuple(known.values())


def _states(entities: Iterable[EntityHealth]) -> Iterable[Family]:
    state = Family("gpuslice_health_state", "1 for the state that it is in.")
    action = Family("gpuslice_health_action", "What has to be done about it.", Kind.INFO)
    for one in entities:
        what = _labels(one.entity, one.uuid)
        for each in EntityState:
            state.add(int(one.state is each), f"{what},{labels(state=each.value)}")
        action.add(1, f"{what},{labels(action=one.action.value)}")
    yield state
    yield action


def _xids(snapshot: Snapshot) -> Iterable[Family]:
    errors = Family(
        "gpuslice_xid_errors",
        "Faults by Xid, or by SXid of an NVSwitch; the most that any source told.",
        Kind.COUNTER,
    )
    last = Family("gpuslice_xid_last_timestamp_seconds", "When it was last.")
    for count in snapshot.health.counts:
        what = f"{_labels(count.entity, count.uuid)},{labels(xid=count.code)}"
        errors.add(count.count, what)
        last.add(count.last_at, what)
    yield errors
    yield last


def _labels(entity: Entity, uuid: str) -> str:
    gi, ci = ("" if number is None else number for number in (entity.gi, entity.ci))
    return labels(kind=entity.kind.value, uuid=uuid, pci=entity.pci, gi=gi, ci=ci)
