"""The GPU as NVML shows it from outside: the truth to compare with."""

from dataclasses import dataclass

import pynvml

from .record import Machine

SIMULATED = "(simulated)"


class NoGpuError(Exception):
    """A sentence that says why there is none."""


@dataclass(frozen=True, slots=True)
class Card:
    """The first GPU. Nobody else should be using it."""

    handle: pynvml.c_nvmlDevice_t
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
        return int(pynvml.nvmlDeviceGetMemoryInfo(self.handle).used)

    def process_bytes(self) -> int | None:
        """Of all processes as NVML lists them; None: it does not say (as in some containers)."""
        sizes = [
            process.usedGpuMemory
            for process in pynvml.nvmlDeviceGetComputeRunningProcesses(self.handle)
        ]
        return None if any(size is None for size in sizes) else sum(sizes)


def first_card() -> Card:
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        version = pynvml.nvmlSystemGetCudaDriverVersion_v2()
        machine = Machine(
            gpu=pynvml.nvmlDeviceGetName(handle),
            driver_version=pynvml.nvmlSystemGetDriverVersion(),
            cuda_version=f"{version // 1000}.{version % 1000 // 10}",
            memory_bytes=int(pynvml.nvmlDeviceGetMemoryInfo(handle).total),
        )
        return Card(handle, machine, pynvml.nvmlDeviceGetUUID(handle))
    except pynvml.NVMLError as error:
        raise NoGpuError(
            f"No NVIDIA driver with a GPU here ({error}): run tests/gpu where there is one,"
            " or under `gpuslice sim`."
        ) from error
