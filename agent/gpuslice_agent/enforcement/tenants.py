"""Translates the pids that tenants write, which are those of their own pid namespaces."""

import os
from pathlib import Path

from gpuslice_agent.enforcement.library import Slot

MOST_KNOWN = 4096  # processes, most of them long dead by then

Key = tuple[int, int, int]


class Tenants:
    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._own_namespace = os.stat(proc / "self/ns/pid").st_ino
        self._known: dict[Key, int] = {}

    def pid_of(self, slot: Slot) -> int:
        """The pid as we see it; 0 for a process that is hidden from us."""
        if slot.pid_namespace == self._own_namespace or slot.pid == 0:
            return slot.pid
        key = (slot.pid_namespace, slot.pid, slot.start_time)
        if key not in self._known:
            if len(self._known) == MOST_KNOWN:
                self._known.clear()
            # Both a hit and a miss last: a pid keeps its meaning while its process lives.
            self._known[key] = self._find(slot.pid_namespace, slot.pid)
        return self._known[key]

    def _find(self, namespace: int, pid: int) -> int:
        for name in filter(str.isdecimal, os.listdir(self._proc)):
            try:
                if os.stat(self._proc / name / "ns/pid").st_ino != namespace:
                    continue
                status = (self._proc / name / "status").read_text()
            except OSError:
                continue  # gone meanwhile, or another user's
            # NSpid: the pid in our namespace, then in each one below, the process's own last.
            pids = next((line for line in status.splitlines() if line.startswith("NSpid:")), "")
            if pids.split()[-1:] == [str(pid)]:
                return int(name)
        return 0
