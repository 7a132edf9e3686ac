"""How near the devices of a node are, from sysfs trees of real shapes (derived, not captured)."""

from pathlib import Path

import pytest

from gpuslice_agent.topology import (
    GpuFacts,
    Link,
    LinkEnd,
    PlacedGpu,
    Topology,
    read_nics,
    read_place,
    short_address,
)


class Sysfs:
    """A tree of links as the kernel lays it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def device(self, *path: str, numa: int = 0, cpus: str = "", pci_class: str = "0x030200") -> str:
        """Path from the host bridge down; the device's address is the last."""
        real = self.root / "devices" / Path(*path)
        real.mkdir(parents=True)
        (real / "numa_node").write_text(f"{numa}\n")
        (real / "local_cpulist").write_text(f"{cpus}\n")
        (real / "class").write_text(f"{pci_class}\n")
        link = self.root / "bus/pci/devices" / path[-1]
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(real)
        return path[-1]

    def nic(self, name: str, *path: str, numa: int = 0) -> None:
        address = self.device(*path, numa=numa, pci_class="0x020700")
        real = (self.root / "bus/pci/devices" / address).resolve()
        (real / "net" / f"ib{name[-1]}").mkdir(parents=True)
        folder = self.root / "class/infiniband" / name
        (folder / "ports/1").mkdir(parents=True)
        (folder / "ports/1/link_layer").write_text("InfiniBand\n")
        (folder / "device").symlink_to(real)


def gpu(index: int, address: str, **facts: object) -> GpuFacts:
    return GpuFacts(index, f"GPU-{index}", "NVIDIA A100", address, 0x20B210DE, 80 << 30, **facts)  # type: ignore[arg-type]


@pytest.fixture
def hgx(tmp_path: Path) -> Topology:
    """Two sockets. On the first a GPU and a NIC below one switch, a GPU below the next, a NIC."""
    sysfs = Sysfs(tmp_path)
    root, switch = "pci0000:15", ("0000:15:01.0", "0000:16:00.0")
    sysfs.device(root, *switch, "0000:17:00.0", "0000:18:00.0", cpus="0-23")
    sysfs.nic("mlx5_0", root, *switch, "0000:17:01.0", "0000:19:00.0")
    second = ("0000:17:02.0", "0000:20:00.0")
    sysfs.device(root, *switch, *second, "0000:21:00.0", "0000:22:00.0", cpus="0-23")
    sysfs.nic("mlx5_2", "pci0000:40", "0000:40:01.0", "0000:41:00.0")
    sysfs.nic("mlx5_10", "pci0000:97", "0000:97:01.0", "0000:98:00.0", numa=1)
    sysfs.device("pci0000:97", "0000:97:02.0", "0000:99:00.0", numa=1, cpus="24-47")
    nvlinks = tuple(Link(LinkEnd.SWITCH, f"0000:{0x80 + n:02x}:00.0") for n in range(12))
    addresses = ("0000:18:00.0", "0000:22:00.0", "0000:99:00.0")
    return Topology(
        tuple(
            PlacedGpu(
                gpu(index, address, links=nvlinks[: 12 - 6 * (index == 2)]),
                read_place(tmp_path, address),
            )
            for index, address in enumerate(addresses)
        ),
        read_nics(tmp_path),
    )


def test_each_class_of_nvidia_smi_is_told_from_the_paths(hgx: Topology) -> None:
    near = {nic.name: str(hgx.nic_relation(hgx.gpus[0], nic)) for nic in hgx.nics}
    assert near == {"mlx5_0": "PIX", "mlx5_2": "NODE", "mlx5_10": "SYS"}
    assert str(hgx.nic_relation(hgx.gpus[1], hgx.nics[0])) == "PXB"
    assert str(hgx.nic_relation(hgx.gpus[2], hgx.nics[2])) == "PHB"


def test_gpus_on_nvswitches_count_the_links_of_the_one_that_has_fewer(hgx: Topology) -> None:
    assert str(hgx.gpu_relation(hgx.gpus[0], hgx.gpus[1])) == "NV12"
    assert str(hgx.gpu_relation(hgx.gpus[0], hgx.gpus[2])) == "NV6"
    assert str(hgx.gpu_relation(hgx.gpus[0], hgx.gpus[0])) == "X"


def test_nics_are_in_the_order_of_their_numbers(hgx: Topology) -> None:
    assert [nic.name for nic in hgx.nics] == ["mlx5_0", "mlx5_2", "mlx5_10"]
    assert hgx.nics[0].link_layer == "InfiniBand"
    assert hgx.nics[0].interfaces == ("ib0",)


def test_a_gpu_sends_through_the_nic_of_its_own_switch(hgx: Topology) -> None:
    nearest = [[nic.name for nic in hgx.nearest_nics(one)] for one in hgx.gpus]
    assert nearest == [["mlx5_0"], ["mlx5_0"], ["mlx5_10"]]


def test_a_gpu_without_a_nic_on_its_socket_has_none_near(hgx: Topology) -> None:
    assert Topology(hgx.gpus, hgx.nics[2:]).nearest_nics(hgx.gpus[0]) == ()


def test_the_root_and_the_switch_of_a_device_are_named(hgx: Topology) -> None:
    assert (hgx.gpus[0].place.root, hgx.gpus[0].place.switch) == ("pci0000:15", "0000:16:00.0")
    assert (hgx.gpus[2].place.root, hgx.gpus[2].place.switch) == ("pci0000:97", "")


def test_direct_nvlinks_are_counted_to_each_peer() -> None:
    one = gpu(0, "0000:07:00.0", links=tuple(Link(LinkEnd.GPU, "0000:0f:00.0") for _ in range(4)))
    other = gpu(1, "0000:0f:00.0")
    third = gpu(2, "0000:47:00.0", levels=(("GPU-0", 20),))
    gpus = tuple(PlacedGpu(one, read_place(Path("/none"), "")) for one in (one, other, third))
    topology = Topology(gpus, ())
    assert str(topology.gpu_relation(gpus[0], gpus[1])) == "NV4"
    assert str(topology.gpu_relation(gpus[2], gpus[0])) == "PXB"


def test_where_sysfs_does_not_know_the_gpu_nvml_says_its_numa_node(tmp_path: Path) -> None:
    """As in many virtual machines, and on the simulated node."""
    facts = gpu(0, "0000:07:00.0", numa_node=1, cpus="8-15")
    placed = PlacedGpu(facts, read_place(tmp_path, facts.pci_address))
    assert (placed.numa_node, placed.cpus, placed.place.root) == (1, "8-15", "")


def test_a_numa_node_that_the_firmware_does_not_say_is_none(tmp_path: Path) -> None:
    Sysfs(tmp_path).device("pci0000:00", "0000:00:04.0", numa=-1)
    assert read_place(tmp_path, "0000:00:04.0").numa_node is None


@pytest.mark.parametrize(
    ("nvml", "sysfs"),
    [("00000000:1B:00.0", "0000:1b:00.0"), ("00010000:00:00.0", "10000:00:00.0")],
)
def test_addresses_are_written_as_the_kernel_does(nvml: str, sysfs: str) -> None:
    assert short_address(nvml) == sysfs
