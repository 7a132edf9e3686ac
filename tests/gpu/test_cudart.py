"""Programs on the CUDA runtime 12 and 13, with libcudart in them or beside them."""

from pathlib import Path

import pytest

from gpuslice_agent import native_files

from .card import Card
from .loads import Loads
from .record import Record
from .tenants import MIB, answer, share_of

LIMIT = 2048 * MIB
CLIENTS = ("cudart12_static", "cudart12_shared", "cudart13_static", "cudart13_shared")

pytestmark = pytest.mark.usefixtures("nvidia_driver")


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest, programs: Path, card: Card) -> Path:
    name = str(request.param)
    if name.startswith("cudart13") and card.cuda_version < 13000:
        pytest.skip("this driver is for CUDA 12 and older: cudart 13 refuses it")
    return programs / name


@pytest.fixture(scope="module")
def loads(programs: Path) -> Loads:
    return Loads(programs, native_files.kernels())


@pytest.mark.parametrize("way", ["memory", "async"])
def test_the_limit_holds(record: Record, client: Path, way: str) -> None:
    said = answer(*share_of(mem=LIMIT), client, way)
    what = f"cudart: free but not to be had, {client.name}, {way}"
    assert said["total"] == LIMIT
    assert said["refusal"] == "cudaErrorMemoryAllocation"
    assert said["allocated"] <= said["free"] <= LIMIT
    # Pools grow by 32 MiB, and this one has a piece begun when the next does not fit any more.
    least = 64 if way == "async" else 2
    record.expect(what, 0, (said["free"] - said["allocated"]) / MIB, least, "MiB")


@pytest.mark.parametrize("graph", [(), ("graph",)], ids=["launches", "graphs"])
def test_a_capped_share_gets_its_percentage(
    record: Record, loads: Loads, client: Path, graph: tuple[str, ...]
) -> None:
    """800 kernels of 2 ms: as long as they take alone, over as long as they take in the share.

    So many, because a share that was idle begins with some credit.
    """
    spin = (client, "spin", native_files.kernels(), "2000000")
    options = (str(loads.steps_per_us), *graph)
    alone = answer(*spin, "200", *options)
    capped = answer(*share_of(mem=LIMIT, cores=30), *spin, "800", *options, seconds=120)
    got = 100 * 4 * alone["elapsed_ns"] / capped["elapsed_ns"]
    kind = "graphs" if graph else "launches"
    record.expect(f"cudart: 30 alone, {client.name}, {kind}", 30, got, 1, "%")
