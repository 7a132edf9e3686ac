"""Processes: their names, and the pods they are in."""

from pathlib import Path

import psutil

from gpuslice_agent import cgroups
from gpuslice_agent.cgroups import Place

LONGEST_COMM = 15  # the kernel keeps so many characters of a name (TASK_COMM_LEN)


def process_name(pid: int, proc: Path = Path("/proc")) -> str:
    """Empty for a process that is gone or hidden from us."""
    if pid <= 0:
        return ""
    try:
        name = (proc / str(pid) / "comm").read_text(errors="replace").rstrip("\n")
        # It costs ten times as much, so only where the rest of a name is missing.
        return psutil.Process(pid).name() if len(name) == LONGEST_COMM else name
    except (OSError, psutil.Error):
        return ""


def process_place(pid: int, proc: Path = Path("/proc")) -> Place:
    """The pod and container of a process; neither for one that is gone or hidden from us."""
    try:
        return cgroups.place((proc / str(pid) / "cgroup").read_text())
    except OSError:
        return Place()
