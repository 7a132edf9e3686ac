"""Finds a place for everything that a pod asks for: pure, from values to places, or a sentence.

The whole pod is placed at once, all or none. What is in use at other moments of the pod than a
share does not stand in its way.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from gpuslice_agent.allocation import ORDER, Defaults
from gpuslice_agent.allocation import misfit as has_no_room
from gpuslice_agent.errors import AllocationError, RequestError
from gpuslice_agent.model import (
    Gpu,
    GpuPath,
    HealthState,
    Owner,
    OwnerKind,
    Placement,
    Share,
    Snapshot,
)
from gpuslice_plugin.device_plugin.wants import Want
from gpuslice_plugin.pods import Pod

# Each looks at every GPU once. Where so many found nothing it is crowded enough to wait.
MOST_STEPS = 400


@dataclass(frozen=True, slots=True)
class Rules:
    """What the configuration says about placing."""

    defaults: Defaults
    slots_per_gpu: int


def plan(
    pod: Pod, wants: Sequence[Want], snapshot: Snapshot, rules: Rules
) -> tuple[Placement, ...]:
    """Places in the order of `wants`, and within each in the order of the GPUs.

    RequestError: never on this node; AllocationError: not now. Both say what there is instead.
    """
    gpus = tuple(gpu for gpu in snapshot.gpus if gpu.path is GpuPath.PLUGIN)
    if not gpus:
        raise AllocationError(snapshot.problem or "This node has no GPU for the device plugin.")
    ours = replace(snapshot, gpus=gpus)
    hardest_first = sorted(wants, key=lambda want: want.hardness, reverse=True)
    found = _Search(pod, rules).place(hardest_first, ours)
    if found is None:
        raise _refusal(pod, hardest_first, ours, rules)
    position = {want.container: number for number, want in enumerate(wants)}
    return tuple(sorted(found, key=lambda place: position[place.owner.container]))


class _Search:
    """Depth first; what the placement prefers comes before the rest."""

    def __init__(self, pod: Pod, rules: Rules) -> None:
        self._pod = pod
        self._rules = rules
        self._steps = 0

    def place(self, wants: Sequence[Want], snapshot: Snapshot) -> tuple[Placement, ...] | None:
        if not wants:
            return ()
        first, *rest = wants
        for gpus in self._choices(first, snapshot):
            if self._steps == MOST_STEPS:
                return None
            self._steps += 1
            places = self._places(first, gpus)
            others = self.place(rest, with_places(snapshot, places))
            if others is not None:
                return (*places, *others)
        return None

    def misfit(self, gpu: Gpu, want: Want, snapshot: Snapshot) -> str | None:
        """Why the GPU cannot take one share of the container, to follow its name."""
        if want.homes and gpu.numa_node not in want.homes:
            nodes = ", ".join(map(str, sorted(want.homes)))
            return f"is on NUMA node {gpu.numa_node}, and the kubelet chose {nodes}"
        (place,) = self._places(want, [gpu])
        beside = [
            share
            for share in snapshot.shares
            if share.gpu_uuid == gpu.uuid and share.owner.meets(place.owner)
        ]
        return (
            want.wishes.choice.misfit(gpu)
            or has_no_room(gpu, place.limits, place.owner, snapshot, self._rules.defaults)
            or ("has no slot free" if len(beside) >= self._rules.slots_per_gpu else None)
        )

    def _choices(self, want: Want, snapshot: Snapshot) -> Iterator[Sequence[Gpu]]:
        """Groups of as many GPUs as asked for, the best first."""
        fitting = [gpu for gpu in snapshot.gpus if self.misfit(gpu, want, snapshot) is None]
        # A place that the pod holds anyway, at another moment, costs nobody anything.
        held = [gpu for gpu in fitting if self._costs_nothing(gpu, want, snapshot)]
        order = ORDER[want.wishes.placement or self._rules.defaults.placement]
        for gpus in filter(None, (held, fitting)):
            for near in _by_numa_node(gpus) if want.wishes.one_numa_node else [gpus]:
                if len(near) >= want.ask.count:
                    yield order(near, snapshot, want.ask.count)
                    yield from combinations(order(near, snapshot, len(near)), want.ask.count)

    def _costs_nothing(self, gpu: Gpu, want: Want, snapshot: Snapshot) -> bool:
        now = snapshot.promised(gpu.uuid)
        after = with_places(snapshot, self._places(want, [gpu])).promised(gpu.uuid)
        return now == after

    def _places(self, want: Want, gpus: Sequence[Gpu]) -> tuple[Placement, ...]:
        in_order = sorted(gpus, key=lambda gpu: gpu.index)
        return tuple(
            Placement(
                gpu.uuid,
                want.limits_on(gpu, self._rules.defaults),
                _owner(self._pod, want, number),
            )
            for number, gpu in enumerate(in_order)
        )


def with_places(snapshot: Snapshot, places: Sequence[Placement]) -> Snapshot:
    """As it will be once they are taken."""
    shares = (Share("", one.gpu_uuid, one.limits, one.owner, created_at=0.0) for one in places)
    return replace(snapshot, shares=(*snapshot.shares, *shares))


def _owner(pod: Pod, want: Want, number: int) -> Owner:
    return Owner(
        name=f"{pod.key} {want.container}",
        kind=OwnerKind.CONTAINER,
        key=f"pod/{pod.uid}/{want.container}/{number}",
        namespace=pod.namespace,
        pod=pod.name,
        pod_uid=pod.uid,
        container=want.container,
        moments=want.moments,
        cdi_devices=want.cdi_devices,
    )


def _by_numa_node(gpus: Sequence[Gpu]) -> list[list[Gpu]]:
    nodes = dict.fromkeys(gpu.numa_node for gpu in gpus)
    return [[gpu for gpu in gpus if gpu.numa_node == node] for node in nodes]


def _refusal(pod: Pod, wants: Sequence[Want], snapshot: Snapshot, rules: Rules) -> AllocationError:
    """Of the first container that finds no place after those before it."""
    want, now = _first_without(pod, wants, snapshot, rules)
    reasons: dict[str, list[int]] = {}
    for gpu in now.gpus:
        reason = _Search(pod, rules).misfit(gpu, want, now) or "has room for one of them"
        reasons.setdefault(reason, []).append(gpu.index)
    there = "; ".join(f"{_named(indices)} {reason}" for reason, indices in reasons.items())
    whose = f"container {want.container}, which asks for {want.ask}"
    well = tuple(replace(g, health=replace(g.health, state=HealthState.HEALTHY)) for g in now.gpus)
    if _Search(pod, rules).place(wants, replace(now, gpus=well, shares=())) is None:
        return RequestError(f"This node can never take {whose}: {there}.")
    return AllocationError(f"There is no room now for {whose}: {there}.")


def _first_without(
    pod: Pod, wants: Sequence[Want], snapshot: Snapshot, rules: Rules
) -> tuple[Want, Snapshot]:
    for want in wants[:-1]:
        places = _Search(pod, rules).place([want], snapshot)
        if places is None:
            return want, snapshot
        snapshot = with_places(snapshot, places)
    return wants[-1], snapshot


def _named(indices: Sequence[int]) -> str:
    return f"{'GPU' if len(indices) == 1 else 'each of GPUs'} {', '.join(map(str, indices))}"
