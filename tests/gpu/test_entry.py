"""However a program reaches NVIDIA's driver, it reaches the shim first: the limit holds."""

import json
from pathlib import Path
from typing import Any

import pytest

from gpuslice_agent import native_files

from .card import Card
from .record import Record
from .tenants import MIB, Command, answer, run, share_of

LIMIT = 2048 * MIB
BLOCK = 2 * MIB
OUT_OF_MEMORY = 2
NOT_READY = 600
VERSIONS = (11000, 11030, 11040, 12000, 12020, 12050, 13000)
FLAGS = {"default": 0, "legacy": 1, "per thread": 2}
# cuGetProcAddress hands out its own second version from CUDA 12.0 on.
OLDEST = {"procaddress": 11000, "procaddress_v2": 11000, "procaddress_self": 12000}


def in_share(*command: str | Path) -> dict[str, Any]:
    return answer(*share_of(mem=LIMIT), *command)


def assert_holds(record: Record, way: str, said: dict[str, Any]) -> None:
    """All that was called free could be allocated, within a block, and no more."""
    assert said["total"] == LIMIT
    assert said["refusal"] == OUT_OF_MEMORY
    assert said["allocated"] <= said["free"] <= LIMIT
    missing = (said["free"] - said["allocated"]) / MIB
    record.expect(f"entry: free but not to be had, {way}", 0, missing, 2, "MiB")
    assert said["free_afterwards"] == said["free"]


@pytest.mark.parametrize("way", ["dlsym", "default", "next", "dlsym-of-dlsym"])
def test_the_limit_holds_for_lookups(record: Record, programs: Path, way: str) -> None:
    assert_holds(record, way, in_share(programs / "entry_lookup", way))


def test_the_limit_holds_for_a_program_that_links_the_driver(
    record: Record, programs: Path
) -> None:
    assert_holds(record, "direct link", in_share(programs / "entry_direct"))


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("way", OLDEST)
def test_the_limit_holds_for_every_version_of_the_driver_api(
    card: Card, record: Record, programs: Path, way: str, flags: str
) -> None:
    """One after the other in one share: each finds what the last one gave back."""
    newest = card.cuda_version
    versions = [version for version in VERSIONS if OLDEST[way] <= version <= newest]
    calls = [f"{programs / 'entry_lookup'} {way} {version} {FLAGS[flags]}" for version in versions]
    said = run(*share_of(mem=LIMIT), "sh", "-ec", "; ".join(calls), seconds=120).splitlines()
    assert len(said) == len(versions)
    for version, line in zip(versions, said, strict=True):
        assert_holds(record, f"{way} {version}, {flags} stream", json.loads(line))


@pytest.mark.parametrize(
    ("interposer", "program"),
    [
        ("interposer.so", "entry_direct"),
        ("interposer.so", "entry_lookup default"),
        ("interposer.so", "entry_lookup next"),
        ("dlsym_interposer.so", "entry_direct"),
        ("dlsym_interposer.so", "entry_lookup dlsym"),
    ],
)
def test_a_preloaded_library_calls_through_the_shim(
    record: Record, programs: Path, interposer: str, program: str
) -> None:
    script = f"LD_PRELOAD={programs / interposer}:$LD_PRELOAD exec {programs}/{program}"
    assert_holds(record, f"{interposer}, {program}", in_share("sh", "-c", script))


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        (("dlsym", ""), NOT_READY),
        (("dlsym", "_ptsz"), 0),
        (("procaddress", "12000", "0"), NOT_READY),
        (("procaddress", "12000", "1"), NOT_READY),
        (("procaddress", "12000", "2"), 0),
        (("procaddress", "13000", "2"), 0),
    ],
)
def test_a_program_gets_the_default_stream_it_asks_for(
    programs: Path, way: tuple[str, ...], expected: int
) -> None:
    command: Command = (programs / "entry_streams", native_files.kernels(), *way)
    assert run(*share_of(mem=LIMIT), *command).strip() == str(expected)


def test_forked_children_share_the_limit(programs: Path) -> None:
    """Some get their context and their bytes, the others are refused: never more than there is."""
    limit, bytes_each = 8192 * MIB, 2400 * MIB  # five contexts and one of these fit, not all five
    said = run(*share_of(mem=limit), programs / "entry_fork", "5", str(bytes_each)).split()
    assert sorted(set(said)) == ["0", str(OUT_OF_MEMORY)]
    assert len(said) == 5
    assert said.count("0") * bytes_each <= limit
