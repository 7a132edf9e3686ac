"""One node with one agent for the tests of a file; between them nothing of a test is left."""

from collections.abc import Iterator

import pytest

from .node import Node, kept_agent, simulated


@pytest.fixture(scope="module")
def whole_node() -> Iterator[Node]:
    with simulated("2xa100-80g") as node, kept_agent(node):
        yield node


@pytest.fixture
def node(whole_node: Node) -> Iterator[Node]:
    yield whole_node
    whole_node.end_all()
