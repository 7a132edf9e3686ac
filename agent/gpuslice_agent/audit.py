"""Compares what NVML says about a GPU with what its shares say. Pure.

The files of a share are no wall against code that talks to /dev/nvidia* by itself; NVML is the
second opinion that sees it.
"""

from collections.abc import Callable, Container
from dataclasses import replace

from gpuslice_agent.model import Gpu, Process, Share


def strangers(
    gpu: Gpu, known: Container[tuple[str, int]], name_of: Callable[[int], str]
) -> tuple[Process, ...]:
    """The processes on this GPU that hold no share of it. `known`: (UUID, pid) of those that do.

    A pid without a name is gone, or is counted in a pid namespace that is not ours.
    """
    return tuple(
        Process(pid=seen.pid, name=name, memory_bytes=seen.memory_bytes or 0)
        for seen in gpu.reading.processes
        if (gpu.uuid, seen.pid) not in known and (name := name_of(seen.pid))
    )


def with_excess(share: Share, gpu: Gpu) -> Share:
    """The share, with how far its processes hold more on the card than its limit."""
    pids = {process.pid for process in share.usage.processes}
    held = sum(seen.memory_bytes or 0 for seen in gpu.reading.processes if seen.pid in pids)
    over = max(0, held - share.limits.memory_bytes)
    return replace(share, usage=replace(share.usage, over_bytes=over))
