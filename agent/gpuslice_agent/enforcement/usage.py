"""Turns what a share's files say into Usage: rates over time, counters that only grow."""

from collections.abc import Callable
from dataclasses import dataclass, field

from gpuslice_agent.enforcement.library import Slot, SlotUsage
from gpuslice_agent.model import Pacing, Process, Usage

# Over less than this a ratio says more about the moment of looking than about the share.
LEAST_INTERVAL_NS = 500_000_000

SlotKey = tuple[int, int, int]  # index, pid, start time: one process


@dataclass(slots=True)
class Meter:
    """Follows one share from look to look."""

    looked_ns: int = 0
    busy_ns: int = 0
    busy_ratio: float = 0.0
    throttled_ns: int = 0
    throttled_before_ns: int = 0
    throttled: bool = False
    of_process: dict[SlotKey, int] = field(default_factory=dict[SlotKey, int])

    def read(
        self, seen: SlotUsage, now_ns: int, arbitrated: bool, process_of: Callable[[Slot], Process]
    ) -> Usage:
        self._count_throttled(seen)
        interval_ns = now_ns - self.looked_ns
        if self.looked_ns == 0:
            self._start(seen, now_ns)
        elif interval_ns >= LEAST_INTERVAL_NS:
            self.busy_ratio = min(1.0, max(0, seen.busy_ns - self.busy_ns) / interval_ns)
            self.throttled = self.throttled_ns > self.throttled_before_ns
            self._start(seen, now_ns)
        return Usage(
            used_bytes=seen.held_bytes,
            busy_ns=seen.busy_ns,
            busy_ratio=self.busy_ratio,
            throttled_ns=self.throttled_ns,
            throttled=self.throttled or any(slot.waiting for slot in seen.slots),
            pacing=_pacing(seen, arbitrated),
            processes=tuple(process_of(slot) for slot in seen.slots),
        )

    def _start(self, seen: SlotUsage, now_ns: int) -> None:
        self.looked_ns = now_ns
        self.busy_ns = seen.busy_ns
        self.throttled_before_ns = self.throttled_ns

    def _count_throttled(self, seen: SlotUsage) -> None:
        # A process takes its counter with it when it ends; the share's does not go down.
        now = {(slot.index, slot.pid, slot.start_time): slot.throttled_ns for slot in seen.slots}
        self.throttled_ns += sum(
            max(0, total - self.of_process.get(key, 0)) for key, total in now.items()
        )
        self.of_process = now


def _pacing(seen: SlotUsage, arbitrated: bool) -> Pacing:
    if not arbitrated:
        return Pacing.NONE
    # The arbiter's heartbeat rests while no process is there.
    return Pacing.LOCAL if seen.paces_itself and seen.slots else Pacing.ARBITER


def process(slot: Slot, pid: int, name: str) -> Process:
    return Process(
        pid=pid,
        tenant_pid=slot.pid,
        name=name,
        memory_bytes=slot.memory_bytes,
        context_bytes=slot.context_bytes,
        module_bytes=slot.module_bytes,
        data_bytes=slot.data_bytes,
        array_bytes=slot.array_bytes,
        managed_bytes=slot.managed_bytes,
        pinned_bytes=slot.pinned_bytes,
        swapped_bytes=slot.swapped_bytes,
        busy_ns=slot.busy_ns,
        throttled_ns=slot.throttled_ns,
        launches=slot.launches,
        last_activity_ns=slot.last_activity_ns,
        waiting=slot.waiting,
    )
