"""How near two devices are, in the words of `nvidia-smi topo -m`."""

import itertools
from dataclasses import dataclass
from functools import total_ordering

from gpuslice_agent.topology.facts import GpuFacts, LinkEnd
from gpuslice_agent.topology.pci import PciPlace

# From near to far. NV is followed by the number of NVLinks.
KINDS = ("X", "NV", "PIX", "PXB", "PHB", "NODE", "SYS")
MEANINGS = {
    "X": "itself",
    "NV#": "so many NVLinks",
    "PIX": "at most one PCIe switch between them",
    "PXB": "several PCIe switches, no host bridge",
    "PHB": "a PCIe host bridge",
    "NODE": "host bridges of one NUMA node",
    "SYS": "the link between NUMA nodes",
}
# NVML_TOPOLOGY_*
LEVELS = {0: "PIX", 10: "PIX", 20: "PXB", 30: "PHB", 40: "NODE", 50: "SYS"}


@total_ordering
@dataclass(frozen=True, slots=True)
class Relation:
    kind: str  # one of KINDS
    links: int = 0

    def __str__(self) -> str:
        return f"NV{self.links}" if self.kind == "NV" else self.kind

    def __lt__(self, other: "Relation") -> bool:
        return (KINDS.index(self.kind), -self.links) < (KINDS.index(other.kind), -other.links)


def between_gpus(one: GpuFacts, other: GpuFacts, by_pci: Relation) -> Relation:
    """NVLink where there is any, else PCIe: sysfs's path, else NVML's level."""
    if one.uuid == other.uuid:
        return Relation("X")
    links = nvlinks(one, other)
    if links:
        return Relation("NV", links)
    level = dict(one.levels).get(other.uuid)
    if level is not None:
        return Relation(LEVELS.get(level, "SYS"))
    return by_pci


def nvlinks(one: GpuFacts, other: GpuFacts) -> int:
    """Direct ones; where both hang on NVSwitches, as many as the one with fewer has there."""
    direct = sum(
        link.end is LinkEnd.GPU and link.address == other.pci_address for link in one.links
    )
    return direct or min(_to_switches(one), _to_switches(other))


def _to_switches(gpu: GpuFacts) -> int:
    return sum(link.end is LinkEnd.SWITCH for link in gpu.links)


def between_places(one: PciPlace, other: PciPlace) -> Relation:
    """By the bridges that the two paths share. A device that sysfs does not know is far away."""
    if one.address == other.address:
        return Relation("X")
    pairs = zip(one.path, other.path, strict=False)
    common = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
    if common == 0:
        same = one.numa_node is not None and one.numa_node == other.numa_node
        return Relation("NODE" if same else "SYS")
    if common == 1:
        return Relation("PHB")
    # Below the upstream port of one switch each has a downstream port of its own, and no more.
    beyond = max(len(one.path), len(other.path)) - common
    return Relation("PIX" if beyond <= 1 else "PXB")
