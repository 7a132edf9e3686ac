"""A control plane alone, without a kubelet: up in seconds, and it judges as a real one does."""

import os
from collections.abc import Generator

import pytest

from ..cluster import binaries, node
from ..cluster.control_plane import ControlPlane
from .kubernetes import Kubernetes


@pytest.fixture(scope="session")
def kubernetes() -> Generator[Kubernetes]:
    """With deploy/base applied."""
    lease, held = os.pipe()  # it does not outlive this process
    name = f"deploy-{os.getpid()}"
    plane = ControlPlane(node.start(name, lease), binaries.kubernetes(binaries.NEWEST))
    try:
        plane.start()
        found = Kubernetes(plane)
        found.install()
        yield found
    finally:
        os.close(lease)
        os.close(held)
        node.remove(name)
