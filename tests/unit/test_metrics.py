"""What Prometheus reads, by its own parser."""

import socket
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from gpuslice_agent.config import Config
from gpuslice_agent.errors import PublishError
from gpuslice_agent.mig import MigDevice, MigPlace
from gpuslice_agent.model import (
    Limits,
    Owner,
    OwnerKind,
    Process,
    Reading,
    ShareState,
    Snapshot,
    Usage,
)
from gpuslice_agent.publish.metrics import serve_metrics
from gpuslice_agent.publish.metrics.content import content
from gpuslice_agent.publish.metrics.page import Format, Page

from .nodes import GIB, gpu, node, share

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parsed(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scraped(snapshot: Snapshot) -> Samples:
    page = Page(snapshot, content()(snapshot), CollectorRegistry())
    return parsed(page.body(Format.TEXT, gzipped=False).decode())


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


NO_POD = {"namespace": "", "pod": "", "container": ""}
ON = gpu(reading=Reading(memory_used_bytes=5 * GIB, utilization_ratio=0.4, power_watts=None))
USAGE = Usage(
    used_bytes=GIB,
    busy_ns=2_500_000_000,
    throttled_ns=500_000_000,
    processes=(Process(pid=1, pinned_bytes=GIB), Process(pid=2, pinned_bytes=2 * GIB)),
)
BUSY = node(
    replace(ON, strangers=(Process(pid=9, memory_bytes=GIB),)),
    shares=(replace(share(ON, cores=30, gib=8), usage=USAGE),),
)


def test_a_gpu_is_described_in_base_units() -> None:
    samples = scraped(BUSY)
    assert value(samples, "gpuslice_gpu_memory_bytes", uuid=ON.uuid) == 80 * GIB
    assert value(samples, "gpuslice_gpu_memory_used_bytes", uuid=ON.uuid) == 5 * GIB
    assert value(samples, "gpuslice_gpu_memory_promised_bytes", uuid=ON.uuid) == 8 * GIB
    assert value(samples, "gpuslice_gpu_cores_promised_ratio", uuid=ON.uuid) == 0.3
    assert value(samples, "gpuslice_gpu_utilization_ratio", uuid=ON.uuid) == 0.4
    assert value(samples, "gpuslice_gpu_healthy", uuid=ON.uuid) == 1
    assert value(samples, "gpuslice_gpu_stranger_processes", uuid=ON.uuid) == 1


def test_what_a_gpu_does_not_say_has_no_sample() -> None:
    assert ("gpuslice_gpu_power_watts", frozenset({("uuid", ON.uuid)})) not in scraped(BUSY)


def test_a_share_is_described_in_base_units() -> None:
    samples = scraped(BUSY)
    labels = {"share": "one", "uuid": ON.uuid} | NO_POD
    assert value(samples, "gpuslice_share_memory_limit_bytes", **labels) == 8 * GIB
    assert value(samples, "gpuslice_share_memory_used_bytes", **labels) == GIB
    assert value(samples, "gpuslice_share_memory_over_bytes", **labels) == 0
    assert value(samples, "gpuslice_share_cores_limit_ratio", **labels) == 0.3
    assert value(samples, "gpuslice_share_busy_seconds_total", **labels) == 2.5
    assert value(samples, "gpuslice_share_throttled_seconds_total", **labels) == 0.5
    assert value(samples, "gpuslice_share_processes", **labels) == 2


def test_a_share_of_a_pod_names_it_on_every_series() -> None:
    owner = Owner("claim", kind=OwnerKind.CLAIM, namespace="team", pod="chat-0", claim="gpu")
    samples = scraped(node(ON, shares=(replace(share(ON, gib=8), owner=owner),)))
    labels = {"share": "one", "uuid": ON.uuid, "namespace": "team", "pod": "chat-0"}
    assert value(samples, "gpuslice_share_busy_seconds_total", container="", **labels) == 0
    (info,) = (labels for name, labels in samples if name == "gpuslice_share_info")
    assert {("pod", "chat-0"), ("claim", "gpu"), ("kind", "claim")} < info


def test_shares_are_counted_by_their_state() -> None:
    states = {
        state: value(scraped(BUSY), "gpuslice_gpu_shares", uuid=ON.uuid, state=state)
        for state in ShareState
    }
    assert states == {ShareState.READY: 1, ShareState.CORRUPT: 0, ShareState.ENDING: 0}


def test_the_time_of_the_snapshot_is_told() -> None:
    assert value(scraped(BUSY), "gpuslice_snapshot_timestamp_seconds") == BUSY.taken_at


def test_only_the_largest_strangers_are_named_and_all_are_counted() -> None:
    crowd = tuple(Process(pid=pid, memory_bytes=pid * GIB) for pid in range(1, 101))
    samples = scraped(node(replace(ON, strangers=crowd)))
    assert value(samples, "gpuslice_gpu_stranger_processes", uuid=ON.uuid) == 100
    named = [
        size for (name, _), size in samples.items() if name == "gpuslice_stranger_memory_bytes"
    ]
    assert (len(named), min(named)) == (20, 81 * GIB)


def test_what_no_shim_measures_has_no_sample() -> None:
    whole = replace(share(ON), limits=Limits(100, 80 * GIB, whole=True))
    names = {name for name, _ in scraped(node(ON, shares=(whole,)))}
    assert "gpuslice_share_memory_limit_bytes" in names
    assert not names & {"gpuslice_share_busy_seconds_total", "gpuslice_share_memory_used_bytes"}


def test_a_partition_names_the_pod_that_has_it() -> None:
    place = MigPlace(19, "1g.10gb", 4, 1)
    mine = MigDevice("MIG-1", "1g.10gb", place, 10 * GIB, 0, 7)
    free = replace(mine, uuid="MIG-2", gpu_instance=8)
    card = gpu(reading=Reading(mig=True, mig_devices=(mine, free)))
    owner = Owner("claim", namespace="team", pod="chat-0", container="main")
    held = replace(share(card), owner=owner, mig=mine, limits=Limits(0, 10 * GIB, mig=place))
    samples = scraped(node(card, shares=(held,)))
    assert value(samples, "gpuslice_gpu_mig_mode", uuid=card.uuid) == 1
    pods = {
        dict(labels)["mig_uuid"]: (dict(labels)["pod"], size)
        for (name, labels), size in samples.items()
        if name == "gpuslice_mig_memory_bytes"
    }
    assert pods == {"MIG-1": ("chat-0", 10 * GIB), "MIG-2": ("", 10 * GIB)}


def test_a_label_may_hold_anything() -> None:
    odd = replace(share(ON), owner=Owner('say "hi"\\\n{now}'))
    (info,) = (labels for name, labels in scraped(node(ON, shares=(odd,))) if "share_info" in name)
    assert ("owner", odd.owner.name) in info


def test_an_address_in_use_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        config = Config(run_dir=tmp_path, state_dir=tmp_path, metrics_address=address)
        with (
            pytest.raises(PublishError, match=f"/metrics cannot be served on {address}"),
            serve_metrics(config, Snapshot),
        ):
            pass
