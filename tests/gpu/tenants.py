"""Programs under `gpuslice run`, and beside it, on the first GPU."""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpuslice_agent import native_files
from gpuslice_agent.enforcement.library import AgentLibrary, OpenShare

MIB = 2**20
GPUSLICE = (sys.executable, "-m", "gpuslice_agent.cli")
# Bringing up a GPU that sleeps and loading CUDA, on a slow disk.
PATIENCE_SECONDS = 60.0

Command = tuple[str | Path, ...]


def share_of(*, mem: int, cores: int = 100) -> tuple[str, ...]:
    """The front of a command that runs in a share."""
    return (*GPUSLICE, "run", "--gpu", "0", "--cores", str(cores), "--mem", str(mem), "--")


def python_client() -> tuple[str, ...]:
    """Python that finds cuda-bindings, also where only GPUSLICE_TEST_CLIENTS has it.

    Not for every program: other libraries bring a version of their own.
    """
    folders = [os.environ.get("GPUSLICE_TEST_CLIENTS"), os.environ.get("PYTHONPATH")]
    return ("env", "PYTHONPATH=" + ":".join(filter(None, folders)), sys.executable)


def run(*command: str | Path, seconds: float = PATIENCE_SECONDS) -> str:
    """What the program says; that it failed is told with its last words."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, f"status {done.returncode}: {done.stderr.strip()}"
    return done.stdout


def answer(*command: str | Path, seconds: float = PATIENCE_SECONDS) -> dict[str, Any]:
    return dict(json.loads(run(*command, seconds=seconds)))


@dataclass
class Tenant:
    """A program that says a line of JSON and goes on when it gets one."""

    process: subprocess.Popen[bytes]
    _heard: bytes = b""

    def hears(self, line: str = "") -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def says_line(self, seconds: float = PATIENCE_SECONDS) -> str:
        line = self.line(seconds)
        assert line, self._last_words()
        return line

    def says_until_it_ends(self) -> Iterator[dict[str, Any]]:
        while line := self.line():
            yield dict(json.loads(line))

    def line(self, seconds: float = PATIENCE_SECONDS) -> str:
        """Empty at the end of its output."""
        assert self.process.stdout
        end = time.monotonic() + seconds
        while b"\n" not in self._heard:
            readable, _, _ = select.select([self.process.stdout], [], [], end - time.monotonic())
            assert readable, f"no word within {seconds:.0f} s"
            chunk = os.read(self.process.stdout.fileno(), 65536)
            if not chunk:
                return ""
            self._heard += chunk
        line, _, self._heard = self._heard.partition(b"\n")
        return line.decode()

    def says(self, seconds: float = PATIENCE_SECONDS) -> dict[str, Any]:
        return dict(json.loads(self.says_line(seconds)))

    def ends(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        status = self.process.wait(PATIENCE_SECONDS)
        assert status == 0, self._last_words()

    def _last_words(self) -> str:
        assert self.process.stderr
        status = self.process.wait(PATIENCE_SECONDS)
        return f"status {status}: {self.process.stderr.read().decode().strip()}"


@contextmanager
def started(*command: str | Path, beside: Tenant | None = None) -> Generator[Tenant]:
    """`beside`: in the share of that tenant, as a child of it would be."""
    pipe = subprocess.PIPE
    environment = environment_of(beside) if beside else None
    process = subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0, env=environment
    )
    try:
        yield Tenant(process)
    finally:
        process.kill()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                stream.close()
        process.wait(PATIENCE_SECONDS)


def environment_of(tenant: Tenant) -> dict[str, str]:
    """Waits until `run` has become the program."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        words = Path(f"/proc/{tenant.process.pid}/environ").read_bytes().decode().split("\0")
        environment = dict(word.split("=", 1) for word in words if "=" in word)
        if "GPUSLICE_SHARES" in environment:
            return environment
        time.sleep(0.01)
    raise AssertionError("`gpuslice run` does not become the program")


@contextmanager
def share_files(tenant: Tenant) -> Generator[OpenShare]:
    """The account of the share that `run` gave this program."""
    library = AgentLibrary(native_files.agent_library(), native_files.agent_header())
    files = OpenShare(library, Path(environment_of(tenant)["GPUSLICE_SHARES"]))
    try:
        yield files
    finally:
        files.close()
