"""What NVML says of a GPU and sysfs does not. Nothing here changes while the driver is loaded."""

from dataclasses import dataclass
from enum import StrEnum


class LinkEnd(StrEnum):
    GPU = "gpu"
    SWITCH = "switch"
    OTHER = "other"  # a CPU with NVLink


@dataclass(frozen=True, slots=True)
class Link:
    """One NVLink that is up."""

    end: LinkEnd
    address: str  # PCI address of what is at the other end


@dataclass(frozen=True, slots=True)
class GpuFacts:
    index: int
    uuid: str
    name: str
    pci_address: str  # as sysfs writes it: 0000:1b:00.0
    pci_device_id: int  # device << 16 | vendor, as in PCI configuration space
    memory_bytes: int  # the whole card's, with what the driver keeps
    compute_capability: tuple[int, int] | None = None
    links: tuple[Link, ...] = ()
    # NVML_TOPOLOGY_* to other GPUs, by UUID: what sysfs cannot say in a virtual machine.
    levels: tuple[tuple[str, int], ...] = ()
    numa_node: int | None = None
    cpus: str = ""
    mig_capable: bool = False
    mig_enabled: bool = False
    virtual: bool = False  # a vGPU
    clique: str = ""  # CLUSTER-UUID.CLIQUE of the NVLink fabric between nodes
