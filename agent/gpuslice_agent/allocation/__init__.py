"""Finds a place for a request: pure, from a Snapshot to Allocations, or the reason why not."""

from gpuslice_agent.allocation.placing import allocate, resize
from gpuslice_agent.allocation.request import Defaults

__all__ = ["Defaults", "allocate", "resize"]
