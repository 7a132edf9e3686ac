"""The driver libraries of a node as an agent in a container finds them."""

from pathlib import Path

from gpuslice_agent.driver_files import DriverFiles, resolved

LIBRARY = "usr/lib/x86_64-linux-gnu"


def node_with_driver(root: Path, version: str, folder: str = LIBRARY) -> None:
    """As NVIDIA's installer leaves it: sonames are relative links."""
    libraries = root / folder
    libraries.mkdir(parents=True, exist_ok=True)
    for name in ("libnvidia-ml", "libcuda", "libnvidia-ptxjitcompiler"):
        (libraries / f"{name}.so.{version}").write_text(f"{name} {version}")
        (libraries / f"{name}.so.1").unlink(missing_ok=True)
        (libraries / f"{name}.so.1").symlink_to(f"{name}.so.{version}")
    (libraries / "libc.so.6").write_text("the node's libc")


def linked(root: Path, links: Path) -> dict[str, str]:
    DriverFiles(root, links).link()
    return {link.name: link.read_text() for link in links.iterdir()}


def test_the_driver_of_the_node_is_linked_and_its_libc_is_not(tmp_path: Path) -> None:
    node_with_driver(tmp_path / "host", "580.95.05")
    found = linked(tmp_path / "host", tmp_path / "links")
    assert found["libnvidia-ml.so.1"] == "libnvidia-ml 580.95.05"
    assert found["libcuda.so.1"] == "libcuda 580.95.05"
    assert found["libnvidia-ptxjitcompiler.so.580.95.05"] == "libnvidia-ptxjitcompiler 580.95.05"
    assert "libc.so.6" not in found


def test_an_absolute_link_is_followed_inside_the_node(tmp_path: Path) -> None:
    host = tmp_path / "host"
    node_with_driver(host, "535.261.03", "usr/lib/x86_64-linux-gnu/nvidia/tesla-535")
    alternatives = host / "etc/alternatives"
    alternatives.mkdir(parents=True)
    folder = "/usr/lib/x86_64-linux-gnu/nvidia/tesla-535"
    (alternatives / "nvidia--libnvidia-ml.so.1").symlink_to(f"{folder}/libnvidia-ml.so.1")
    (host / LIBRARY / "libnvidia-ml.so.1").symlink_to("/etc/alternatives/nvidia--libnvidia-ml.so.1")
    assert linked(host, tmp_path / "links") == {"libnvidia-ml.so.1": "libnvidia-ml 535.261.03"}


def test_the_driver_of_the_gpu_operators_container_is_found(tmp_path: Path) -> None:
    node_with_driver(tmp_path / "host/run/nvidia/driver", "595.1.1", "usr/lib64")
    found = linked(tmp_path / "host", tmp_path / "links")
    assert found["libcuda.so.1"] == "libcuda 595.1.1"


def test_a_driver_that_comes_later_or_is_replaced_is_linked_anew(tmp_path: Path) -> None:
    host, links = tmp_path / "host", tmp_path / "links"
    host.mkdir()
    assert linked(host, links) == {}
    node_with_driver(host, "580.95.05")
    assert linked(host, links)["libcuda.so.1"] == "libcuda 580.95.05"
    (host / LIBRARY / "libcuda.so.580.95.05").unlink()
    node_with_driver(host, "595.1.1")
    found = linked(host, links)
    assert found["libcuda.so.1"] == "libcuda 595.1.1"
    assert "libcuda.so.580.95.05" not in found


def test_a_link_never_leads_out_of_the_node(tmp_path: Path) -> None:
    host = tmp_path / "host"
    host.mkdir()
    (host / "up").symlink_to("../../../../etc/passwd")
    (host / "round").symlink_to("round")
    assert resolved(host / "up", host) == host / "etc/passwd"
    assert resolved(host / "round", host) == host / "round"


def test_where_the_agents_root_is_the_nodes_nothing_is_linked(tmp_path: Path) -> None:
    files = DriverFiles(Path("/"), tmp_path / "links")
    files.link()
    assert files.search_path is None
    assert not (tmp_path / "links").exists()
