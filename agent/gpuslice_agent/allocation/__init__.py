"""Finds a place for a request: pure, from a Snapshot to Allocations, or the reason why not."""

from gpuslice_agent.allocation.paths import check_paths, path_of
from gpuslice_agent.allocation.placing import ORDER, allocate, resize
from gpuslice_agent.allocation.request import Defaults, limits_on, size
from gpuslice_agent.allocation.room import check_room, misfit

__all__ = [
    "ORDER",
    "Defaults",
    "allocate",
    "check_paths",
    "check_room",
    "limits_on",
    "misfit",
    "path_of",
    "resize",
    "size",
]
