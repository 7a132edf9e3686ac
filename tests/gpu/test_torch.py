"""PyTorch, unmodified, in a share."""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from .record import Record
from .tenants import MIB, run, share_of

LIMIT = 8192 * MIB
CLIENT = Path(__file__).parent / "programs" / "torch_client.py"
SECONDS = 120  # importing it takes long where the disk is cold

pytestmark = [
    pytest.mark.usefixtures("nvidia_driver"),
    pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="PyTorch is not installed"),
]


def client(name: str, *share: str) -> dict[str, Any]:
    said = run(*share, sys.executable, CLIENT, name, seconds=SECONDS)
    return dict(json.loads(said.splitlines()[-1]))


def test_mem_get_info_shows_the_share_and_it_can_be_had(record: Record) -> None:
    """Within a block of the caching allocator and the memory it was asked in."""
    said = client("memory", *share_of(mem=LIMIT))
    record.expect("torch: total", LIMIT / MIB, said["total"] / MIB, 0, "MiB")
    missing = (said["free"] - said["allocated"]) / MIB
    assert missing >= 0
    record.expect("torch: free but not to be had", 0, missing, said["block"] / MIB, "MiB")


def test_it_recovers_from_out_of_memory() -> None:
    assert client("recover", *share_of(mem=LIMIT)) == {"refused": True, "sum_is_right": True}


def test_a_training_step_learns(record: Record) -> None:
    alone, said = client("train"), client("train", *share_of(mem=LIMIT, cores=30))
    assert said["last_loss"] < said["first_loss"]
    record.expect(
        "torch: first loss, against unhooked", alone["first_loss"], said["first_loss"], 1e-3, ""
    )


def test_cuda_graphs_replay_right_and_are_paced(record: Record) -> None:
    alone, said = client("graph"), client("graph", *share_of(mem=LIMIT, cores=30))
    assert said["matches"]
    got = 100 * said["replays_a_second"] / alone["replays_a_second"]
    record.expect("torch: 30 alone, graph replays", 30, got, 1, "%")


def test_graphs_at_the_whole_time_are_not_held_back(record: Record) -> None:
    alone, said = client("graph"), client("graph", *share_of(mem=LIMIT))
    got = 100 * said["replays_a_second"] / alone["replays_a_second"]
    record.expect("torch: throughput kept at 100, graph replays", 100, min(got, 100), 1, "%")
