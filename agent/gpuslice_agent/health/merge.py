"""One fault told by several sources becomes one: joined on the GPU, the Xid and two seconds. Pure.

Each source has its own word for how often: the count is the maximum over the sources, never the
sum, because each telling of a source is joined with one of the other sources only.
"""

from collections import deque
from collections.abc import Set
from dataclasses import dataclass, replace

from gpuslice_agent.health.line import Line

NVML = "nvml"
OPERATIONAL = "nvml-operational"  # NVML too, but beside its other events: told twice
KERNEL_LOG = "kernel-log"
IN_WORDS = "kernel-log-words"  # the log says it once with its Xid and once more without
SOURCES = (NVML, OPERATIONAL, KERNEL_LOG, IN_WORDS)

WINDOW_SECONDS = 2.0
# NVML knows the instance and the kernel's log the process: each waits a moment for the other.
SETTLE_SECONDS = 0.25
# Of one GPU and code, waiting for the word of one source; a storm is told by its count.
WAITING_MAX = 20_000


@dataclass(frozen=True, slots=True)
class Sighting:
    """What one source said of one fault."""

    source: str
    at: float  # seconds since the epoch
    pci: str
    code: int
    gi: int | None = None
    ci: int | None = None
    line: Line | None = None  # as the kernel's log has it

    def agrees(self, other: "Sighting") -> bool:
        """An instance that is not named may be any."""
        return (
            abs(self.at - other.at) <= WINDOW_SECONDS
            and (self.gi is None or other.gi is None or self.gi == other.gi)
            and (self.ci is None or other.ci is None or self.ci == other.ci)
        )

    def joined(self, other: "Sighting") -> "Sighting":
        """NVML's instance, where it names one, and the line of the log."""
        placed = min(
            (one for one in (self, other) if one.gi is not None),
            key=lambda one: one.source != NVML,
            default=self,
        )
        return replace(
            self,
            at=min(self.at, other.at),
            gi=placed.gi,
            ci=placed.ci,
            line=self.line or other.line,
        )


@dataclass(slots=True)
class _Fault:
    sighting: Sighting
    sources: set[str]


class Merger:
    """Holds the faults of the last seconds."""

    def __init__(self) -> None:
        # By GPU, code and source: the faults that this source has not told yet.
        self._untold: dict[tuple[str, int, str], deque[_Fault]] = {}
        self._new: list[_Fault] = []

    def add(self, sighting: Sighting) -> None:
        key = (sighting.pci, sighting.code)
        if self._joined(sighting, self._untold.get((*key, sighting.source))):
            return
        fault = _Fault(sighting, {sighting.source})
        self._new.append(fault)
        for source in SOURCES:
            if source != sighting.source:
                untold = self._untold.setdefault((*key, source), deque(maxlen=WAITING_MAX))
                untold.append(fault)

    def ready(self, now: float, partitioned: Set[str], silent: Set[str]) -> tuple[Sighting, ...]:
        """The faults not told before, each once, oldest first.

        One that only NVML told has no process yet, and one that only the log told of a GPU in
        `partitioned` (by PCI) no instance: these wait for the other source unless that is `silent`.
        """
        told = [one for one in self._new if not _waits(one, now, partitioned, silent)]
        self._new = [one for one in self._new if _waits(one, now, partitioned, silent)]
        self._forget(now)
        return tuple(sorted((one.sighting for one in told), key=lambda sighting: sighting.at))

    @property
    def waiting(self) -> bool:
        return bool(self._new)

    def _joined(self, sighting: Sighting, untold: "deque[_Fault] | None") -> bool:
        for index, fault in enumerate(untold or ()):
            if fault.sighting.agrees(sighting):
                fault.sighting = fault.sighting.joined(sighting)
                fault.sources.add(sighting.source)
                assert untold is not None
                del untold[index]
                return True
        return False

    def _forget(self, now: float) -> None:
        for key, untold in tuple(self._untold.items()):
            while untold and now - untold[0].sighting.at > 2 * WINDOW_SECONDS:
                untold.popleft()
            if not untold:
                del self._untold[key]


def _waits(one: _Fault, now: float, partitioned: Set[str], silent: Set[str]) -> bool:
    if now - one.sighting.at >= SETTLE_SECONDS:
        return False
    missing = {NVML, KERNEL_LOG} - one.sources - silent
    return KERNEL_LOG in missing or (NVML in missing and one.sighting.pci in partitioned)
