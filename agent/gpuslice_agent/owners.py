"""The processes whose end releases their shares."""

import os
import select
from dataclasses import replace
from pathlib import Path

from gpuslice_agent.errors import RequestError
from gpuslice_agent.model import Owner


class Owners:
    """Holds a pidfd of each owner: that stays with the process, whoever gets its pid next."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._processes: dict[str, int] = {}

    def identified(self, owner: Owner) -> Owner:
        """The owner with its start time."""
        if owner.pid == 0:
            return owner
        start_time = self._start_time(owner.pid)
        if start_time is None:
            raise RequestError(f"There is no process {owner.pid} to own a share.")
        return replace(owner, start_time=start_time)

    def hold(self, share_id: str, owner: Owner) -> None:
        """Follows the owner of a share; one that is gone already stays gone."""
        if owner.pid == 0:
            return
        process = _open(owner.pid)
        # Looked at after the pidfd is open: from here on the pid cannot change hands.
        if process is not None and self._start_time(owner.pid) != owner.start_time:
            os.close(process)
            process = None
        if process is not None:
            self._processes[share_id] = process

    def is_gone(self, share_id: str, owner: Owner) -> bool:
        if owner.pid == 0:
            return False
        process = self._processes.get(share_id)
        if process is None:
            return True
        poll = select.poll()
        poll.register(process, select.POLLIN)
        return bool(poll.poll(0))

    def let_go(self, share_id: str) -> None:
        process = self._processes.pop(share_id, None)
        if process is not None:
            os.close(process)

    def close(self) -> None:
        for share_id in tuple(self._processes):
            self.let_go(share_id)

    def _start_time(self, pid: int) -> int | None:
        """In clock ticks since boot; None: there is no such process."""
        try:
            stat = (self._proc / str(pid) / "stat").read_text(errors="replace")
        except OSError:
            return None
        # The name in parentheses may hold anything; the start is the 22nd field, the 20th after it.
        return int(stat.rpartition(")")[2].split()[19])


def boot_id(proc: Path = Path("/proc")) -> str:
    """Tells one boot from another: ids of processes mean nothing beyond it."""
    return (proc / "sys/kernel/random/boot_id").read_text().strip()


def _open(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None
