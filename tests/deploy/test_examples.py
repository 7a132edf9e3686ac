"""What the examples say of us is so: metrics, labels, resources."""

import re

from prometheus_client.parser import text_string_to_metric_families

from gpuslice_agent.model import Gpu, GpuPath, Limits, Owner, Share, Snapshot
from gpuslice_agent.publish.metrics.content import content
from gpuslice_agent.topology import GpuFacts, PciPlace, PlacedGpu, Topology
from gpuslice_agent.topology.labels import Node, node_labels

from .kubernetes import REPOSITORY

EXAMPLES = sorted((REPOSITORY / "deploy/examples").glob("*.yaml"))
GPU = Gpu(0, "GPU-0", "NVIDIA A100", "0000:07:00.0", 80 << 30, path=GpuPath.PLUGIN)
OWNER = Owner(name="default/one", namespace="default", pod="one", container="main")
SHARE = Share("id", "GPU-0", Limits(50, 1 << 30), OWNER, created_at=0.0)
RESOURCES = {"gpu", "gpucores", "gpumem"}


def texts() -> str:
    return "\n".join(path.read_text() for path in EXAMPLES)


def test_every_metric_that_an_example_names_is_served_with_its_pod() -> None:
    served = {
        sample.name: set(sample.labels)
        for family in content()(Snapshot(gpus=(GPU,), shares=(SHARE,)))
        for parsed in text_string_to_metric_families(family.text_head + family.samples)
        for sample in parsed.samples
    }
    named = set(re.findall(r"\bgpuslice_share_\w+", texts()))
    assert named
    for metric in named:
        assert {"namespace", "pod"} <= served[metric], metric


def test_every_label_that_an_example_selects_by_is_written() -> None:
    facts = GpuFacts(0, "GPU-0", "NVIDIA A100", "0000:07:00.0", 0x20B210DE, 80 << 30, (8, 0))
    topology = Topology((PlacedGpu(facts, PciPlace(facts.pci_address)),))
    written = node_labels(topology, Node("615.0", "13.5"))
    named = re.findall(r"(gpuslice\.io/gpu\.\w+): (\S+)", texts())
    assert named
    assert [written[name] for name, _ in named] == [value for _, value in named]


def test_an_example_asks_for_resources_that_there_are() -> None:
    assert set(re.findall(r"nvidia\.com/(\w+)", texts())) == RESOURCES
