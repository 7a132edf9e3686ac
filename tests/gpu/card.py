"""The GPU as NVML shows it from outside: the truth to compare with."""

from dataclasses import dataclass
from typing import Any

import pynvml  # pyright: ignore[reportMissingTypeStubs]

from .record import Machine

nvml: Any = pynvml  # without types

SIMULATED = "(simulated)"


class NoGpuError(Exception):
    """A sentence that says why there is none."""


@dataclass(frozen=True, slots=True)
class Card:
    """The first GPU. Nobody else should be using it."""

    handle: Any
    machine: Machine
    uuid: str

    @property
    def cuda_version(self) -> int:
        """The newest that the driver serves, as CUDA counts: 12040 for 12.4."""
        major, minor = self.machine.cuda_version.split(".")
        return int(major) * 1000 + int(minor) * 10

    @property
    def simulated(self) -> bool:
        return self.machine.gpu.endswith(SIMULATED)

    def used_bytes(self) -> int:
        """Of the whole card, whoever holds it."""
        return int(nvml.nvmlDeviceGetMemoryInfo(self.handle).used)

    def process_bytes(self) -> int | None:
        """Of all processes as NVML lists them; None: it does not say (as in some containers)."""
        sizes: list[int | None] = [
            process.usedGpuMemory
            for process in nvml.nvmlDeviceGetComputeRunningProcesses(self.handle)
        ]
        known = [size for size in sizes if size is not None]
        return sum(known) if len(known) == len(sizes) else None


def first_card() -> Card:
    try:
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByIndex(0)
        version = nvml.nvmlSystemGetCudaDriverVersion_v2()
        machine = Machine(
            gpu=nvml.nvmlDeviceGetName(handle),
            driver_version=nvml.nvmlSystemGetDriverVersion(),
            cuda_version=f"{version // 1000}.{version % 1000 // 10}",
            memory_bytes=int(nvml.nvmlDeviceGetMemoryInfo(handle).total),
        )
        return Card(handle, machine, nvml.nvmlDeviceGetUUID(handle))
    except nvml.NVMLError as error:
        raise NoGpuError(
            f"No NVIDIA driver with a GPU here ({error}): run tests/gpu where there is one,"
            " or under `gpuslice sim`."
        ) from error
