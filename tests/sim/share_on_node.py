"""A share of a simulated GPU, programs that run in it, and the truth to compare with.

The share's files are made as the agent makes them; what the node itself counts as physical memory
of a process is the truth.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpuslice_agent import native_files
from gpuslice_agent.enforcement.library import AgentLibrary, OpenShare
from gpuslice_agent.model import Limits
from gpuslice_agent.simulation import SimNode

MIB = 2**20
BLOCK = 2 * MIB
CONTEXT_BYTES = 0  # what a share's grant says a context costs: nothing is known yet


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
    def __init__(self, node: SimNode, directory: Path, memory_bytes: int, gpu: int = 0) -> None:
        self.node = node
        self.memory_bytes = memory_bytes
        uuid = show(node)["gpus"][gpu]["uuid"]
        library = AgentLibrary(native_files.agent_library(), native_files.agent_header())
        self.files = files = directory / "share"
        files.mkdir(parents=True)
        library.create_files(files, uuid, "test", Limits(cores=100, memory_bytes=memory_bytes), 0)
        self._open = OpenShare(library, files)

    def environment(self) -> dict[str, str]:
        return {
            **self.node.environment(os.environ),
            "LD_PRELOAD": str(native_files.shim()),
            "GPUSLICE_SHARES": str(self.files),
        }

    def start(self, *command: str | Path) -> Tenant:
        return Tenant(
            subprocess.Popen(
                command,
                env=self.environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )

    def start_python(self, script: Path, *arguments: str) -> Tenant:
        return self.start(sys.executable, script, *arguments)

    def charged(self) -> int:
        """What the share is charged in all."""
        return self._open.usage().total_bytes

    def held(self) -> int:
        """Physical memory of all processes of the node, as the node counts it."""
        return sum(
            gpu["memory_bytes"]
            for process in show(self.node)["processes"]
            if process["alive"]
            for gpu in process["gpus"]
        )

    def close(self) -> None:
        self._open.close()
