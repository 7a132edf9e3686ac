"""The labels of a node, and what a card is called."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from gpuslice_agent.topology import GpuFacts, Link, LinkEnd, PciPlace, PlacedGpu, Topology, nfd
from gpuslice_agent.topology.labels import Node, node_labels, valid
from gpuslice_agent.topology.models import canonical

MIB = 1 << 20
NODE = Node("580.95.05", "13.0", machine="DGX A100", shares_per_gpu=1)
A100 = GpuFacts(
    0,
    "GPU-0",
    "NVIDIA A100-SXM4-80GB",
    "0000:07:00.0",
    0x20B210DE,
    81920 * MIB,
    compute_capability=(8, 0),
    links=(Link(LinkEnd.SWITCH, "0000:81:00.0"),),
    mig_capable=True,
)
L4 = GpuFacts(2, "GPU-2", "NVIDIA L4", "0000:af:00.0", 0x27B810DE, 23034 * MIB, (8, 9))


def node_of(*gpus: GpuFacts) -> Topology:
    return Topology(
        tuple(PlacedGpu(one, PciPlace(one.pci_address, pci_class=0x030200)) for one in gpus), ()
    )


@pytest.mark.parametrize(
    ("name", "pci", "memory_mib"),
    [
        ("NVIDIA A100-SXM4-80GB", 0x20B210DE, 81920),
        ("A100-SXM-80GB", 0x20B210DE, 81251),
        ("GRID A100X-80C", 0x20B210DE, 81920),
        ("NVIDIA A100-SXM4-80GB", 0, 81920),  # by its name alone
    ],
)
def test_one_card_has_one_name_whatever_its_cloud_calls_it(
    name: str, pci: int, memory_mib: int
) -> None:
    model = canonical(name, pci, memory_mib * MIB)
    assert (model.name, model.form, model.memory_gib) == ("A100", "SXM4", 80)


@pytest.mark.parametrize(
    ("name", "memory_mib", "right"),
    [
        ("NVIDIA GeForce RTX 4090", 24564, "RTX-4090-24GiB"),
        ("Tesla V100-SXM2-16GB", 16160, "V100-SXM2-16GiB"),
        ("NVIDIA H100 PCIe", 81559, "H100-PCIe-80GiB"),
        ("NVIDIA H100 80GB HBM3", 81559, "H100-80GiB"),
        ("NVIDIA H100 NVL", 95830, "H100-NVL-94GiB"),
        ("Quadro RTX 8000", 46080, "RTX-8000-45GiB"),
        ("NVIDIA", 1024, "GPU-1GiB"),
    ],
)
def test_a_card_that_is_not_in_the_table_is_named_by_its_product_string(
    name: str, memory_mib: int, right: str
) -> None:
    assert str(canonical(name, 0x999910DE, memory_mib * MIB)) == right


def test_what_selects_by_gpu_feature_discovery_goes_on_working() -> None:
    labels = node_labels(node_of(A100, replace(A100, index=1, uuid="GPU-1")), NODE)
    gfd = {name: value for name, value in labels.items() if name.startswith("nvidia.com/")}
    assert gfd == {
        "nvidia.com/cuda.driver-version.full": "580.95.05",
        "nvidia.com/cuda.driver-version.major": "580",
        "nvidia.com/cuda.driver-version.minor": "95",
        "nvidia.com/cuda.driver-version.revision": "05",
        "nvidia.com/cuda.driver.major": "580",
        "nvidia.com/cuda.driver.minor": "95",
        "nvidia.com/cuda.driver.rev": "05",
        "nvidia.com/cuda.runtime-version.full": "13.0",
        "nvidia.com/cuda.runtime-version.major": "13",
        "nvidia.com/cuda.runtime-version.minor": "0",
        "nvidia.com/cuda.runtime.major": "13",
        "nvidia.com/cuda.runtime.minor": "0",
        "nvidia.com/gpu.compute.major": "8",
        "nvidia.com/gpu.compute.minor": "0",
        "nvidia.com/gpu.count": "2",
        "nvidia.com/gpu.family": "ampere",
        "nvidia.com/gpu.machine": "DGX-A100",
        "nvidia.com/gpu.memory": "81920",
        "nvidia.com/gpu.mode": "compute",
        "nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB",
        "nvidia.com/gpu.replicas": "1",
        "nvidia.com/gpu.sharing-strategy": "none",
        "nvidia.com/mig.capable": "true",
        "nvidia.com/mig.strategy": "none",
        "nvidia.com/mps.capable": "false",
        "nvidia.com/vgpu.present": "false",
    }


def test_our_own_labels_say_what_the_card_is() -> None:
    labels = node_labels(node_of(A100), NODE)
    assert labels["gpuslice.io/gpu.model"] == "A100"
    assert labels["gpuslice.io/gpu.form"] == "SXM4"
    assert labels["gpuslice.io/gpu.memory"] == "80GiB"
    assert labels["gpuslice.io/gpu.nvlink"] == "switch"
    assert labels["gpuslice.io/gpu.A100-SXM4-80GiB.count"] == "1"


def test_a_node_with_several_models_counts_each() -> None:
    labels = node_labels(node_of(A100, replace(A100, index=1, uuid="GPU-1"), L4), NODE)
    assert labels["gpuslice.io/gpu.model"] == "mixed"
    assert labels["gpuslice.io/gpu.count"] == "3"
    assert labels["gpuslice.io/gpu.A100-SXM4-80GiB.count"] == "2"
    assert labels["gpuslice.io/gpu.L4-PCIe-24GiB.count"] == "1"
    assert labels["gpuslice.io/gpu.family"] == "mixed"
    # GFD has room for one: that of most, with its own count.
    assert labels["nvidia.com/gpu.product"] == "NVIDIA-A100-SXM4-80GB"
    assert labels["nvidia.com/gpu.count"] == "2"


def test_a_clique_is_told_where_all_gpus_are_in_it() -> None:
    one, other = replace(A100, clique="8b6c.0"), replace(A100, uuid="GPU-1", clique="8b6c.0")
    assert node_labels(node_of(one, other), NODE)["nvidia.com/gpu.clique"] == "8b6c.0"
    apart = replace(other, clique="8b6c.1")
    assert "nvidia.com/gpu.clique" not in node_labels(node_of(one, apart), NODE)


def test_a_node_without_a_gpu_has_none() -> None:
    assert node_labels(node_of(), NODE) == {}


def test_every_label_is_one_that_kubernetes_takes() -> None:
    odd = replace(A100, name="NVIDIA Graphics Device (simulated) " + "x" * 80, pci_device_id=0)
    for name, value in node_labels(node_of(odd), replace(NODE, machine="(none)")).items():
        assert re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", value), (name, value)
        _, _, short = name.partition("/")
        assert re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", short), name


def test_a_value_is_cut_and_cleaned() -> None:
    assert valid("To be filled by O.E.M.") == "To-be-filled-by-O.E.M"
    assert valid("(none)") == "none"


def test_the_feature_file_is_written_when_something_has_changed(tmp_path: Path) -> None:
    labels = node_labels(node_of(A100), NODE)
    assert nfd.write(tmp_path, labels)
    assert not nfd.write(tmp_path, labels)
    assert "gpuslice.io/gpu.model=A100\n" in (tmp_path / nfd.FILE).read_text()
    assert [file.name for file in tmp_path.iterdir()] == [nfd.FILE]
