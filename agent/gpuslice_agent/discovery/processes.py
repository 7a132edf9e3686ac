"""Processes: their names, and the pods they are in."""

from pathlib import Path

import psutil

from gpuslice_agent import cgroups
from gpuslice_agent.cgroups import Place


def process_name(pid: int) -> str:
    """Empty for a process that is gone or hidden from us."""
    if pid <= 0:
        return ""
    try:
        return psutil.Process(pid).name()
    except psutil.Error:
        return ""


def process_place(pid: int, proc: Path = Path("/proc")) -> Place:
    """The pod and container of a process; neither for one that is gone or hidden from us."""
    try:
        return cgroups.place((proc / str(pid) / "cgroup").read_text())
    except OSError:
        return Place()
