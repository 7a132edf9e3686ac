"""The image that the Dockerfile makes, built as image.sh says."""

import fcntl
import subprocess
from pathlib import Path

from ..cluster import cache
from .kubernetes import REPOSITORY

NAME = "gpuslice.test/agent:dev"
SCRIPT = Path(__file__).with_name("image.sh")
# What .dockerignore lets in.
INPUTS = ("Dockerfile", "pyproject.toml", "agent", "plugin", "proto", "native")


def archive() -> Path:
    """As `docker save` writes it; built anew when something that goes into it has changed.

    One for each checkout, not for each state of it: it is large, and changes with every commit.
    """
    folder = cache.directory() / f"agent-image-{cache.key(str(REPOSITORY))}"
    folder.mkdir(exist_ok=True)
    built_from, found = folder / "key", folder / "agent.tar"
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        key = cache.key(SCRIPT, *(REPOSITORY / one for one in INPUTS))
        if not built_from.exists() or built_from.read_text() != key:
            built_from.unlink(missing_ok=True)
            subprocess.run([SCRIPT, NAME, found], check=True)
            built_from.write_text(key)
    return found
