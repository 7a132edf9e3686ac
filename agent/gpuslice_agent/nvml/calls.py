"""The NVML calls we make. They run in the child: here a call may hang."""

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

import pynvml  # pyright: ignore[reportMissingTypeStubs]

from gpuslice_agent.errors import NvmlError
from gpuslice_agent.model import Gpu, GpuProcess, Reading
from gpuslice_agent.nvml.protocol import Description

nvml: Any = pynvml  # without types: what it returns is converted here and nowhere else
T = TypeVar("T")

NVLINK = 0  # nearer than any of NVML's topology levels, which start at 10


def start() -> None:
    """Loads libnvidia-ml.so.1 and the driver. May be tried again: a driver may come later."""
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise NvmlError(_why_not(error)) from error


def describe() -> Description:
    gpus = _answering()
    cuda = nvml.nvmlSystemGetCudaDriverVersion_v2()
    return Description(
        driver_version=text(nvml.nvmlSystemGetDriverVersion()),
        cuda_version=f"{cuda // 1000}.{cuda % 1000 // 10}",
        gpus=tuple(
            Gpu(
                index=index,
                uuid=uuid,
                name=text(nvml.nvmlDeviceGetName(handle)),
                pci_bus_id=text(nvml.nvmlDeviceGetPciInfo(handle).busId).lower(),
                memory_bytes=_usable_memory(handle),
                compute_capability=or_none(nvml.nvmlDeviceGetCudaComputeCapability, handle),
                distances=tuple(
                    (other_uuid, _distance(handle, other))
                    for other_uuid, other in gpus.values()
                    if other_uuid != uuid
                ),
            )
            for index, (uuid, handle) in gpus.items()
        ),
    )


def _answering() -> dict[int, tuple[str, object]]:
    """UUIDs and handles by NVML's index. A GPU that is lost has neither; the others go on."""
    gpus: dict[int, tuple[str, object]] = {}
    for index in range(nvml.nvmlDeviceGetCount()):
        with contextlib.suppress(nvml.NVMLError_GpuIsLost):
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            gpus[index] = (text(nvml.nvmlDeviceGetUUID(handle)), handle)
    return gpus


def read(uuid: str) -> Reading:
    handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
    utilization = or_none(nvml.nvmlDeviceGetUtilizationRates, handle)
    temperature = _temperature(handle)
    milliwatts = or_none(nvml.nvmlDeviceGetPowerUsage, handle)
    millijoules = or_none(nvml.nvmlDeviceGetTotalEnergyConsumption, handle)
    return Reading(
        memory_used_bytes=int(_memory(handle).used),
        utilization_ratio=None if utilization is None else utilization.gpu / 100,
        temperature_celsius=None if temperature is None else float(temperature),
        power_watts=None if milliwatts is None else milliwatts / 1000,
        memory_utilization_ratio=None if utilization is None else utilization.memory / 100,
        sm_clock_hertz=_clock(handle, nvml.NVML_CLOCK_SM),
        memory_clock_hertz=_clock(handle, nvml.NVML_CLOCK_MEM),
        energy_joules=None if millijoules is None else millijoules / 1000,
        pcie_replays=or_none(nvml.nvmlDeviceGetPcieReplayCounter, handle),
        processes=_processes(handle),
    )


def _clock(handle: object, which: int) -> float | None:
    megahertz = or_none(nvml.nvmlDeviceGetClockInfo, handle, which)
    return None if megahertz is None else megahertz * 1e6


def _temperature(handle: object) -> int | None:
    # The older call goes with CUDA 14, the newer one came with 12.9.
    newer = or_none(nvml.nvmlDeviceGetTemperatureV, handle, nvml.NVML_TEMPERATURE_GPU)
    if newer is not None:
        return int(newer)
    return or_none(nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU)


def _processes(handle: object) -> tuple[GpuProcess, ...]:
    held: dict[int, int | None] = {}
    for list_them in (
        nvml.nvmlDeviceGetComputeRunningProcesses,
        nvml.nvmlDeviceGetGraphicsRunningProcesses,
    ):
        for process in or_none(list_them, handle) or ():
            # A process in both lists is there with all its memory each time.
            held.setdefault(int(process.pid), process.usedGpuMemory)
    return tuple(GpuProcess(pid, memory) for pid, memory in sorted(held.items()))


def _usable_memory(handle: object) -> int:
    memory = _memory(handle)
    return int(memory.total) - int(getattr(memory, "reserved", 0))


def _memory(handle: object) -> Any:
    with contextlib.suppress(nvml.NVMLError_NotSupported, nvml.NVMLError_FunctionNotFound):
        return nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
    return nvml.nvmlDeviceGetMemoryInfo(handle)


def _distance(one: object, other: object) -> int:
    status = or_none(nvml.nvmlDeviceGetP2PStatus, one, other, nvml.NVML_P2P_CAPS_INDEX_NVLINK)
    if status == nvml.NVML_P2P_STATUS_OK:
        return NVLINK
    level = or_none(nvml.nvmlDeviceGetTopologyCommonAncestor, one, other)
    return int(nvml.NVML_TOPOLOGY_SYSTEM if level is None else level)


def or_none(call: Callable[..., T], *arguments: object) -> T | None:
    """None where this GPU or this driver has no such thing; it may still fail in other ways."""
    try:
        return call(*arguments)
    except (
        nvml.NVMLError_NotSupported,
        nvml.NVMLError_FunctionNotFound,
        nvml.NVMLError_NoPermission,
        nvml.NVMLError_InvalidArgument,
    ):
        return None


def text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _why_not(error: Exception) -> str:
    if isinstance(error, nvml.NVMLError_LibraryNotFound):
        return (
            "there is no NVIDIA driver here (libnvidia-ml.so.1 was not found): install it, "
            "or try `gpuslice sim`"
        )
    if isinstance(error, nvml.NVMLError_DriverNotLoaded):
        return "the NVIDIA kernel module is not loaded: run `modprobe nvidia`"
    if isinstance(error, nvml.NVMLError_NoPermission):
        return "we may not open /dev/nvidiactl: look at its owner and mode"
    return f"NVML does not start: {error}"
