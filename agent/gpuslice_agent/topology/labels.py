"""The labels of a node: pure, from what is known of it.

Two sets. Those of GPU Feature Discovery, so that what selects by them goes on working; and our own,
which say the same of the same card whatever the product string of a driver or a cloud, and tell
apart the models of a node that has several. No label changes while nothing does: none is a time.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gpuslice_agent.topology import Topology
from gpuslice_agent.topology.facts import GpuFacts
from gpuslice_agent.topology.models import Model, canonical

MIB = 1 << 20
OURS = "gpuslice.io/"
GFD = "nvidia.com/"
LENGTH = 63  # of a label's value, and of its name
PCI_DISPLAY_VGA = 0x0300
PCI_DISPLAY_3D = 0x0302
COMING_AND_GOING = frozenset({f"{GFD}gpu.clique", f"{GFD}gpu.machine", f"{GFD}gpu.family"})
# By compute capability.
FAMILIES = {
    (3,): "kepler",
    (5,): "maxwell",
    (6,): "pascal",
    (7,): "volta",
    (7, 5): "turing",
    (8,): "ampere",
    (8, 9): "ada-lovelace",
    (9,): "hopper",
    (10,): "blackwell",
    (12,): "blackwell",
}


@dataclass(frozen=True, slots=True)
class Node:
    """What labels are made of, beside the GPUs."""

    driver_version: str  # 580.95.05
    cuda_version: str  # 13.0
    machine: str = ""  # DGXH100, as the firmware says
    shares_per_gpu: int = 1
    enforcement: str = "shim"
    simulated: bool = False
    health: str = "healthy"  # of the part that is worst


def node_labels(topology: Topology, node: Node) -> dict[str, str]:
    """Empty values are left out. Without a GPU: none at all."""
    if not topology.gpus:
        return {}
    labels = _canonical_labels(topology, node) | _gfd_labels(topology, node)
    return {name: valid(value) for name, value in sorted(labels.items()) if valid(value)}


def model_of(gpu: GpuFacts) -> Model:
    return canonical(gpu.name, gpu.pci_device_id, gpu.memory_bytes)


def stale(present: Iterable[str], wanted: Mapping[str, str]) -> list[str]:
    """Labels of the node that we wrote once and that hold no more. Of those that others may have
    written too only what comes and goes with the GPUs."""
    ours = (f"{OURS}gpu.", f"{OURS}nic.", f"{OURS}enforcement")
    return [
        name
        for name in present
        if name not in wanted and (name.startswith(ours) or name in COMING_AND_GOING)
    ]


def valid(value: str, length: int = LENGTH) -> str:
    """As near to `value` as a label may be."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", value)[:length].strip("-_.")


def _canonical_labels(topology: Topology, node: Node) -> dict[str, str]:
    gpus = [gpu.facts for gpu in topology.gpus]
    models = Counter(model_of(gpu) for gpu in gpus)
    labels = {
        "gpu.count": str(len(gpus)),
        "gpu.family": _one_or_mixed(_family(gpu) for gpu in gpus),
        "gpu.model": _one_or_mixed(model.name for model in models),
        "gpu.form": _one_or_mixed(model.form for model in models),
        "gpu.memory": _one_or_mixed(f"{model.memory_gib}GiB" for model in models),
        "gpu.nvlink": _nvlink(gpus),
        "gpu.numa-nodes": str(len({gpu.numa_node for gpu in topology.gpus})),
        "gpu.mig-capable": str(any(gpu.mig_capable for gpu in gpus)).lower(),
        "gpu.simulated": "true" if node.simulated else "",
        "gpu.health": node.health,
        "enforcement": node.enforcement,
        "nic.rdma.count": str(len(topology.nics)),
    }
    for model, count in models.items():
        room = LENGTH - len("gpu..count")
        labels[f"gpu.{valid(str(model), room)}.count"] = str(count)
    return {OURS + name: value for name, value in labels.items()}


def _gfd_labels(topology: Topology, node: Node) -> dict[str, str]:
    """GFD knows one product a node: here that of most GPUs, and its count is theirs."""
    gpus = [gpu.facts for gpu in topology.gpus]
    product = Counter(gpu.name for gpu in gpus).most_common(1)[0][0]
    of_product = [gpu for gpu in topology.gpus if gpu.facts.name == product]
    gpu = of_product[0].facts
    major, minor = gpu.compute_capability or ("", "")
    cliques = {gpu.clique for gpu in gpus}
    shared = node.shares_per_gpu > 1
    labels = {
        "gpu.product": product,
        "gpu.count": str(len(of_product)),
        "gpu.memory": str(gpu.memory_bytes // MIB),
        "gpu.family": _family(gpu),
        "gpu.compute.major": str(major),
        "gpu.compute.minor": str(minor),
        "gpu.machine": node.machine,
        "gpu.mode": _mode(of_product[0].place.pci_class),
        "gpu.replicas": str(node.shares_per_gpu),
        # GFD has no other word for several containers on one GPU.
        "gpu.sharing-strategy": "time-slicing" if shared else "none",
        "gpu.clique": cliques.pop() if len(cliques) == 1 else "",
        "mig.capable": str(gpu.mig_capable).lower(),
        "mig.strategy": "mixed" if any(gpu.mig_enabled for gpu in gpus) else "none",
        "mps.capable": "false",
        "vgpu.present": str(gpu.virtual).lower(),
        **_versions(node),
    }
    return {GFD + name: value for name, value in labels.items()}


def _versions(node: Node) -> dict[str, str]:
    driver = [*node.driver_version.split("."), "", ""]
    cuda = [*node.cuda_version.split("."), ""]
    return {
        "cuda.driver-version.full": node.driver_version,
        "cuda.driver-version.major": driver[0],
        "cuda.driver-version.minor": driver[1],
        "cuda.driver-version.revision": driver[2],
        "cuda.driver.major": driver[0],
        "cuda.driver.minor": driver[1],
        "cuda.driver.rev": driver[2],
        "cuda.runtime-version.full": node.cuda_version,
        "cuda.runtime-version.major": cuda[0],
        "cuda.runtime-version.minor": cuda[1],
        "cuda.runtime.major": cuda[0],
        "cuda.runtime.minor": cuda[1],
    }


def _one_or_mixed(values: Iterable[str]) -> str:
    different = set(values)
    return different.pop() if len(different) == 1 else "mixed"


def _family(gpu: GpuFacts) -> str:
    if gpu.compute_capability is None:
        return ""
    major, _ = gpu.compute_capability
    return FAMILIES.get(gpu.compute_capability) or FAMILIES.get((major,), "")


def _mode(pci_class: int) -> str:
    return {PCI_DISPLAY_VGA: "graphics", PCI_DISPLAY_3D: "compute"}.get(pci_class >> 8, "unknown")


def _nvlink(gpus: list[GpuFacts]) -> str:
    """switch: all with all; direct: some with some."""
    ends = {str(link.end) for gpu in gpus for link in gpu.links}
    return "switch" if "switch" in ends else "direct" if "gpu" in ends else "none"
