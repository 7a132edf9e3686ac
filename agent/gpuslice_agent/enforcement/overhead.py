"""What a context costs on a GPU before the program has allocated a byte: measured once a driver."""

import asyncio
import logging
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from gpuslice_agent.errors import EnforcementError, NvmlError
from gpuslice_agent.ledger import Ledger
from gpuslice_agent.model import GpuProcess
from gpuslice_agent.nvml.process import Nvml

log = logging.getLogger(__name__)

# Loading CUDA on a cold machine, and bringing a GPU out of its sleep.
READY_SECONDS = 30.0


class ContextOverhead:
    """Remembered in the ledger, for each GPU and the driver it was measured with."""

    def __init__(self, nvml: Nvml, ledger: Ledger, command: tuple[str, ...] = ()) -> None:
        self._nvml = nvml
        self._ledger = ledger
        # By its path: as a module it would load the whole package before it begins.
        probe = str(Path(__file__).with_name("context_probe.py"))
        self._command = command or (sys.executable, "-P", probe)
        self._failed: set[str] = set()
        self._turn = asyncio.Lock()

    def known(self, gpu_uuid: str, driver_version: str) -> int | None:
        """Bytes; 0 where it could not be measured; None: not tried yet."""
        if gpu_uuid in self._failed:
            return 0
        driver, size = self._ledger.context_overhead(gpu_uuid) or ("", 0)
        return size if driver == driver_version else None

    def last_known(self, gpu_uuid: str) -> int:
        """Bytes, under whichever driver; 0: never measured."""
        _, size = self._ledger.context_overhead(gpu_uuid) or ("", 0)
        return size

    async def measure(self, gpu_uuid: str, driver_version: str) -> None:
        async with self._turn:  # of two first requests, one measures
            if self.known(gpu_uuid, driver_version) is not None:
                return
            try:
                size = await self._measured(gpu_uuid)
            except (EnforcementError, NvmlError, OSError) as error:
                # Not remembered beyond this agent: the next one may have more luck.
                self._failed.add(gpu_uuid)
                log.warning("context cost not measured uuid=%s reason=%s", gpu_uuid, error)
                return
            self._ledger.set_context_overhead(gpu_uuid, driver_version, size)
            log.info("context cost measured uuid=%s bytes=%d", gpu_uuid, size)

    async def _measured(self, gpu_uuid: str) -> int:
        before = (await self._nvml.read(gpu_uuid)).processes
        probe = await asyncio.create_subprocess_exec(
            *self._command, gpu_uuid, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, cwd="/"
        )
        try:
            async with asyncio.timeout(READY_SECONDS):
                assert probe.stdout is not None
                if await probe.stdout.readline() != b"ready\n":
                    raise EnforcementError("no context can be made there")
            after = (await self._nvml.read(gpu_uuid)).processes
        except TimeoutError as error:
            raise EnforcementError(f"no context within {READY_SECONDS:.0f} s") from error
        finally:
            await _end(probe)
        return _of_probe(probe.pid, before, after)


def _of_probe(pid: int, before: Iterable[GpuProcess], after: Iterable[GpuProcess]) -> int:
    known = {process.pid for process in before}
    new = [process for process in after if process.pid not in known]
    # In a container without the host's pids NVML counts by those: then ours is the only new one.
    ours = [process for process in new if process.pid == pid] or new
    if len(ours) != 1 or ours[0].memory_bytes is None:
        raise EnforcementError("NVML does not say what the process holds")
    return ours[0].memory_bytes


async def _end(probe: Process) -> None:
    with suppress(ProcessLookupError):
        probe.kill()
    # One that is stuck in the driver does not end; it must not take us with it.
    with suppress(TimeoutError):
        await asyncio.wait_for(probe.wait(), 2)
