"""A share of a simulated GPU with its arbiter, for benches: programs of tests/programs run in it
and beside it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gpuslice_agent import native_files, simulation
from gpuslice_agent.enforcement.library import AgentLibrary, Arbiter, OpenShare
from gpuslice_agent.model import Limits

PROGRAMS = Path(__file__).parents[1] / "tests" / "programs"
MEMORY_BYTES = 16 * 2**30


def cuda_headers() -> Path:
    for path in sys.path:
        include = Path(path, "nvidia/cu13/include")
        if (include / "cuda.h").exists():
            return include
    raise FileNotFoundError("cuda.h: pip install nvidia-cuda-runtime")


def build(output: Path, source: str) -> Path:
    """Compiles one of tests/programs against the simulated driver."""
    compiler = os.environ.get("CC", "cc")
    command: list[str | Path] = [
        compiler,
        "-O2",
        f"-I{cuda_headers()}",
        "-o",
        str(output),
        str(PROGRAMS / source),
    ]
    subprocess.run([*command, f"-L{native_files.simulation()}", "-lcuda"], check=True)
    return output


@dataclass(frozen=True, slots=True)
class Share:
    node: simulation.SimNode
    directory: Path

    @contextmanager
    def start(
        self, command: Sequence[str | Path], *, hooked: bool
    ) -> Generator[subprocess.Popen[str]]:
        """`hooked`: in the share, under the shim; otherwise on the bare driver."""
        environment = self.node.environment(os.environ)
        if hooked:
            environment |= {
                "LD_PRELOAD": str(native_files.shim()),
                "GPUSLICE_SHARES": str(self.directory),
            }
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)
        try:
            yield process
        finally:
            process.communicate()


@contextmanager
def share(cores: int) -> Generator[Share]:
    library = AgentLibrary(native_files.agent_library(), native_files.agent_header())
    with simulation.temporary("2xa100-80g", 1) as node:
        shown = subprocess.run(
            [native_files.sim_node_program(), "show", node.path], capture_output=True, check=True
        )
        uuid = json.loads(shown.stdout)["gpus"][0]["uuid"]
        directory = node.path / "share"
        directory.mkdir()
        limits = Limits(cores=cores, memory_bytes=MEMORY_BYTES)
        library.create_files(directory, uuid, "bench", limits, 0)
        files = OpenShare(library, directory)
        arbiter = Arbiter(library)
        try:
            arbiter.add(files)
            yield Share(node, directory)
        finally:
            arbiter.stop()
            files.close()
