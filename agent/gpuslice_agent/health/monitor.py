"""Runs the sources of the node's health and keeps what they come to."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from gpuslice_agent.cgroups import Place
from gpuslice_agent.entities import Effect, EntityState, NodeHealth, pci_address
from gpuslice_agent.errors import HealthError
from gpuslice_agent.health import journal, line
from gpuslice_agent.health.catalogue import Catalogue
from gpuslice_agent.health.checkup import Checkup
from gpuslice_agent.health.diagnosis import Diagnosis
from gpuslice_agent.health.kernel_log import Batch, KernelLog, written_at
from gpuslice_agent.health.known import KnownGpus
from gpuslice_agent.health.line import Kind
from gpuslice_agent.health.merge import KERNEL_LOG, NVML
from gpuslice_agent.health.record import Record
from gpuslice_agent.health.store import Remembered, Store
from gpuslice_agent.model import Gpu, Health, HealthState, Share
from gpuslice_agent.nvml.process import Nvml

log = logging.getLogger(__name__)

EXAMINE_SECONDS = 5.0
AGE_SECONDS = 1.0
SETTLE_STEP_SECONDS = 0.05
FRESH_SECONDS = 5.0  # the pid of an older line may be another process's by now
SOURCE_PAUSE_SECONDS = 30.0  # before a source that cannot be read is tried again
SOURCE_NAMES = {KERNEL_LOG: "kernel log", NVML: "NVML events"}


class HealthMonitor:
    """Tells `changed` whenever `health` is another than before."""

    def __init__(
        self,
        nvml: Nvml,
        catalogue: Catalogue,
        store: Store,
        kmsg: Path,
        boot_id: str,
        may_evict: bool,
        use_journal: bool,
        place_of: Callable[[int], Place],
    ) -> None:
        self._nvml = nvml
        self._place_of = place_of
        self._store = store
        self._kmsg = kmsg
        self._boot_id = boot_id
        self._use_journal = use_journal
        self._diagnosis = Diagnosis(catalogue, may_evict)
        self._known = KnownGpus()
        self._sequence = -1
        self._remember()
        self._checkup = Checkup(nvml, self._diagnosis, self._known)
        self._gpus: tuple[Gpu, ...] = ()
        self._sources: dict[str, str] = {KERNEL_LOG: "not read yet", NVML: ""}
        self._gaps = 0
        self._stirred = asyncio.Event()
        self._look_now = asyncio.Event()
        self.health = NodeHealth()
        self.changed: Callable[[], None] = lambda: None

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_reading_kernel_log(), name="kernel log")
            group.create_task(self._keep_hearing_nvml(), name="NVML events")
            group.create_task(self._keep_examining(), name="examinations")
            group.create_task(self._keep_judging(), name="judgement")

    def saw(self, gpus: Iterable[Gpu], shares: Iterable[Share]) -> None:
        """GPUs and shares as they were just seen, with the GPUs that cannot be read now."""
        self._gpus = tuple(gpus)
        now = time.time()
        for pci in self._known.saw(self._gpus):
            self._diagnosis.forget(pci)
        self._diagnosis.tenancies.saw(shares, now)
        if self._gpus:
            for gpu in self._known.missing(self._gpus):
                evidence = f"{gpu.uuid} {gpu.name} at {gpu.pci}, serial {gpu.serial or 'unknown'}"
                self._diagnosis.unanswered(gpu.pci, "missing", evidence, now)

    def of(self, gpu: Gpu) -> Health:
        """What it means for who would use the GPU."""
        pci = pci_address(gpu.pci_bus_id)
        if pci not in self._checkup.seen:
            return gpu.health
        found = self.health.of_gpu(pci)
        if found.effect is Effect.NONE:
            text = "" if found.state is EntityState.HEALTHY else _sentence(found.reasons)
            return Health(HealthState.HEALTHY, text)
        return Health(HealthState.UNHEALTHY, _sentence(found.reasons), found.effect, found.action)

    # -- sources ------------------------------------------------------------------------------

    async def _keep_reading_kernel_log(self) -> None:
        while True:
            try:
                kernel_log = KernelLog(self._kmsg)
            except OSError as error:
                await self._read_journal(f"{self._kmsg} cannot be read: {error.strerror}")
                await asyncio.sleep(SOURCE_PAUSE_SECONDS)
                continue
            try:
                self._source_is(KERNEL_LOG, "")
                async for batch in kernel_log.batches():
                    self._take_in(batch)
            except OSError as error:
                self._source_is(KERNEL_LOG, f"{self._kmsg} failed: {error.strerror}")
                await asyncio.sleep(SOURCE_PAUSE_SECONDS)
            finally:
                kernel_log.close()

    async def _read_journal(self, why: str) -> None:
        """Instead of the kernel's log, where that is not for us."""
        if not self._use_journal:
            self._source_is(KERNEL_LOG, why)
            return
        self._source_is(KERNEL_LOG, f"{why}; the journal has told nothing yet")
        try:
            async for one in journal.records():
                self._source_is(KERNEL_LOG, "")
                self._take_in_record(one)
        except HealthError as error:
            self._source_is(KERNEL_LOG, f"{why}; {error}")

    def _take_in(self, batch: Batch) -> None:
        for one in batch.records:
            if one.sequence > self._sequence:
                self._take_in_record(one)
        if batch.lost:
            self._gaps += batch.lost
            log.warning("kernel log ran over before it was read: GPUs are looked at instead")
            self._look_now.set()
            self._stirred.set()

    def _take_in_record(self, one: Record) -> None:
        said = line.parse_message(one.text)
        if said is None:
            return
        self._sequence = one.sequence
        if said.kind is Kind.IDENTITY:
            self._known.named(said.pci, said.uuid)
            return
        log.debug("kernel said: %s", one.text[:300])
        now, at = time.time(), written_at(one)
        if said.pid and now - at < FRESH_SECONDS:
            self._look_up(said.pid, said.pci, now)
        self._diagnosis.logged(said, at, now)
        self._stirred.set()

    def _look_up(self, pid: int, pci: str, now: float) -> None:
        """At once, for a program with a fault soon ends, and may not have been seen before."""
        uuid, pod_uid = self._known.uuids().get(pci), self._place_of(pid).pod_uid
        if uuid and pod_uid:
            self._diagnosis.tenancies.found(pid, pod_uid, uuid, now)

    async def _keep_hearing_nvml(self) -> None:
        async for notice in self._nvml.notices():
            pci = self._known.pci_of(notice.uuid)
            if pci is not None:
                log.debug("NVML said: %s", notice)
                self._diagnosis.notified(pci, notice, time.time())
            self._look_now.set()  # most events only say that there is something to see
            self._stirred.set()

    async def _keep_examining(self) -> None:
        while True:
            for gpu in self._gpus:
                await self._checkup.examine(pci_address(gpu.pci_bus_id), gpu.uuid)
                self._stirred.set()
            self._look_now.clear()
            await _set_within(self._look_now, EXAMINE_SECONDS)

    # -- what they come to --------------------------------------------------------------------

    async def _keep_judging(self) -> None:
        while True:
            await _set_within(
                self._stirred, SETTLE_STEP_SECONDS if self._diagnosis.waiting else AGE_SECONDS
            )
            self._stirred.clear()
            now = time.time()
            silent = {name for name, why in self._sources.items() if why}
            if self._diagnosis.settle(now, self._checkup.partitioned, silent):
                self._look_now.set()  # what the driver asks for now
            self._diagnosis.age(now)
            self._tell()

    def _tell(self) -> None:
        health = replace(
            self._diagnosis.health(self._known.uuids()),
            sources=tuple((SOURCE_NAMES[name], why) for name, why in self._sources.items()),
            kernel_log_gaps=self._gaps,
        )
        if self._known.changed:
            self._known.changed = False
            self._save()
        if health == self.health:
            return
        for one in health.entities:
            if one.state is not self.health.of(one.entity).state:
                log.log(
                    logging.INFO if one.effect is Effect.NONE else logging.ERROR,
                    "health changed entity=%s state=%s action=%s reason=%s",
                    one.entity,
                    one.state,
                    one.action,
                    _sentence(one.reasons),
                )
        self.health = health
        self._save()
        self.changed()

    def _source_is(self, name: str, why: str) -> None:
        if self._sources[name] != why:
            self._sources[name] = why
            if why:
                log.warning("a source of faults is missing source=%s reason=%s", name, why)
            self._stirred.set()

    # -- memory -------------------------------------------------------------------------------

    def _remember(self) -> None:
        try:
            remembered = self._store.load()
        except HealthError as error:
            log.error("health is not remembered reason=%s", error)
            return
        self._known = KnownGpus(remembered.gpus)
        self._diagnosis.restore(remembered.cases, remembered.counts)
        if remembered.boot_id == self._boot_id:
            self._sequence = remembered.sequence
        elif remembered.boot_id:
            self._diagnosis.restarted(time.time())

    def _save(self) -> None:
        try:
            self._store.save(
                Remembered(
                    self._boot_id,
                    self._sequence,
                    self._known.all(),
                    tuple(self._diagnosis.cases.values()),
                    tuple(self._diagnosis.counts.values()),
                )
            )
        except HealthError as error:
            log.error("health will not be remembered reason=%s", error)


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass


def _sentence(reasons: Iterable[str]) -> str:
    return " ".join(reasons)
