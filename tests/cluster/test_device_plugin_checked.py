"""Where a cluster cannot write out what pods ask for: refused, with the line to write instead."""

from collections.abc import Iterator

import pytest

from gpuslice_plugin.device_plugin.asks import parse, sums

from .cluster import Cluster
from .policies import ANNOTATION, RIGHT, WRONG, applied, asking, dry_run, refusal


@pytest.fixture(scope="module")
def checking(bare: Cluster) -> Iterator[Cluster]:
    yield from applied(bare, "checked", lambda: bool(refusal(bare, "gpu=2")))


@pytest.mark.parametrize("text", WRONG)
def test_what_is_counted_wrong_is_refused_and_passes_as_told(checking: Cluster, text: str) -> None:
    said = refusal(checking, text)
    for pair in str(sums(parse(text))).split(","):
        assert "nvidia.com/" + pair.replace("=", ": ") in said
    followed = asking(str(sums(parse(text))))
    followed["metadata"]["annotations"] = {ANNOTATION: text} if "annotation" in said else {}
    dry_run(checking, followed)


@pytest.mark.parametrize("text", RIGHT)
def test_what_is_counted_right_passes(checking: Cluster, text: str) -> None:
    assert refusal(checking, text) == ""
