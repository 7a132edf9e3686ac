"""The resources that pods ask the device plugin for, and the devices that stand behind each."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from gpuslice_agent.model import Gpu, HealthState, Share, Snapshot
from gpuslice_plugin.device_plugin import ids
from gpuslice_plugin.device_plugin.checkpoint import Entry
from gpuslice_plugin.device_plugin.ids import DeviceId


@dataclass(frozen=True, slots=True)
class Resource:
    kind: str  # of its ids
    name: str
    per_gpu: int


@dataclass(frozen=True, slots=True)
class Device:
    id: str
    numa_node: int  # ids.NO_NUMA: none
    healthy: bool = True


def resources(prefix: str, slots_per_gpu: int) -> tuple[Resource, ...]:
    return Resource("slot", f"{prefix}/gpu", slots_per_gpu), Resource(
        "core", f"{prefix}/gpucores", 100
    )


def devices(counted: Sequence[DeviceId], sick: Iterable[str] = ()) -> tuple[Device, ...]:
    unhealthy = frozenset(sick)
    return tuple(Device(str(one), one.numa_node, str(one) not in unhealthy) for one in counted)


def sick_ids(
    resource: Resource,
    counted: Sequence[DeviceId],
    gpus: Sequence[Gpu],
    snapshot: Snapshot,
    entries: Iterable[Entry],
) -> frozenset[str]:
    """The ids that stand for sick GPUs: those bound to them, and of the free ones as many as they
    could have served, so that the scheduler counts what is left."""
    given = [entry for entry in entries if entry.resource == resource.name]
    on_gpu = _bound(given, snapshot.shares)
    taken = {one for entry in given for one in entry.ids}
    free = [one for one in counted if str(one) not in taken]
    sick: set[str] = set()
    for gpu in gpus:
        if not is_sick(gpu, snapshot):
            continue
        bound = on_gpu.get(gpu.uuid, set())
        near = [str(one) for one in free if one.numa_node == ids.home(gpu) and str(one) not in sick]
        # From the end: those that stay are the ones that were always there.
        unserved = max(0, resource.per_gpu - len(bound))
        sick |= bound | set(near[len(near) - min(unserved, len(near)) :])
    return frozenset(sick)


def is_sick(gpu: Gpu, snapshot: Snapshot) -> bool:
    """Unhealthy, or there once and not to be seen any more."""
    now = snapshot.gpu(gpu.uuid)
    return now is None or now.health.state is HealthState.UNHEALTHY


def _bound(given: Iterable[Entry], shares: Iterable[Share]) -> dict[str, set[str]]:
    """The ids by the UUID of the GPU that they stand for: a container's, in equal parts."""
    held: dict[tuple[str, str], list[Share]] = {}
    for share in shares:
        held.setdefault((share.owner.pod_uid, share.owner.container), []).append(share)
    found: dict[str, set[str]] = {}
    for entry in given:
        of_container = sorted(
            held.get((entry.pod_uid, entry.container), ()), key=lambda share: share.owner.key
        )
        for share, part in zip(of_container, _parts(entry.ids, len(of_container)), strict=True):
            found.setdefault(share.gpu_uuid, set()).update(part)
    return found


def _parts(whole: Iterable[str], count: int) -> list[list[str]]:
    ordered = sorted(whole)
    cuts = [len(ordered) * number // count for number in range(count + 1)] if count else [0]
    return [ordered[first:last] for first, last in pairwise(cuts)]
