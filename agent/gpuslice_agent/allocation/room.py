"""Whether a share fits on a GPU beside those that are in use at the same time."""

from collections.abc import Sequence
from dataclasses import replace

from gpuslice_agent.allocation.request import Defaults, size
from gpuslice_agent.errors import AllocationError, RequestError
from gpuslice_agent.mig import MigPlace
from gpuslice_agent.model import (
    Gpu,
    HealthState,
    Limits,
    Owner,
    Placement,
    Share,
    Snapshot,
    promise,
)


def misfit(
    gpu: Gpu, wanted: Limits, owner: Owner, snapshot: Snapshot, defaults: Defaults
) -> str | None:
    """Why a share of this size has no place on the GPU, to follow its name."""
    if gpu.health.state is HealthState.UNHEALTHY:
        return f"is unhealthy ({gpu.health.reason})"
    here = [share for share in snapshot.shares if share.gpu_uuid == gpu.uuid]
    beside = [share for share in here if share.owner.meets(owner)]
    if wanted.mig is not None:
        return _misplaced(gpu, wanted.mig, here)
    if gpu.partitioned:
        return "is in MIG mode"
    if wanted.memory_bytes > gpu.memory_bytes:
        return f"has {size(gpu.memory_bytes)} in all"
    if any(share.limits.mig for share in here):
        return "is cut into MIG partitions"
    if any(share.limits.whole for share in beside):
        return "is held whole"
    if wanted.whole and beside:
        return f"is held by {len(beside)} {'share' if len(beside) == 1 else 'shares'}"
    missing = _missing(gpu, wanted, owner, here, beside, defaults)
    return f"has only {' and '.join(missing)} free" if missing else None


def check_room(placements: Sequence[Placement], snapshot: Snapshot, defaults: Defaults) -> None:
    """AllocationError where one of them does not fit beside what there is and those before it."""
    for place in placements:
        gpu = snapshot.gpu(place.gpu_uuid)
        if gpu is None:
            raise AllocationError(f"The GPU {place.gpu_uuid} is not to be seen.")
        if reason := misfit(gpu, place.limits, place.owner, snapshot, defaults):
            raise refusal(gpu, place.limits, reason)
        share = _share(gpu, place.limits, place.owner)
        snapshot = replace(snapshot, shares=(*snapshot.shares, share))


def refusal(gpu: Gpu, wanted: Limits, reason: str) -> AllocationError:
    if wanted.mig is not None:
        asked = f"the MIG partition {wanted.mig.profile} at slice {wanted.mig.start}"
        return AllocationError(f"GPU {gpu.index} {reason}: {asked} was asked.")
    never = wanted.memory_bytes > gpu.memory_bytes
    asked = f"{wanted.cores} % of the time and {size(wanted.memory_bytes)}"
    kind = RequestError if never else AllocationError
    return kind(f"GPU {gpu.index} {reason}: {asked} was asked.")


def _misplaced(gpu: Gpu, place: MigPlace, here: Sequence[Share]) -> str | None:
    """Why a partition cannot be there. Shares of one pod that never meet are no exception: the mode
    of the GPU would have to change between them.
    """
    if not any(place in profile.places for profile in gpu.mig_profiles):
        return f"cannot have the MIG partition {place.profile} at slice {place.start}"
    others = [share for share in here if share.limits.mig is None]
    if others:
        return f"is held by {len(others)} {'share' if len(others) == 1 else 'shares'}"
    taken = [share.limits.mig for share in here if share.limits.mig is not None]
    taken += [device.place for device in gpu.foreign_partitions]
    for other in taken:
        if place.overlaps(other):
            return f"has the MIG partition {other.profile} at slice {other.start}"
    return None


def _missing(
    gpu: Gpu,
    wanted: Limits,
    owner: Owner,
    here: Sequence[Share],
    beside: Sequence[Share],
    defaults: Defaults,
) -> list[str]:
    after, now = promise([*here, _share(gpu, wanted, owner)]), promise(beside)
    most_bytes = int(gpu.memory_bytes * defaults.overcommit_ratio)
    missing: list[str] = []
    # Shares of no cores take none from anybody, however many were promised before.
    if after.cores > 100 and wanted.cores:
        missing.append(f"{max(0, 100 - now.cores)} % of its time")
    if after.memory_bytes > most_bytes:
        missing.append(f"{size(max(0, most_bytes - now.memory_bytes))} of its memory")
    return missing


def _share(gpu: Gpu, limits: Limits, owner: Owner) -> Share:
    return Share("", gpu.uuid, limits, owner, created_at=0.0)
