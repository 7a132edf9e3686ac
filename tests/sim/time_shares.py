"""Shares of one simulated GPU, their arbiter, and programs that keep the GPU busy.

The truth is the GPU time that the simulated node counted for each process, over the time in which
the tenant had work: from the start of its first program to the end of its last one.
"""

import json
import os
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gpuslice_agent import native_files
from gpuslice_agent.enforcement.library import AgentLibrary, Arbiter, OpenShare
from gpuslice_agent.errors import CorruptShareError
from gpuslice_agent.model import Limits, Policy
from gpuslice_agent.simulation import SimNode

from .c_programs import KERNELS
from .share_on_node import show

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Load:
    """What one program does: see tests/programs/launch_loop.c."""

    mode: str
    kernel_us: float


@dataclass(frozen=True, slots=True)
class Used:
    """Percent of GPU time while the tenant had work: really, and as the share was charged."""

    percent: float
    charged: float
    launches: int


@dataclass
class Tenant:
    directory: Path
    share: OpenShare
    programs: list[subprocess.Popen[str]]


def busy_by_pid(node: SimNode) -> dict[int, int]:
    return {
        process["pid"]: sum(gpu["busy_ns"] for gpu in process["gpus"])
        for process in show(node)["processes"]
    }


class TimeShares:
    """The tenants of the node's first GPU. `paced`: by an arbiter, as where the agent runs."""

    def __init__(self, node: SimNode, directory: Path, program: Path, paced: bool = True) -> None:
        self._node = node
        self._directory = directory
        self._program = program
        self._library = AgentLibrary(native_files.agent_library(), native_files.agent_header())
        self.arbiter = Arbiter(self._library) if paced else None
        self._tenants: list[Tenant] = []

    def add(self, cores: int, *loads: Load, policy: Policy = Policy.HARD) -> Tenant:
        directory = self._directory / f"share{len(self._tenants)}"
        directory.mkdir(parents=True)
        limits = Limits(cores=cores, memory_bytes=16 * GIB, policy=policy)
        uuid = show(self._node)["gpus"][0]["uuid"]
        self._library.create_files(directory, uuid, directory.name, limits, 0)
        tenant = Tenant(directory, OpenShare(self._library, directory), [])
        if self.arbiter:
            self.arbiter.add(tenant.share)
        tenant.programs = [self._start(directory, load) for load in loads]
        self._tenants.append(tenant)
        return tenant

    def environment(self, directory: Path) -> dict[str, str]:
        return {
            **self._node.environment(os.environ),
            "LD_PRELOAD": str(native_files.shim()),
            "GPUSLICE_SHARES": str(directory),
        }

    def _start(self, directory: Path, load: Load) -> subprocess.Popen[str]:
        command = [
            str(self._program),
            *("--ptx", str(KERNELS), "--mode", load.mode, "--kernel-us", str(load.kernel_us)),
        ]
        program = subprocess.Popen(
            command,
            env=self.environment(directory),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert program.stdout and program.stdout.readline() == "ready\n"
        return program

    def run(self, seconds: float) -> list[Used]:
        """All programs at once; what each tenant used, in the order they were added."""
        before = busy_by_pid(self._node)
        charged = [self._charged(tenant) for tenant in self._tenants]
        for tenant in self._tenants:
            for program in tenant.programs:
                assert program.stdin
                program.stdin.write(f"{seconds}\n")
                program.stdin.flush()
        said = [[self._said(program) for program in t.programs] for t in self._tenants]
        after = busy_by_pid(self._node)
        return [
            self._used(tenant, words, before, after, old)
            for tenant, words, old in zip(self._tenants, said, charged, strict=True)
        ]

    @staticmethod
    def _said(program: subprocess.Popen[str]) -> dict[str, int]:
        assert program.stdout
        return dict(json.loads(program.stdout.readline()))

    @staticmethod
    def _charged(tenant: Tenant) -> int:
        """GPU time in ns; 0 where a hostile tenant keeps its usage from being read."""
        try:
            return tenant.share.usage().busy_ns
        except CorruptShareError:
            return 0

    @staticmethod
    def _used(
        tenant: Tenant,
        said: list[dict[str, int]],
        before: dict[int, int],
        after: dict[int, int],
        charged_before: int,
    ) -> Used:
        worked = max(word["end_ns"] for word in said) - min(word["start_ns"] for word in said)
        busy = sum(after[program.pid] - before[program.pid] for program in tenant.programs)
        charged = TimeShares._charged(tenant) - charged_before
        launches = sum(word["launches"] for word in said)
        return Used(100 * busy / worked, 100 * charged / worked, launches)

    def close(self) -> None:
        for tenant in self._tenants:
            for program in tenant.programs:
                program.kill()
                program.communicate()
            if self.arbiter:
                self.arbiter.remove(tenant.share)
            tenant.share.close()
        if self.arbiter:
            self.arbiter.stop()


@contextmanager
def time_shares(
    node: SimNode, directory: Path, program: Path, paced: bool = True
) -> Generator[TimeShares]:
    shares = TimeShares(node, directory, program, paced)
    try:
        yield shares
    finally:
        shares.close()
