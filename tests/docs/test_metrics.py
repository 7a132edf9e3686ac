"""The tables of docs/ name every metric that is served."""

import re
from pathlib import Path

from gpuslice_agent.publish.metrics.content import content
from gpuslice_agent.publish.metrics.families import Kind

from ..metrics.nodes import full

DOCS = Path(__file__).parents[2] / "docs"
SUFFIX = {Kind.COUNTER: "_total", Kind.INFO: "_info"}


def served(compatibility: str) -> set[str]:
    """The names of samples."""
    families = content(compatibility)(full(1, 1))
    return {family.name + SUFFIX.get(family.kind, "") for family in families}


def named(page: str) -> set[str]:
    """In backquotes. `_more` goes on from the part that the first name of its cell begins with."""
    names: set[str] = set()
    for line in (DOCS / page).read_text().splitlines():
        cell = re.findall(r"`(\w+)`", line)
        first = next((name for name in cell if not name.startswith("_")), "")
        start = "_".join(first.split("_")[:2])
        names |= {start + name if name.startswith("_") else name for name in cell}
    return names


def test_our_own_names_are_in_the_operators_page() -> None:
    assert served("") - named("operations.md") == set()


def test_the_names_of_others_are_in_the_page_of_compatibility() -> None:
    assert served("dcgm,hami") - served("") - named("compatibility.md") == set()
