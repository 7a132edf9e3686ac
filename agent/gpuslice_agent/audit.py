"""Compares what NVML says about a GPU with what its shares say. Pure.

The files of a share are no wall against code that talks to /dev/nvidia* by itself; NVML is the
second opinion that sees it.
"""

from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from gpuslice_agent.cgroups import Place
from gpuslice_agent.model import Gpu, Process, Share, Snapshot, StrangerPolicy

# What a driver takes for itself within a context, and a shim can only settle afterwards (local
# memory of a kernel with a deep stack above all), is no breach.
TOLERANCE_BYTES = 512 << 20


class Breach(StrEnum):
    ROUND_THE_SHIM = "round-the-shim"  # by a pod that holds shares
    WITHOUT_A_SHARE = "without-a-share"
    BEYOND_THE_LIMIT = "beyond-the-limit"


@dataclass(frozen=True, slots=True)
class Finding:
    breach: Breach
    gpu_uuid: str
    process: Process
    share_id: str = ""


def strangers(
    gpu: Gpu,
    known: Container[tuple[str, int]],
    name_of: Callable[[int], str],
    place_of: Callable[[int], Place] = lambda pid: Place(),
) -> tuple[Process, ...]:
    """The processes on this GPU that hold no share of it. `known`: (UUID, pid) of those that do.

    A pid without a name is gone, or is counted in a pid namespace that is not ours.
    """
    return tuple(
        Process(
            pid=seen.pid,
            name=name,
            memory_bytes=seen.memory_bytes or 0,
            pod_uid=(place := place_of(seen.pid)).pod_uid,
            container_id=place.container_id,
        )
        for seen in gpu.reading.processes
        if (gpu.uuid, seen.pid) not in known and (name := name_of(seen.pid))
    )


def without_owners(
    found: Iterable[Process], gpu_uuid: str, shares: Iterable[Share]
) -> tuple[Process, ...]:
    """Who holds a GPU whole has no shim, and is no stranger on it.

    Where its pod is not known, nobody there is: nobody else could get a share of that GPU.
    """
    whole = {
        uid
        for share in shares
        if share.gpu_uuid == gpu_uuid and share.limits.whole
        for uid in share.owner.pods or ("",)
    }
    return () if "" in whole else tuple(one for one in found if one.pod_uid not in whole)


def with_excess(share: Share, gpu: Gpu) -> Share:
    """The share, with how far its processes hold more on the card than its limit."""
    pids = {process.pid for process in share.usage.processes}
    held = sum(seen.memory_bytes or 0 for seen in gpu.reading.processes if seen.pid in pids)
    over = max(0, held - share.limits.memory_bytes)
    return replace(share, usage=replace(share.usage, over_bytes=over))


def findings(snapshot: Snapshot, pods: Container[str]) -> tuple[Finding, ...]:
    """Every process that uses a GPU as it should not. `pods`: the UIDs of those with shares."""
    round_it = tuple(
        Finding(
            Breach.ROUND_THE_SHIM if process.pod_uid in pods else Breach.WITHOUT_A_SHARE,
            gpu.uuid,
            process,
        )
        for gpu in snapshot.gpus
        for process in gpu.strangers
    )
    beyond = tuple(
        Finding(
            Breach.BEYOND_THE_LIMIT,
            share.gpu_uuid,
            process,
            share.id,
        )
        for share in snapshot.shares
        if share.usage.over_bytes > TOLERANCE_BYTES
        for process in share.usage.processes
        if process.pid
    )
    return round_it + beyond


def is_to_stop(finding: Finding, policy: StrangerPolicy) -> bool:
    if policy is StrangerPolicy.STOP:
        return bool(finding.process.pod_uid) and finding.breach is not Breach.WITHOUT_A_SHARE
    return policy is StrangerPolicy.STOP_ALL
