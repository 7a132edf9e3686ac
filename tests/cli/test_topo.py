"""`gpuslice topo`: the matrix of `nvidia-smi topo -m`, and the same for programs."""

import json
import os

from gpuslice_agent import simulation

from .conftest import Cli


def test_the_matrix_of_a_node_with_nvswitches_and_nics() -> None:
    with simulation.temporary("dgx-h100", None) as node:
        done = Cli(node.environment(os.environ))("topo")
    assert done.returncode == 0, done.stderr
    head, first, *_ = done.stdout.splitlines()
    assert head.split()[:9] == [*(f"GPU{n}" for n in range(8)), "NIC0"]
    # Its own NIC is on its switch, three more are at its socket, four at the other.
    assert first.split()[1:17] == ["X", *["NV18"] * 7, "PIX", *["NODE"] * 3, *["SYS"] * 4]
    assert first.split()[-1] == "0"
    assert "NIC7: mlx5_7" in done.stdout


def test_programs_get_addresses_links_and_the_nearest_nics() -> None:
    with simulation.temporary("dgx-h100", 2) as node:
        done = Cli(node.environment(os.environ))("topo", "--json")
    first, second = json.loads(done.stdout)["gpus"]
    assert first["model"] == {"name": "H100", "form": "SXM5", "memory_gib": 80}
    assert (first["pci"], first["pcie_root"]) == ("0000:1b:00.0", "pci0000:17")
    assert first["pcie_switch"] == "0000:18:00.0"
    assert first["gpus"] == {second["uuid"]: "NV18"}
    assert first["nearest_nics"] == ["mlx5_0"]
    assert {one["end"] for one in first["nvlinks"]} == {"switch"}


def test_gpus_without_nvswitches_count_their_direct_links(on_node: Cli) -> None:
    done = on_node("topo", "--json")
    first, second = json.loads(done.stdout)["gpus"]
    assert first["gpus"] == {second["uuid"]: "NV12"}
    assert {one["pci"] for one in first["nvlinks"]} == {second["pci"]}
    assert json.loads(done.stdout)["nics"] == []
