"""Reads what tells whether a GPU is well. Runs in the NVML child: here a call may hang."""

import contextlib
from typing import Any

import pynvml  # pyright: ignore[reportMissingTypeStubs]

from gpuslice_agent.nvml.vitals import Vitals

nvml: Any = pynvml

LINKS_MAX = 18
_NOT_SAID = (
    nvml.NVMLError_NotSupported,
    nvml.NVMLError_FunctionNotFound,
    nvml.NVMLError_NoPermission,
    nvml.NVMLError_InvalidArgument,
    nvml.NVMLError_ArgumentVersionMismatch,
)


def examine(uuid: str) -> Vitals:
    handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
    rows = _or_none(nvml.nvmlDeviceGetRemappedRows, handle)
    mode = _or_none(nvml.nvmlDeviceGetMigMode, handle)
    return Vitals(
        recovery_action=_recovery_action(handle),
        remap_pending=None if rows is None else bool(rows[2]),
        remap_failed=None if rows is None else bool(rows[3]),
        remapped_rows=None if rows is None else int(rows[0]) + int(rows[1]),  # after 1 bit and 2
        ecc_corrected=_ecc(handle, nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED),
        ecc_uncorrected=_ecc(handle, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED),
        sram_threshold_exceeded=_sram_threshold_exceeded(handle),
        fabric_summary=_fabric_summary(handle),
        nvlinks_up=_links_up(handle),
        pcie_width=_or_none(nvml.nvmlDeviceGetCurrPcieLinkWidth, handle),
        pcie_width_max=_or_none(nvml.nvmlDeviceGetMaxPcieLinkWidth, handle),
        pcie_gen_max=_or_none(nvml.nvmlDeviceGetMaxPcieLinkGeneration, handle),
        clock_reasons=_or_none(nvml.nvmlDeviceGetCurrentClocksEventReasons, handle),
        energy_mj=_or_none(nvml.nvmlDeviceGetTotalEnergyConsumption, handle),
        serial=_text(_or_none(nvml.nvmlDeviceGetSerial, handle)),
        mig=mode is not None and mode[0] == nvml.NVML_DEVICE_MIG_ENABLE,
    )


def _recovery_action(handle: object) -> int | None:
    fields = _or_none(
        nvml.nvmlDeviceGetFieldValues, handle, [nvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION]
    )
    if fields is None or fields[0].nvmlReturn != nvml.NVML_SUCCESS:
        return None
    return int(fields[0].value.uiVal)


def _ecc(handle: object, kind: int) -> int | None:
    count = _or_none(nvml.nvmlDeviceGetTotalEccErrors, handle, kind, nvml.NVML_VOLATILE_ECC)
    return None if count is None else int(count)


def _sram_threshold_exceeded(handle: object) -> bool | None:
    status = nvml.c_nvmlEccSramErrorStatus_v1_t()
    if _or_none(nvml.nvmlDeviceGetSramEccErrorStatus, handle, nvml.byref(status)) is None:
        return None
    return bool(status.bThresholdExceeded)


def _fabric_summary(handle: object) -> int | None:
    info = nvml.c_nvmlGpuFabricInfo_v3_t()
    if _or_none(nvml.nvmlDeviceGetGpuFabricInfoV, handle, nvml.byref(info)) is None:
        return None
    return int(info.healthSummary)


def _links_up(handle: object) -> int | None:
    """None: it has no NVLink."""
    states = [_or_none(nvml.nvmlDeviceGetNvLinkState, handle, link) for link in range(LINKS_MAX)]
    known = [state for state in states if state is not None]
    return sum(state == nvml.NVML_FEATURE_ENABLED for state in known) if known else None


def _or_none(call: Any, *arguments: object) -> Any:
    with contextlib.suppress(*_NOT_SAID):
        return call(*arguments)
    return None


def _text(value: str | bytes | None) -> str:
    return value.decode() if isinstance(value, bytes) else value or ""
