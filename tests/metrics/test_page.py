"""What is on the page: how much, in which format, and when it is written."""

import gzip
import time
from collections import Counter
from collections.abc import Callable, Iterable
from threading import Thread
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import Metric
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families as text_families

from gpuslice_agent.model import Snapshot
from gpuslice_agent.publish.metrics import page
from gpuslice_agent.publish.metrics.content import content
from gpuslice_agent.publish.metrics.families import Family
from gpuslice_agent.publish.metrics.page import Format, Page, Pages

from .nodes import full, written
from .prometheus import promtool

parser: Any = openmetrics_parser  # without types
openmetrics_families: Callable[[str], Iterable[Metric]] = parser.text_string_to_metric_families
COMPATIBILITIES = ("", "dcgm", "hami", "dcgm,hami")


def series(families: Iterable[Metric]) -> set[tuple[str, frozenset[tuple[str, str]], float]]:
    samples = [sample for family in families for sample in family.samples]
    # The text parser names every counter so, also those of dcgm-exporter, which are not.
    names = [
        one.name.removesuffix("_total") if one.name.startswith("DCGM") else one.name
        for one in samples
    ]
    found = {
        (name, frozenset(one.labels.items()), float(one.value))
        for name, one in zip(names, samples, strict=True)
    }
    assert len(found) == len(samples), "two samples of one series"
    return found


def test_promtool_finds_nothing_to_say_about_the_default_page() -> None:
    result = promtool("check", "metrics", stdin=written(full()))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize("compatibility", COMPATIBILITIES)
def test_both_formats_are_read_by_their_parsers_and_say_the_same(compatibility: str) -> None:
    snapshot = full(gpus=2, shares=3)
    text = series(text_families(written(snapshot, Format.TEXT, compatibility)))
    openmetrics = series(openmetrics_families(written(snapshot, Format.OPENMETRICS, compatibility)))
    # The one value that is of the moment and not of the snapshot.
    moving = "hami_container_last_kernel_elapsed_seconds"
    assert {one for one in text if one[0] != moving} == {
        one for one in openmetrics if one[0] != moving
    }


def test_a_gpu_has_at_most_150_series_and_a_share_8() -> None:
    per_gpu, per_share = Counter[str](), Counter[str]()
    for family in text_families(written(full())):
        for sample in family.samples:
            if "share" in sample.labels:
                per_share[sample.labels["share"]] += 1
            elif "uuid" in sample.labels:
                per_gpu[sample.labels["uuid"]] += 1
    assert len(per_gpu) == 8
    assert max(per_gpu.values()) <= 150
    assert len(per_share) == 640
    assert max(per_share.values()) <= 8


def test_openmetrics_is_told_the_units() -> None:
    families = openmetrics_families(written(full(1, 1), Format.OPENMETRICS))
    units = {family.name: family.unit for family in families}
    assert units["gpuslice_gpu_memory_used_bytes"] == "bytes"
    assert units["gpuslice_share_busy_seconds"] == "seconds"
    assert units["gpuslice_gpu_energy_joules"] == "joules"
    assert units["gpuslice_gpu_processes"] == ""


def test_metrics_of_other_parts_are_on_the_same_page() -> None:
    registry = CollectorRegistry()
    Histogram("gpuslice_kubelet_call_seconds", "Time.", ("method",), registry=registry).labels(
        "Allocate"
    ).observe(0.1)
    snapshot = full(1, 1)
    written_page = Page(snapshot, content()(snapshot), registry)
    for form, read in ((Format.TEXT, text_families), (Format.OPENMETRICS, openmetrics_families)):
        names = {one[0] for one in series(read(written_page.body(form, gzipped=False).decode()))}
        assert {"gpuslice_kubelet_call_seconds_count", "gpuslice_share_processes"} <= names


class Node:
    """Counts how often its page is described."""

    def __init__(self) -> None:
        self.snapshot = full(1, 1)
        self.described = 0
        self.pages = Pages(lambda: self.snapshot, self._describe, CollectorRegistry())

    def _describe(self, snapshot: Snapshot) -> Iterable[Family]:
        self.described += 1
        return content()(snapshot)


def test_a_page_is_written_once_for_a_snapshot_in_whichever_forms_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(page, "STALE_SECONDS", -1.0)  # each time it looks for another snapshot
    node = Node()
    bodies = {
        (form, gzipped): node.pages.body(form, gzipped)
        for _ in range(3)
        for form in Format
        for gzipped in (False, True)
    }
    assert node.described == 1
    for form in Format:
        assert gzip.decompress(bodies[form, True]) == bodies[form, False]
        assert node.pages.body(form, True) is bodies[form, True]


def test_the_next_snapshot_is_written_before_anybody_asks() -> None:
    node = Node()
    node.pages.body(Format.TEXT, True)
    writer = Thread(target=node.pages.keep_fresh)
    writer.start()
    try:
        node.snapshot = full(2, 2)
        deadline = time.monotonic() + 30
        while node.described < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        asked = node.described
        assert b"GPU-00000001" in gzip.decompress(node.pages.body(Format.TEXT, True))
        assert (asked, node.described) == (2, 2)
    finally:
        node.pages.close()
        writer.join()
