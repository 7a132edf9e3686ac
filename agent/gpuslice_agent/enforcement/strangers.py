"""Programs that use a GPU without a share or more than theirs: said once, stopped by policy."""

import logging
import os
import signal
from collections import Counter
from collections.abc import Callable, Container
from dataclasses import replace
from pathlib import Path

from gpuslice_agent import cgroups
from gpuslice_agent.audit import Breach, Finding, findings, is_to_stop
from gpuslice_agent.cgroups import Place
from gpuslice_agent.model import Snapshot, StrangerPolicy

log = logging.getLogger(__name__)

# A program that ends, begins or grows while it is looked at deserves a second look.
LOOKS = 2

# GPU, pid and start time, so that a reused pid is somebody else.
Identity = tuple[Breach, str, int, int]
Listener = Callable[[Finding, bool], None]


class Strangers:
    def __init__(self, policy: StrangerPolicy, proc: Path = Path("/proc")) -> None:
        self._policy = policy
        self._proc = proc
        self._seen: Counter[Identity] = Counter()
        self._listeners: list[Listener] = []
        self.stopped = 0

    def listen(self, listener: Listener) -> None:
        """Called once for each program found, with whether it was stopped. It must not wait."""
        self._listeners.append(listener)

    def judge(self, snapshot: Snapshot, pods: Container[str]) -> None:
        """`pods`: the UIDs of those that hold shares. To be called once for each look at GPUs."""
        seen: Counter[Identity] = Counter()
        for finding in findings(snapshot, pods):
            pid = finding.process.pid
            stat = self._stat(pid)
            if stat is None or os.getpid() in (pid, stat[0]):
                continue  # gone, or a child of ours that measures something
            identity = (finding.breach, finding.gpu_uuid, pid, stat[1])
            seen[identity] = self._seen[identity] + 1
            if seen[identity] == LOOKS:
                self._act(self._placed(finding), stat[1])
        self._seen = seen

    def _placed(self, finding: Finding) -> Finding:
        """With pod and container of the process, which its slot in a share does not tell."""
        process, place = finding.process, self._place(finding.process.pid)
        if process.pod_uid:
            return finding
        placed = replace(process, pod_uid=place.pod_uid, container_id=place.container_id)
        return replace(finding, process=placed)

    def _act(self, finding: Finding, start_time: int) -> None:
        stopped = is_to_stop(finding, self._policy) and self._stop(finding, start_time)
        self.stopped += stopped
        process = finding.process
        log.warning(
            "GPU used %s uuid=%s pid=%d name=%s memory_bytes=%d pod_uid=%s container=%s stopped=%s",
            finding.breach,
            finding.gpu_uuid,
            process.pid,
            process.name,
            process.memory_bytes,
            process.pod_uid or "none",
            process.container_id or "none",
            stopped,
        )
        for listener in self._listeners:
            listener(finding, stopped)

    def _stop(self, finding: Finding, start_time: int) -> bool:
        """Kills it if it is, with its pidfd open, still who it was and where it was."""
        pid = finding.process.pid
        try:
            process = os.pidfd_open(pid)
        except OSError:
            return False
        try:
            stat, place = self._stat(pid), self._place(pid)
            if stat is None or stat[1] != start_time or place.pod_uid != finding.process.pod_uid:
                return False
            signal.pidfd_send_signal(process, signal.SIGKILL)
        except OSError as error:
            log.error("stranger not stopped pid=%d reason=%s", pid, error.strerror)
            return False
        finally:
            os.close(process)
        return True

    def _place(self, pid: int) -> Place:
        try:
            return cgroups.place((self._proc / str(pid) / "cgroup").read_text())
        except OSError:
            return Place()

    def _stat(self, pid: int) -> tuple[int, int] | None:
        """Its parent and its start time; None: it is gone."""
        try:
            stat = (self._proc / str(pid) / "stat").read_text(errors="replace")
        except OSError:
            return None
        # The name in parentheses may hold anything; the parent is the fourth field.
        fields = stat.rpartition(")")[2].split()
        return int(fields[1]), int(fields[19])
