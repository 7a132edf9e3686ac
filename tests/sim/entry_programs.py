"""The clients of tests/programs/entry*.c, run in a share that is 1 GiB."""

import json
import subprocess
from pathlib import Path
from typing import Any

from .c_programs import build
from .share_on_node import BLOCK, MIB

LIMIT = 1024 * MIB
OUT_OF_MEMORY = 2


def build_clients(folder: Path) -> Path:
    build(folder / "direct", "entry.c", "entry_direct.c", flags=("-lcuda",))
    build(folder / "fork", "entry_fork.c", flags=("-lcuda",))
    return folder


def run(command: list[str | Path], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def answer_line(command: list[str | Path], environment: dict[str, str]) -> str:
    done = run(command, environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def answer(command: list[str | Path], environment: dict[str, str]) -> dict[str, Any]:
    return dict(json.loads(answer_line(command, environment)))


def assert_holds(said: dict[str, Any]) -> None:
    """All that was called free could be allocated, within a block, and no more."""
    assert said["total"] == LIMIT
    assert said["refusal"] == OUT_OF_MEMORY
    assert said["free"] - BLOCK <= said["allocated"] <= said["free"] <= LIMIT
    assert said["free_afterwards"] == said["free"]
