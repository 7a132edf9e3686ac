"""Asks NVML now and then how each GPU is, and tells one that hangs from one that is ill."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from gpuslice_agent.errors import NvmlError, NvmlHungError, NvmlLostError, NvmlStuckError
from gpuslice_agent.health.diagnosis import Diagnosis
from gpuslice_agent.health.known import KnownGpus
from gpuslice_agent.health.signs import signs
from gpuslice_agent.nvml.vitals import Vitals

log = logging.getLogger(__name__)

# In a call for so long, whatever state its process is in: it will not come back by itself.
HUNG_SECONDS = 20.0
# Each attempt on a GPU that hangs costs a child and makes the others wait.
PAUSE_SECONDS = 60.0


class Examiner(Protocol):
    """NVML, as far as it is needed here."""

    async def examine(self, uuid: str) -> Vitals: ...

    @property
    def stuck_pid(self) -> int | None: ...


class Checkup:
    def __init__(
        self,
        nvml: Examiner,
        diagnosis: Diagnosis,
        known: KnownGpus,
        proc: Path = Path("/proc"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._nvml = nvml
        self._diagnosis = diagnosis
        self._known = known
        self._proc = proc
        self._clock = clock
        self._hanging: dict[str, float] = {}  # by PCI: since when it has answered nothing
        self._not_before: dict[str, float] = {}
        self._energy: dict[str, int] = {}
        self.partitioned: set[str] = set()  # GPUs with MIG, by PCI
        self.seen: set[str] = set()  # GPUs that were asked at least once, by PCI

    async def examine(self, pci: str, uuid: str) -> None:
        """Ends within NVML's deadline. Nothing is asked of a GPU known to hang, for a while."""
        begun = self._clock()
        if begun < self._not_before.get(pci, 0.0):
            return
        try:
            vitals = await self._nvml.examine(uuid)
        except NvmlStuckError:
            self._look_at_stuck()  # another GPU holds the child: nothing is known of this one
            return
        except NvmlHungError as error:
            self._hanging.setdefault(pci, begun)
            self._hangs(pci, str(error))
        except NvmlLostError as error:
            self._answered_with(pci, "lost", error)
        except NvmlError as error:
            self._answered_with(pci, "unreadable", error)
        else:
            self._hanging.pop(pci, None)
            self._take_in(pci, vitals)
        self.seen.add(pci)

    def _look_at_stuck(self) -> None:
        """The child of the GPU that hung first may have left its call, or be in it for too long."""
        for pci in tuple(self._hanging):
            self._hangs(pci, "the NVML child is stuck in the driver")

    def _hangs(self, pci: str, evidence: str) -> None:
        for_seconds = self._clock() - self._hanging[pci]
        pid = self._nvml.stuck_pid
        if for_seconds >= HUNG_SECONDS:
            state = "" if pid is None else f"; process {pid} in state {self._state(pid)}"
            self._diagnosis.unanswered(
                pci, "hung", f"{evidence}, for {for_seconds:.0f} s{state}", time.time()
            )
            self._not_before[pci] = self._clock() + PAUSE_SECONDS
        else:
            self._diagnosis.unanswered(pci, "no answer", evidence, time.time())

    def _state(self, pid: int) -> str:
        """As /proc has it: D is a wait in the kernel that no signal ends."""
        try:
            stat = (self._proc / str(pid) / "stat").read_text(errors="replace")
        except OSError:
            return "?"
        return stat.rpartition(")")[2].split()[0]

    def _answered_with(self, pci: str, cause: str, error: NvmlError) -> None:
        self._hanging.pop(pci, None)
        self._diagnosis.unanswered(pci, cause, str(error), time.time())

    def _take_in(self, pci: str, vitals: Vitals) -> None:
        now = time.time()
        if vitals.mig:
            self.partitioned.add(pci)
        else:
            self.partitioned.discard(pci)
        if vitals.energy_mj is not None:
            # It is counted from the start of the driver, or the last reset, on.
            if vitals.energy_mj < self._energy.get(pci, 0):
                log.info("GPU began anew pci=%s", pci)
                self._diagnosis.reset_seen(pci, now)
            self._energy[pci] = vitals.energy_mj
        self._known.examined(pci, vitals)
        present = signs(vitals, self._known.nvlinks(pci))
        self._diagnosis.sensed(pci, present, vitals.recovery_action, now)
