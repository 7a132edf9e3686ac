"""The image that the Dockerfile makes, built as image.sh says."""

import subprocess
from pathlib import Path

from ..cluster import cache
from .kubernetes import REPOSITORY

NAME = "gpuslice.test/agent:dev"
SCRIPT = Path(__file__).with_name("image.sh")
# What .dockerignore lets in.
INPUTS = ("Dockerfile", "pyproject.toml", "agent", "plugin", "proto", "native")


def archive() -> Path:
    """As `docker save` writes it; built anew when something that goes into it has changed."""
    key = cache.key(SCRIPT, *(REPOSITORY / one for one in INPUTS))
    return cache.kept(f"agent-image-{key}", _build) / "agent.tar"


def _build(target: Path) -> None:
    subprocess.run([SCRIPT, NAME, target / "agent.tar"], check=True)
