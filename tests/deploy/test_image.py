"""The image is small, runs as nobody in particular, and holds what it says."""

import json
import os
import subprocess
import tarfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from . import image

pytestmark = pytest.mark.cluster

SIZE_AT_MOST = 200 * 10**6
SHIM = "opt/gpuslice/lib/python3.11/site-packages/gpuslice_agent/native/libgpuslice.so"


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Generator[Path]:
    """What `docker save` writes: a manifest, the configuration, the layers."""
    folder = tmp_path_factory.mktemp("image")
    with tarfile.open(image.archive()) as archive:
        archive.extractall(folder, filter="data")
    yield folder


@pytest.fixture(scope="session")
def root(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layers on top of each other, as a container sees them."""
    folder = tmp_path_factory.mktemp("root")
    folder.chmod(0o755)  # for its user it is /
    for layer in manifest(unpacked)["Layers"]:
        subprocess.run(["tar", "-xf", unpacked / layer, "-C", folder], check=True)
    return folder


def manifest(unpacked: Path) -> Any:
    return json.loads((unpacked / "manifest.json").read_text())[0]


def settings(unpacked: Path) -> Any:
    return json.loads((unpacked / manifest(unpacked)["Config"]).read_text())["config"]


def run(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """As the user of the image, who may write nothing."""
    return subprocess.run(
        ["chroot", "--userspec=65532:65532", root, *command],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_is_smaller_than_200_mb(unpacked: Path) -> None:
    layers = manifest(unpacked)["Layers"]
    assert sum((unpacked / layer).stat().st_size for layer in layers) < SIZE_AT_MOST


def test_its_user_is_not_root(unpacked: Path) -> None:
    assert settings(unpacked)["User"] == "65532:65532"
    assert settings(unpacked)["Entrypoint"] == ["gpuslice"]


def test_the_command_line_runs_as_its_user(root: Path) -> None:
    done = run(root, "gpuslice", "--version")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("gpuslice ")


def test_the_agent_says_what_it_needs_where_there_is_no_driver(root: Path) -> None:
    done = run(root, "gpuslice", "topo")
    assert done.returncode == 1
    assert "there is no NVIDIA driver here" in done.stderr


def test_every_module_can_be_imported(root: Path) -> None:
    """Also those for Kubernetes, which are imported when a node is named."""
    done = run(root, "/opt/gpuslice/bin/python", "-c", "import gpuslice_plugin.node")
    assert done.returncode == 0, done.stderr


def test_the_shim_in_it_is_the_one_for_old_systems(root: Path) -> None:
    """Tenants' containers have a libc of their own, which may be far older than the agent's."""
    symbols = subprocess.run(
        ["objdump", "-T", root / SHIM], capture_output=True, text=True, check=True
    ).stdout
    needed = {line.partition("GLIBC_")[2].split(")")[0] for line in symbols.splitlines()}
    versions = [tuple(map(int, one.split("."))) for one in needed if one]
    assert versions
    assert max(versions) <= (2, 17)


def test_nothing_of_nvidias_and_no_compiler_is_in_it(root: Path) -> None:
    programs = {path.name for path in root.glob("**/bin/*")}
    assert "gpuslice" in programs
    assert not {"cc", "gcc", "zig", "ziglang", "pip", "cmake", "ninja"} & programs
    assert not list(root.rglob("cuda.h")) + list(root.rglob("libcudart*"))
