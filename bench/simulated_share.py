"""Shares of one simulated GPU with their arbiter, for benches: programs of tests/programs run in
them and beside them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from gpuslice_agent import native_files, simulation
from gpuslice_agent.enforcement.library import AgentLibrary, Arbiter, OpenShare
from gpuslice_agent.model import Limits

PROGRAMS = Path(__file__).parents[1] / "tests" / "programs"
MEMORY_BYTES = 16 * 2**30
GPU = "simulated A100"


def cuda_headers() -> Path:
    for path in sys.path:
        include = Path(path, "nvidia/cu13/include")
        if (include / "cuda.h").exists():
            return include
    raise FileNotFoundError("cuda.h: pip install nvidia-cuda-runtime")


def build(output: Path, source: str) -> Path:
    """Compiles one of tests/programs against the simulated driver."""
    compiler = os.environ.get("CC", "cc")
    command: list[str | Path] = [compiler, "-O2", f"-I{cuda_headers()}", "-o", output]
    library = [f"-L{native_files.simulation()}", "-lcuda"]
    subprocess.run([*command, PROGRAMS / source, *library], check=True)
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
def shares(*cores: int) -> Generator[list[Share]]:
    """One share for each number of cores, on the same GPU."""
    library = AgentLibrary(native_files.agent_library(), native_files.agent_header())
    with ExitStack() as stack:
        node = stack.enter_context(simulation.temporary("2xa100-80g", 1))
        uuid = gpu_uuid(node)
        made = [Share(node, node.path / f"share-{number}") for number in range(len(cores))]
        opened: list[OpenShare] = []
        for share, percent in zip(made, cores, strict=True):
            share.directory.mkdir()
            limits = Limits(cores=percent, memory_bytes=MEMORY_BYTES)
            library.create_files(share.directory, uuid, share.directory.name, limits, 0)
            opened.append(stack.enter_context(closing(OpenShare(library, share.directory))))
        arbiter = Arbiter(library)
        stack.callback(arbiter.stop)
        for files in opened:
            arbiter.add(files)
        yield made


def gpu_uuid(node: simulation.SimNode) -> str:
    command: list[str | Path] = [native_files.sim_node_program(), "show", node.path]
    shown = subprocess.run(command, capture_output=True, check=True)
    return str(json.loads(shown.stdout)["gpus"][0]["uuid"])
