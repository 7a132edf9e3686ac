"""Debian's Prometheus and its promtool: of the machine, or unpacked by `make build/prometheus`."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

UNPACKED = Path(__file__).parents[2] / "build/prometheus/usr/bin"


def program(name: str) -> str:
    found = shutil.which(name, path=f"{UNPACKED}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        pytest.skip(f"{name} is not here: `make build/prometheus` fetches it on Debian and Ubuntu")
    return found


def promtool(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program("promtool"), *arguments], input=stdin, text=True, capture_output=True, timeout=60
    )
