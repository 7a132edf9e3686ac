"""How the GPUs and NICs of a node are joined: by NVLink, PCIe switches, sockets.

`facts` is what NVML says of a GPU and nothing else does; `pci` reads the rest from sysfs;
`relation` compares two devices as `nvidia-smi topo -m` does; `models` and `labels` name what the
node has.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gpuslice_agent.topology.facts import GpuFacts, Link, LinkEnd
from gpuslice_agent.topology.pci import Nic, PciPlace, read_nics, read_place, short_address
from gpuslice_agent.topology.relation import Relation, between_gpus, between_places

__all__ = [
    "NOTHING_SEEN",
    "GpuFacts",
    "Link",
    "LinkEnd",
    "Nic",
    "PciPlace",
    "PlacedGpu",
    "Relation",
    "Topology",
    "place",
    "read_nics",
    "read_place",
    "short_address",
]


@dataclass(frozen=True, slots=True)
class PlacedGpu:
    facts: GpuFacts
    place: PciPlace

    @property
    def numa_node(self) -> int | None:
        """sysfs's word; NVML's where sysfs has none, as in a virtual machine."""
        return self.facts.numa_node if self.place.numa_node is None else self.place.numa_node

    @property
    def cpus(self) -> str:
        """As the kernel writes lists of CPUs: 0-23,48-71."""
        return self.place.cpus or self.facts.cpus


@dataclass(frozen=True, slots=True)
class Topology:
    gpus: tuple[PlacedGpu, ...] = ()
    nics: tuple[Nic, ...] = ()

    def gpu_relation(self, one: PlacedGpu, other: PlacedGpu) -> Relation:
        return between_gpus(one.facts, other.facts, between_places(one.place, other.place))

    def nic_relation(self, gpu: PlacedGpu, nic: Nic) -> Relation:
        return between_places(gpu.place, nic.place)

    def between_nics(self, one: Nic, other: Nic) -> Relation:
        return between_places(one.place, other.place)

    def nearest_nics(self, gpu: PlacedGpu) -> tuple[Nic, ...]:
        """Those it should send through: as near as any, and not on another socket."""
        if not self.nics:
            return ()
        relations = {nic.name: self.nic_relation(gpu, nic) for nic in self.nics}
        nearest = min(relations.values())
        if nearest.kind == "SYS":
            return ()
        return tuple(nic for nic in self.nics if relations[nic.name] == nearest)


NOTHING_SEEN = Topology()


def place(facts: Iterable[GpuFacts], sysfs: Path) -> Topology:
    """What NVML said, together with what sysfs says now."""
    gpus = tuple(PlacedGpu(one, read_place(sysfs, one.pci_address)) for one in facts)
    return Topology(gpus, read_nics(sysfs))
