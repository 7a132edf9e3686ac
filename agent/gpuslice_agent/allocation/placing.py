"""Chooses GPUs for a request: those it names, or those the placement prefers among what fits."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from gpuslice_agent.allocation.request import Defaults, check, limits_on, named_gpus
from gpuslice_agent.allocation.room import misfit, refusal
from gpuslice_agent.errors import AllocationError, RequestError
from gpuslice_agent.model import (
    Allocation,
    Gpu,
    Limits,
    Order,
    Share,
    ShareRequest,
    Snapshot,
)

FARTHEST = 100  # beyond NVML's topology levels: nothing is known about the way between two GPUs


def allocate(
    request: ShareRequest, snapshot: Snapshot, defaults: Defaults
) -> tuple[Allocation, ...]:
    """One place on each GPU asked for, all or none.

    RequestError: never; AllocationError: not now.
    """
    check(request)
    if not snapshot.gpus:
        raise AllocationError(snapshot.problem or "This node has no GPU.")
    if request.gpus:
        chosen: Sequence[Gpu] = named_gpus(request, snapshot)
        for gpu in chosen:
            wanted = limits_on(gpu, request, defaults)
            if reason := misfit(gpu, wanted, request.owner, snapshot, defaults):
                raise refusal(gpu, wanted, reason)
    else:
        chosen = _placed(request, snapshot, defaults)
    return tuple(Allocation(gpu.uuid, limits_on(gpu, request, defaults)) for gpu in chosen)


def resize(
    share: Share,
    cores: int | None,
    memory_bytes: int | None,
    snapshot: Snapshot,
    defaults: Defaults,
) -> Limits:
    """The new limits of a share, with what it has where None."""
    wanted = replace(
        share.limits,
        cores=share.limits.cores if cores is None else cores,
        memory_bytes=share.limits.memory_bytes if memory_bytes is None else memory_bytes,
    )
    if wanted.whole:
        raise RequestError(f"Share {share.id} is a whole GPU: it cannot be resized.")
    check(ShareRequest(wanted.cores, wanted.memory_bytes, weight=wanted.weight))
    gpu = snapshot.gpu(share.gpu_uuid)
    if gpu is None:
        raise AllocationError(f"The GPU {share.gpu_uuid} of share {share.id} is not to be seen.")
    others = replace(snapshot, shares=tuple(one for one in snapshot.shares if one.id != share.id))
    if reason := misfit(gpu, wanted, share.owner, others, defaults):
        raise refusal(gpu, wanted, reason)
    return wanted


def _placed(request: ShareRequest, snapshot: Snapshot, defaults: Defaults) -> Sequence[Gpu]:
    reasons: list[str] = []
    fitting: list[Gpu] = []
    for gpu in snapshot.gpus:
        wanted = limits_on(gpu, request, defaults)
        reason = misfit(gpu, wanted, request.owner, snapshot, defaults)
        if reason is None:
            fitting.append(gpu)
        else:
            reasons.append(f"GPU {gpu.index} {reason}")
    if len(fitting) < request.count:
        smallest_need = min(limits_on(gpu, request, defaults).memory_bytes for gpu in snapshot.gpus)
        kind = AllocationError
        if request.count > len(snapshot.gpus) or all(
            smallest_need > gpu.memory_bytes for gpu in snapshot.gpus
        ):
            kind = RequestError
        asked = "a share" if request.count == 1 else f"{request.count} shares"
        raise kind(f"There is no room for {asked} like that: {'; '.join(reasons)}.")
    placement = request.placement or defaults.placement
    return ORDER[placement](fitting, snapshot, request.count)


def _filling(gpu: Gpu, snapshot: Snapshot) -> float:
    promised = snapshot.promised(gpu.uuid)
    return promised.cores / 100 + promised.memory_bytes / gpu.memory_bytes


def _fullest(fitting: Sequence[Gpu], snapshot: Snapshot, count: int) -> Sequence[Gpu]:
    return sorted(fitting, key=lambda gpu: (-_filling(gpu, snapshot), gpu.index))[:count]


def _emptiest(fitting: Sequence[Gpu], snapshot: Snapshot, count: int) -> Sequence[Gpu]:
    return sorted(fitting, key=lambda gpu: (_filling(gpu, snapshot), gpu.index))[:count]


def _nearest(fitting: Sequence[Gpu], snapshot: Snapshot, count: int) -> Sequence[Gpu]:
    """GPUs near each other, grown from each in turn; among equals those in use already.

    A GPU with few empty ones near it goes first, so that the large empty groups stay whole.
    """
    empty = {gpu.uuid for gpu in snapshot.gpus if not snapshot.promised(gpu.uuid).memory_bytes}

    def breaks(gpu: Gpu) -> int:
        nearest = min((_distance(gpu, other) for other in snapshot.gpus if other != gpu), default=0)
        near = [other for other in snapshot.gpus if _distance(gpu, other) <= nearest]
        return sum(other.uuid in empty for other in near)

    def cost(group: Sequence[Gpu]) -> tuple[int, int, int]:
        apart = sum(_distance(one, other) for one in group for other in group)
        return apart, sum(breaks(gpu) for gpu in group if gpu.uuid in empty), group[0].index

    def grown(first: Gpu) -> Sequence[Gpu]:
        group = [first]
        while len(group) < count:
            rest = [gpu for gpu in fitting if gpu not in group]
            group.append(min(rest, key=lambda gpu: cost([*group, gpu])))
        return group

    return min((grown(gpu) for gpu in fitting), key=cost)


def _distance(one: Gpu, other: Gpu) -> int:
    return 0 if one.uuid == other.uuid else dict(one.distances).get(other.uuid, FARTHEST)


ORDER: dict[Order, Callable[[Sequence[Gpu], Snapshot, int], Sequence[Gpu]]] = {
    Order.BINPACK: _fullest,
    Order.SPREAD: _emptiest,
    Order.TOPOLOGY: _nearest,
}
