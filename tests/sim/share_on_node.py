"""A share of a simulated GPU, programs that run in it, and the truth to compare with.

The share's files are made as the agent makes them; what the node itself counts as physical memory
of a process is the truth.
"""

import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpuslice_agent import native_files
from gpuslice_agent.enforcement.library import AgentLibrary, OpenShare, Slot
from gpuslice_agent.model import Limits
from gpuslice_agent.simulation import SimNode

MIB = 2**20
BLOCK = 2 * MIB
# Pools and graph memory grow by this much, as NVIDIA's driver 580 grows them.
GROWTH = 32 * MIB
GROWN = (
    "cuMemAllocAsync",
    "cuMemAllocFromPoolAsync",
    "cuGraphAddMemAllocNode",
    "cuStreamBeginCapture",
)


def show(node: SimNode) -> dict[str, Any]:
    program = native_files.sim_node_program()
    shown = subprocess.run([program, "show", node.path], capture_output=True, check=True)
    return dict(json.loads(shown.stdout))


@dataclass
class Tenant:
    """A program that says a line of JSON and goes on when it gets a line."""

    process: subprocess.Popen[str]

    def says(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, self.error()
        return dict(json.loads(line))

    def goes_on(self) -> None:
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def error(self) -> str:
        assert self.process.stderr
        self.process.wait()
        return f"status {self.process.returncode}: {self.process.stderr.read()}"

    def ends(self) -> None:
        _, errors = self.process.communicate(timeout=30)
        assert self.process.returncode == 0, errors
        assert errors == ""


class Share:
    """`overhead_bytes` is what the agent has measured of a context; 0: nothing yet."""

    def __init__(
        self,
        node: SimNode,
        directory: Path,
        memory_bytes: int,
        gpu: int = 0,
        overhead_bytes: int = 0,
    ) -> None:
        self.node = node
        self.memory_bytes = memory_bytes
        uuid = show(node)["gpus"][gpu]["uuid"]
        library = AgentLibrary(native_files.agent_library(), native_files.agent_header())
        self.files = files = directory / "share"
        files.mkdir(parents=True)
        limits = Limits(cores=100, memory_bytes=memory_bytes)
        library.create_files(files, uuid, "test", limits, overhead_bytes)
        self._open = OpenShare(library, files)
        self._processes: list[subprocess.Popen[str]] = []

    def environment(self) -> dict[str, str]:
        return {
            **self.node.environment(os.environ),
            "LD_PRELOAD": str(native_files.shim()),
            "GPUSLICE_SHARES": str(self.files),
        }

    def start(self, *command: str | Path) -> Tenant:
        process = subprocess.Popen(
            command,
            env=self.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._processes.append(process)
        return Tenant(process)

    def start_python(self, script: Path, *arguments: str) -> Tenant:
        return self.start(sys.executable, script, *arguments)

    def charged(self) -> int:
        """What the live processes of the share are charged."""
        return self._open.usage().held_bytes

    def processes(self) -> tuple[Slot, ...]:
        return self._open.usage().slots

    def pinned(self) -> int:
        """Host memory that its live processes have pinned, as their slots say."""
        return sum(slot.pinned_bytes for slot in self.processes())

    def held(self) -> int:
        """Physical memory of all processes of the node, as the node counts it."""
        return sum(
            gpu["memory_bytes"]
            for process in show(self.node)["processes"]
            if process["alive"]
            for gpu in process["gpus"]
        )

    def close(self) -> None:
        """Ends what still runs in it, too."""
        for process in self._processes:
            process.kill()
            for stream in (process.stdin, process.stdout, process.stderr):
                with suppress(BrokenPipeError):
                    stream.close() if stream else None
            process.wait()
        self._open.close()
