"""What a device tells CEL selectors and constraints, within the API's limits."""

import re
from collections.abc import Mapping
from typing import Any

from gpuslice_agent.model import Gpu, Snapshot
from gpuslice_plugin.api import Object
from gpuslice_plugin.dra.names import Kind

STANDARD = "resource.kubernetes.io"
MOST_STRING_BYTES = 64


def attributes(kind: Kind, gpu: Gpu, node: Snapshot, pcie_root: str) -> Object:
    """Names without a domain are the driver's own: device.attributes["gpu.gpuslice.io"].uuid."""
    found: dict[str, Mapping[str, Any] | None] = {
        "type": _string(kind),
        "uuid": _string(gpu.uuid),
        "index": {"int": gpu.index},
        "productName": _string(gpu.name),
        "cudaComputeCapability": _version(".".join(map(str, gpu.compute_capability or ()))),
        "driverVersion": _version(node.driver_version),
        "driverVersionName": _string(node.driver_version),
        "cudaDriverVersion": _version(node.cuda_version),
        "enforcement": _string(node.enforcement),
        "simulated": {"bool": True} if node.simulated else None,
        f"{STANDARD}/pciBusID": _string(pci_address(gpu.pci_bus_id)),
        f"{STANDARD}/pcieRoot": _string(pcie_root),
        f"{STANDARD}/numaNode": None if gpu.numa_node is None else {"int": gpu.numa_node},
    }
    return {name: value for name, value in found.items() if value is not None}


def pci_address(bus_id: str) -> str:
    """As sysfs and other drivers write it: NVML has eight digits of domain, they have four."""
    match = re.fullmatch(r"(?:([0-9a-f]{1,8}):)?([0-9a-f]{2}:[0-9a-f]{2}\.[0-7])", bus_id.lower())
    return f"{int(match[1] or '0', 16):04x}:{match[2]}" if match else ""


def semver(text: str) -> str:
    """580.95.05 → 580.95.5: the API refuses leading zeros, and wants three numbers."""
    numbers = re.match(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?", text)
    return ".".join(str(int(part or 0)) for part in numbers.groups()) if numbers else ""


def _version(text: str) -> Mapping[str, Any] | None:
    return {"version": semver(text)} if semver(text) else None


def _string(text: str) -> Mapping[str, Any] | None:
    """The limit is in bytes: whole characters that fit."""
    short = text.encode()[:MOST_STRING_BYTES].decode(errors="ignore")
    return {"string": short} if short else None
