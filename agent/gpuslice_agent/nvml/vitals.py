"""What NVML says of a GPU's health: asked for (Vitals) and unasked (Notice)."""

import msgspec

XID = 0x8  # nvmlEventTypeXidCriticalError: the only event that carries a code
OPERATIONAL_FATAL = 40  # of NVML's severities for operational events


class Vitals(msgspec.Struct, frozen=True):
    """None: this GPU, or this driver, does not say."""

    recovery_action: int | None = None  # NVML's number; 0: none is needed
    remap_pending: bool | None = None
    remap_failed: bool | None = None
    remapped_rows: int | None = None
    ecc_corrected: int | None = None  # since the driver was loaded
    ecc_uncorrected: int | None = None
    sram_threshold_exceeded: bool | None = None
    fabric_summary: int | None = None
    nvlinks_up: int | None = None
    pcie_width: int | None = None
    pcie_width_max: int | None = None
    pcie_gen_max: int | None = None  # with this slot; an idle link is slower
    clock_reasons: int | None = None  # bits
    energy_mj: int | None = None  # since the driver was loaded: less than before means a new start
    serial: str = ""
    mig: bool = False


class Notice(msgspec.Struct, frozen=True):
    """An event of NVML. `uuid` may be empty where the GPU cannot be named any more."""

    uuid: str
    event: int  # one of nvmlEventType…; 0: an operational event (r615)
    code: int | None = None  # the Xid, where it is one
    gi: int | None = None
    ci: int | None = None
    severity: int = 0  # of an operational event
    sequence: int = 0  # of an operational event; a gap means that some were lost
    overflow: bool = False  # the driver dropped events before this one
