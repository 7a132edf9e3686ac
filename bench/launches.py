"""Asks tests/programs/launch_loop.c to keep the GPU busy."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpuslice_agent import native_files


@dataclass(frozen=True, slots=True)
class Work:
    launches: int
    start_ns: int
    end_ns: int


def command(program: Path, mode: str, kernel_us: int) -> list[str | Path]:
    options = ["--mode", mode, "--kernel-us", str(kernel_us)]
    return [program, "--ptx", native_files.kernels(), *options]


def wait_until_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout
    if process.stdout.readline() != "ready\n":
        raise RuntimeError("launch_loop did not start")


def work(processes: Sequence[subprocess.Popen[str]], seconds: float) -> list[Work]:
    """All work for so long, at once."""
    for process in processes:
        assert process.stdin
        process.stdin.write(f"{seconds}\n")
        process.stdin.flush()
    done: list[Work] = []
    for process in processes:
        assert process.stdout
        said = json.loads(process.stdout.readline())
        done.append(Work(said["launches"], said["start_ns"], said["end_ns"]))
    return done


def launches_a_second(done: Sequence[Work]) -> float:
    """Of all together, from the first one's start to the last one's end."""
    elapsed_ns = max(work.end_ns for work in done) - min(work.start_ns for work in done)
    return sum(work.launches for work in done) * 1e9 / elapsed_ns
