"""The processes of the demo's tenants: each under `gpuslice run`, as a user would start it."""

import json
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from gpuslice_agent import native_files
from gpuslice_agent.errors import GpusliceError

TENANT = (sys.executable, "-m", "gpuslice_agent.demo.tenant")
RUN = (sys.executable, "-m", "gpuslice_agent.cli", "run")


class TenantError(GpusliceError):
    """A tenant of the demo did not do its work."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What one tenant asks for."""

    gpu_uuid: str
    cores: int
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Memory:
    """What one tenant got."""

    free_bytes: int  # said to be free when its context was there
    total_bytes: int  # said to be there in all
    taken_bytes: int  # allocated in the end
    refused: bool  # one more block was refused


@dataclass(frozen=True, slots=True)
class Tenant:
    ask: Ask
    process: subprocess.Popen[str]

    @property
    def pid(self) -> int:
        return self.process.pid  # also the program's: `run` becomes it

    def memory(self) -> Memory:
        return Memory(**_read(self.process))

    def go(self) -> None:
        self._tell("go")

    def finish(self) -> None:
        self._tell("stop")
        _read(self.process)

    def _tell(self, word: str) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended: what it says next is nothing
            self.process.stdin.write(word + "\n")
            self.process.stdin.flush()


@contextmanager
def start(ask: Ask, environment: Mapping[str, str], steps_per_us: int) -> Generator[Tenant]:
    share = ("--gpu", ask.gpu_uuid, "--cores", str(ask.cores), "--mem", str(ask.memory_bytes))
    work = (*_kernels(), "--steps-per-us", str(steps_per_us))
    process = subprocess.Popen(
        [*RUN, *share, "--", *TENANT, *work],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield Tenant(ask, process)
    finally:
        process.kill()
        process.communicate()


def calibrate(environment: Mapping[str, str]) -> int:
    """Steps of the demo's kernel in a microsecond of this GPU."""
    with subprocess.Popen(
        [*TENANT, *_kernels(), "--calibrate"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        return int(_read(process)["steps_per_us"])


def _kernels() -> tuple[str, str]:
    return "--ptx", str(native_files.kernels())


def _read(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None and process.stderr is not None
    if line := process.stdout.readline():
        words: dict[str, Any] = json.loads(line)
        return words
    said = process.stderr.read().strip().splitlines()
    status = process.wait()
    last = said[-1].removeprefix("gpuslice: ") if said else f"it ended with status {status}"
    raise TenantError(f"A tenant of the demo failed: {last}")
