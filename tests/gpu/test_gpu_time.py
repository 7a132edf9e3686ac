"""GPU time on a GPU: a share gets what it asked for, however it launches, alone and in company."""

import statistics
from pathlib import Path

import pytest

from gpuslice_agent import native_files

from .card import Card
from .loads import LEAVES_IDLE, MEMORY_BYTES, Done, Load, Loads, all_started, work
from .record import Record
from .tenants import share_files, share_of

SECONDS = 4.0
PAIRS = 5


@pytest.fixture(scope="module")
def loads(card: Card, programs: Path, results: Record) -> Loads:
    loads = Loads(programs, native_files.kernels(), card.simulated)
    results.measured("gpu time: calibration", loads.steps_per_us, "steps/us")
    return loads


@pytest.fixture(scope="module")
def slack(card: Card) -> float:
    """In percent. A simulated GPU waits for its host, which others load: there this only shows that
    the test works, and tests/sim asserts by the node's own clock.
    """
    return 30 if card.simulated else 0


def share(cores: int) -> tuple[str, ...]:
    return share_of(cores=cores, mem=MEMORY_BYTES)


def note(record: Record, loads: Loads, what: str, load: Load, done: Done) -> None:
    record.measured(f"{what}: by launches x kernel time", loads.percent_by_time(load, done), "%")


@pytest.mark.parametrize(
    "load",
    [
        Load("loop", 50),
        Load("sync", 100),
        Load("graph", 100),
        Load("cooperative", 200),
        Load("ex", 200),
        Load("streams4", 200),
        Load("host", 100),
    ],
    ids=str,
)
def test_a_capped_share_gets_its_percentage_however_it_launches(
    record: Record, loads: Loads, slack: float, load: Load
) -> None:
    loads.alone(load)
    with loads.start(load, *share(30)) as tenant, share_files(tenant) as files:
        work([tenant], 0.5)
        before = files.usage().busy_ns
        [done] = work([tenant], SECONDS)
        charged = files.usage().busy_ns - before
    what = f"gpu time: 30 alone, {load}"
    note(record, loads, what, load, done)
    worked = done.end_ns - done.start_ns
    record.measured(f"{what}: as charged", 100 * charged / worked, "%")
    # When a kernel that was waited for began and ended is known to a microsecond or two each.
    tolerance = 2 if load.mode in LEAVES_IDLE else 1
    record.expect(what, 30, loads.percent(load, done), tolerance + slack, "%")


def test_kernels_longer_than_a_turn_are_paid_for_afterwards(
    record: Record, loads: Loads, slack: float
) -> None:
    load = Load("loop", 50_000)
    loads.alone(load)
    with loads.start(load, *share(30)) as tenant:
        [done] = work([tenant], 10)
    record.expect(f"gpu time: 30 alone, {load}", 30, loads.percent(load, done), 1 + slack, "%")


def test_two_processes_live_from_one_share(record: Record, loads: Loads, slack: float) -> None:
    """Of what they get done together on a GPU of their own: to switch between them costs some."""
    small, large = Load("loop", 50), Load("loop", 200)

    def percent(done: list[Done]) -> float:
        return sum(loads.percent(load, d) for load, d in zip((small, large), done, strict=True))

    for load in (small, large):
        loads.alone(load)
    with loads.start(small) as first, loads.start(large) as second:
        work([first, second], 0.5)
        together = percent(work([first, second], SECONDS))
    record.measured("gpu time: unhooked, two processes, both", together, "%")
    both = share_of(cores=30, mem=2 * MEMORY_BYTES)
    with loads.start(small, *both) as first, loads.start(large, beside=first) as second:
        got = percent(work([first, second], SECONDS))
    what = "gpu time: 30 alone, two processes, of what they do together"
    record.expect(what, 30, 100 * got / together, 1 + slack, "%")


@pytest.mark.parametrize(
    ("small_us", "large_us"), [(500, 500), (2000, 2000), (10_000, 10_000), (2000, 10_000)]
)
def test_two_busy_shares_get_thirty_and_seventy(
    record: Record, loads: Loads, slack: float, small_us: int, large_us: int
) -> None:
    small, large = Load("loop", small_us), Load("loop", large_us)
    for load in (small, large):
        loads.alone(load)
    starts = ((loads, small, share(30)), (loads, large, share(70)))
    with all_started(*starts) as tenants:
        work(tenants, 0.5)
        thirty, seventy = work(tenants, SECONDS)
    what = f"gpu time: 30 beside 70, {small_us} and {large_us} us"
    got = loads.percent(small, thirty), loads.percent(large, seventy)
    record.measured(f"{what}: both", sum(got), "%")
    record.expect(f"{what}: the 30", 30, got[0], 2 + slack, "%")
    record.expect(f"{what}: the 70", 70, got[1], 2 + slack, "%")


@pytest.mark.parametrize(
    "load", [Load("loop", 10), Load("loop", 100), Load("sync", 100), Load("graph", 100)], ids=str
)
def test_a_share_of_the_whole_time_is_not_held_back(
    record: Record, loads: Loads, slack: float, load: Load
) -> None:
    with all_started((loads, load, ()), (loads, load, share(100))) as (plain, hooked):
        for tenant in (plain, hooked):
            work([tenant], 0.3)
        kept = [
            100 * work([hooked], 0.4)[0].a_second / work([plain], 0.4)[0].a_second
            for _ in range(PAIRS)
        ]
    got = statistics.median(kept)
    # More than unhooked is noise: what was asked is at least 99 %.
    record.expect(f"gpu time: throughput kept at 100, {load}", 100, min(got, 100), 1 + slack, "%")
