"""The node of one module's tests, and a share on its second GPU."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuslice_agent import simulation

from .entry_programs import LIMIT
from .share_on_node import Share


@pytest.fixture(scope="module")
def node() -> Iterator[simulation.SimNode]:
    with simulation.temporary("2xa100-80g", None) as node:
        yield node


@pytest.fixture
def share(node: simulation.SimNode, tmp_path: Path) -> Iterator[Share]:
    share = Share(node, tmp_path, LIMIT, gpu=1)
    yield share
    share.close()
