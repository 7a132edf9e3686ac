"""GPUs as NVML and sysfs show them. One that hangs is left alone for a while; others go on."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from gpuslice_agent.errors import NvmlError, NvmlHungError
from gpuslice_agent.model import Gpu, GpuPath, Health, HealthState, Reading
from gpuslice_agent.nvml.process import Nvml
from gpuslice_agent.nvml.protocol import Description
from gpuslice_agent.topology import NOTHING_SEEN, Topology, place

log = logging.getLogger(__name__)

# Each attempt on a hung GPU costs a deadline and a new child.
PAUSE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Sight:
    """What one look at the GPUs showed. `problem` says why none is there."""

    driver_version: str = ""
    cuda_version: str = ""
    gpus: tuple[Gpu, ...] = ()
    problem: str = ""
    topology: Topology = NOTHING_SEEN

    @property
    def simulated(self) -> bool:
        """The simulated node says so in every name."""
        return any("simulated" in gpu.name.lower() for gpu in self.gpus)


class Gpus:
    def __init__(
        self,
        nvml: Nvml,
        sysfs: Path = Path("/sys"),
        path_of: Callable[[Gpu], GpuPath] = lambda gpu: GpuPath.LOCAL,
    ) -> None:
        self._nvml = nvml
        self._sysfs = sysfs
        self._path_of = path_of
        self._description = Description("", "", ())
        self._gpus: tuple[Gpu, ...] = ()
        self._topology = NOTHING_SEEN
        self._topology_of: tuple[str, ...] = ()
        self._topology_not_before = 0.0
        self._last: dict[str, Gpu] = {}
        self._not_before: dict[str, float] = {}
        self._anew_not_before = 0.0
        self._changed = False

    def expect_change(self) -> None:
        """The next look takes nothing for known."""
        self._changed = True

    async def look(self) -> Sight:
        if self._changed:
            self._changed = False
            self._not_before.clear()
            await self._nvml.end()  # only a new child sees other GPUs
        try:
            self._take_in(await self._nvml.describe())
        except NvmlError as error:
            return self._blind(error)
        gpus = tuple([await self._look_at(gpu) for gpu in self._gpus])
        self._last = {gpu.uuid: gpu for gpu in gpus}
        if all(gpu.health.state is HealthState.UNHEALTHY for gpu in gpus):
            await self._begin_anew()
        about = self._description
        problem = "" if gpus else "The NVIDIA driver is there, but it has no GPU."
        return Sight(about.driver_version, about.cuda_version, gpus, problem, await self._joined())

    async def _joined(self) -> Topology:
        """Asked for once for the same GPUs: nothing of it changes while the driver is loaded."""
        of = (self._description.driver_version, *(gpu.uuid for gpu in self._gpus))
        if self._topology_of == of or time.monotonic() < self._topology_not_before:
            return self._topology
        try:
            self._topology = place(await self._nvml.topology(), self._sysfs)
            self._topology_of = of
        except NvmlError as error:
            # It asks every GPU, and the one that hangs would cost each new child its life.
            self._topology_not_before = time.monotonic() + PAUSE_SECONDS
            log.warning("topology not read reason=%s", error)
        return self._topology

    async def _begin_anew(self) -> None:
        """The driver may have been replaced, or GPUs added: only a new child sees that."""
        if time.monotonic() >= self._anew_not_before:
            self._anew_not_before = time.monotonic() + PAUSE_SECONDS
            await self._nvml.end()

    def _take_in(self, described: Description) -> None:
        if described is self._description:
            return
        self._description = described
        self._gpus = tuple(
            replace(gpu, numa_node=self._numa_node(gpu), path=self._path_of(gpu))
            for gpu in described.gpus
        )
        for gpu in self._gpus:
            if gpu.uuid not in self._last:
                log.info("GPU found index=%d uuid=%s name=%s", gpu.index, gpu.uuid, gpu.name)

    def _blind(self, error: NvmlError) -> Sight:
        """GPUs that were there before are there still, as far as anybody knows."""
        gpus = tuple(_unhealthy(self._last.get(gpu.uuid, gpu), error) for gpu in self._gpus)
        self._last = {gpu.uuid: gpu for gpu in gpus}
        about = self._description
        problem = "" if gpus else f"No GPU can be seen: {error}."
        return Sight(about.driver_version, about.cuda_version, gpus, problem, self._topology)

    async def _look_at(self, gpu: Gpu) -> Gpu:
        before = self._last.get(gpu.uuid, gpu)
        if time.monotonic() < self._not_before.get(gpu.uuid, 0):
            return before
        try:
            seen = _healthy(gpu, await self._nvml.read(gpu.uuid))
        except NvmlHungError as error:
            self._not_before[gpu.uuid] = time.monotonic() + PAUSE_SECONDS
            seen = _unhealthy(before, error)
        except NvmlError as error:
            seen = _unhealthy(before, error)
        if seen.health != before.health:
            log.log(
                logging.INFO if seen.health.state is HealthState.HEALTHY else logging.ERROR,
                "GPU health changed uuid=%s state=%s reason=%s",
                gpu.uuid,
                seen.health.state,
                seen.health.reason,
            )
        return seen

    def _numa_node(self, gpu: Gpu) -> int | None:
        # NVML prints the PCI domain with 8 digits, the kernel with 4 where they suffice.
        domain, _, rest = gpu.pci_bus_id.partition(":")
        device = self._sysfs / "bus/pci/devices" / f"{int(domain or '0', 16):04x}:{rest}"
        try:
            node = int((device / "numa_node").read_text())
        except (OSError, ValueError):
            return None
        return node if node >= 0 else None


def _healthy(gpu: Gpu, reading: Reading) -> Gpu:
    return replace(gpu, reading=reading, health=Health(HealthState.HEALTHY))


def _unhealthy(gpu: Gpu, error: NvmlError) -> Gpu:
    """With its last reading: stale is better than gone, and its health says so."""
    return replace(gpu, health=Health(HealthState.UNHEALTHY, str(error)))
