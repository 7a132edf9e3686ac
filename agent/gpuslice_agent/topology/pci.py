"""Where a PCI device sits, from sysfs.

Only files that the kernel keeps in memory are read: a look into the configuration space of a GPU
that is lost may stall.
"""

from dataclasses import dataclass
from pathlib import Path

PCI = "bus/pci/devices"
INFINIBAND = "class/infiniband"


@dataclass(frozen=True, slots=True)
class PciPlace:
    address: str
    # From the host bridge down, without the device: pci0000:15, 0000:15:01.0, 0000:16:00.0, …
    path: tuple[str, ...] = ()
    numa_node: int | None = None
    cpus: str = ""
    pci_class: int = 0

    @property
    def root(self) -> str:
        """The host bridge, as `resource.kubernetes.io/pcieRoot` names it; empty: not known."""
        return self.path[0] if self.path else ""

    @property
    def switch(self) -> str:
        """The upstream port of the switch that the device hangs on; empty where it hangs on none.

        It says more than the root where every device has a root of its own (Azure, GB200).
        """
        # Host bridge, root port, upstream port, downstream port.
        return self.path[-2] if len(self.path) >= 4 else ""


@dataclass(frozen=True, slots=True)
class Nic:
    name: str  # mlx5_0
    place: PciPlace
    link_layer: str = ""  # InfiniBand or Ethernet
    interfaces: tuple[str, ...] = ()  # eth2, ib0


def short_address(address: str) -> str:
    """NVML writes the PCI domain with 8 digits, in capitals; the kernel with 4 where they do."""
    domain, _, rest = address.lower().partition(":")
    return f"{int(domain or '0', 16):04x}:{rest}"


def read_place(sysfs: Path, address: str) -> PciPlace:
    """With its address alone where the device is not there."""
    device = sysfs / PCI / address
    try:
        real = device.resolve(strict=True)
    except OSError:
        return PciPlace(address)
    return _place(real, address)


def read_nics(sysfs: Path) -> tuple[Nic, ...]:
    """The RDMA NICs that are PCI devices, in the order of their numbers."""
    found: list[Nic] = []
    for folder in (sysfs / INFINIBAND).glob("*"):
        try:
            device = (folder / "device").resolve(strict=True)
        except OSError:
            continue  # not on PCI: soft RoCE
        place = _place(device, device.name)
        if place.path:
            layer = _text(folder / "ports/1/link_layer")
            interfaces = tuple(sorted(one.name for one in (device / "net").glob("*")))
            found.append(Nic(folder.name, place, layer, interfaces))
    return tuple(sorted(found, key=lambda nic: (len(nic.name), nic.name)))


def _place(real: Path, address: str) -> PciPlace:
    parts = real.parts[:-1]
    roots = [index for index, part in enumerate(parts) if part.startswith("pci")]
    node = _text(real / "numa_node")
    return PciPlace(
        address,
        path=parts[roots[-1] :] if roots else (),
        numa_node=int(node) if node.isdigit() else None,  # -1: the firmware does not say
        cpus=_text(real / "local_cpulist"),
        pci_class=int(_text(real / "class") or "0", 16),
    )


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
