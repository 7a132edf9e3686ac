"""Where a GPU hangs in the machine's PCI Express tree, so that a NIC beside it can be asked for."""

import re
from pathlib import Path

from gpuslice_plugin.dra.attributes import pci_address

ROOT = re.compile(r"pci[0-9a-f]{4,}:[0-9a-f]{2}")


def pcie_root(pci_bus_id: str, sysfs: Path) -> str:
    """The root complex, as in /sys/devices/pci0000:15/…; empty where the kernel does not say."""
    address = pci_address(pci_bus_id)
    device = sysfs / "bus/pci/devices" / address
    if not address or not device.exists():
        return ""
    return next((part for part in device.resolve().parts if ROOT.fullmatch(part)), "")
