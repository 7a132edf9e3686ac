"""The release build runs in old and new Debian systems that have nothing but libc.

The whole release build goes there (shim, simulated node, a C client); the share is made from
outside, as a container gets its share. Root and debootstrap make the systems, see chroots.sh.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuslice_agent.enforcement.library import AgentLibrary
from gpuslice_agent.model import Limits

REPOSITORY = Path(__file__).parents[2]
HERE = Path(__file__).parent
NATIVE = REPOSITORY / "build" / "release" / "gpuslice_agent" / "native"
LIMIT = 2**30
CONTEXT = 106 * 2**20  # what one takes on a T4, simulated or not
BLOCK = 2 * 2**20
OUT_OF_MEMORY = 2

pytestmark = pytest.mark.skipif(
    os.getuid() != 0 or shutil.which("debootstrap") is None,
    reason="needs root and debootstrap",
)


class System:
    """A Debian system with the release build in a folder of it."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root = root
        self.folder = folder

    def inside(self, path: Path) -> str:
        return "/" + str(path.relative_to(self.root))

    def run(self, *command: str, **environment: str) -> str:
        # /proc in a mount namespace of its own: nothing is left to unmount.
        script = 'mount -t proc proc "$1/proc" && exec chroot "$@"'
        settings = [f"{name}={value}" for name, value in environment.items()]
        inside = ("/usr/bin/env", *settings, *command)
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", script, "sh", self.root, *inside],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return done.stdout


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("client") / "client"
    target = ("-target", "x86_64-linux-gnu.2.17")
    subprocess.run(
        [sys.executable, "-m", "ziglang", "cc", *target, "-o", program, HERE / "client.c", "-ldl"],
        check=True,
    )
    return program


@pytest.fixture(params=["bullseye", "bookworm", "trixie"])
def system(request: pytest.FixtureRequest, client: Path) -> Iterator[System]:
    assert NATIVE.exists(), "run `make release-shim` first"
    made = subprocess.run(
        [HERE / "chroots.sh", request.param], stdout=subprocess.PIPE, text=True, check=True
    )
    root = Path(made.stdout.strip())
    with tempfile.TemporaryDirectory(dir=root / "opt") as name:
        folder = Path(name)
        shutil.copytree(NATIVE, folder / "native", symlinks=True)
        shutil.copy(client, folder)
        yield System(root, folder)


def test_the_limit_holds_in_that_system(system: System) -> None:
    libraries = system.folder / "native" / "sim"
    node, share = system.folder / "node", system.folder / "share"
    tool = system.inside(libraries / "gpuslice-sim-node")
    system.run(tool, "create", system.inside(node), "--profile", "t4")
    gpu = json.loads(system.run(tool, "show", system.inside(node)))["gpus"][0]

    share.mkdir()
    library = AgentLibrary(NATIVE / "libgpuslice_agent.so", NATIVE / "agent.h")
    library.create_files(share, gpu["uuid"], "old-system", Limits(30, LIMIT), CONTEXT)

    printed = system.run(
        system.inside(system.folder / "client"),
        LD_PRELOAD=system.inside(system.folder / "native" / "libgpuslice.so"),
        LD_LIBRARY_PATH=system.inside(libraries),
        GPUSLICE_SIM_NODE=system.inside(node),
        GPUSLICE_SHARES=system.inside(share),
    )
    total, free, taken, status = (int(word) for word in printed.split())
    assert (total, status) == (LIMIT, OUT_OF_MEMORY)
    assert free - BLOCK <= taken <= free <= LIMIT - CONTEXT


def test_a_program_without_cuda_starts_and_ends_as_ever(system: System) -> None:
    shim = system.inside(system.folder / "native" / "libgpuslice.so")
    assert system.run("/bin/echo", "as ever", LD_PRELOAD=shim) == "as ever\n"
