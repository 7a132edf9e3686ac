"""What a look at a GPU's state finds, as names in states.SIGNS with what was read. Pure."""

from gpuslice_agent.nvml.vitals import Vitals

# Bits of NVML's reasons for lower clocks: the hardware's own, for any reason; for heat; for power.
HARDWARE_SLOWDOWN = 0x8
HARDWARE_THERMAL = 0x40
POWER_BRAKE = 0x80
_SLOWED = {
    HARDWARE_SLOWDOWN: "slowdown by hardware",
    HARDWARE_THERMAL: "thermal slowdown by hardware",
    POWER_BRAKE: "power brake",
}
FABRIC_UNHEALTHY = 2  # of NVML's summaries: 1 healthy, 3 limited capacity


def signs(vitals: Vitals, links_before: int) -> dict[str, str]:
    """`links_before` is the most NVLinks that this GPU was seen with."""
    present: dict[str, str] = {}
    if vitals.remap_pending:
        present["remap pending"] = "remapped rows: pending"
    if vitals.remap_failed:
        present["remap failed"] = "remapped rows: failure"
    if vitals.sram_threshold_exceeded:
        present["SRAM errors"] = "SRAM ECC error threshold exceeded"
    if vitals.fabric_summary == FABRIC_UNHEALTHY:
        present["fabric"] = "fabric health summary: unhealthy"
    if vitals.nvlinks_up is not None and vitals.nvlinks_up < links_before:
        present["NVLink"] = f"{vitals.nvlinks_up} of {links_before} NVLinks are up"
    width, widest = vitals.pcie_width, vitals.pcie_width_max
    if width is not None and widest is not None and 0 < width < widest:
        present["PCIe width"] = f"{width} of {widest} lanes"
    slowed = [text for bit, text in _SLOWED.items() if (vitals.clock_reasons or 0) & bit]
    if slowed:
        present["slowed"] = ", ".join(slowed)
    return present
