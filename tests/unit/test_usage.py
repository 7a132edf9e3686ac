"""Rates and counters from what a share's files say."""

from dataclasses import replace

from gpuslice_agent.enforcement.library import Slot, SlotUsage
from gpuslice_agent.enforcement.usage import Meter
from gpuslice_agent.model import Pacing, Process, Usage

from .nodes import slot

SECOND = 1_000_000_000
SLOT = slot(pid=10, start_time=100)


def read(meter: Meter, seen: SlotUsage, at_seconds: float, arbitrated: bool = True) -> Usage:
    return meter.read(seen, int(at_seconds * SECOND), arbitrated, lambda one: Process(pid=one.pid))


def busy(seconds: float, *slots: Slot, paces_itself: bool = False) -> SlotUsage:
    return SlotUsage(0, int(seconds * SECOND), paces_itself, slots)


def test_the_ratio_is_the_busy_time_of_the_last_interval() -> None:
    meter = Meter()
    assert read(meter, busy(0), 10).busy_ratio == 0
    assert read(meter, busy(0.3), 11).busy_ratio == 0.3
    assert read(meter, busy(0.3), 13).busy_ratio == 0


def test_a_look_soon_after_another_does_not_disturb_the_ratio() -> None:
    meter = Meter()
    read(meter, busy(0), 10)
    read(meter, busy(0.3), 11)
    assert read(meter, busy(0.3), 11.01).busy_ratio == 0.3
    assert read(meter, busy(0.5), 12).busy_ratio == 0.2


def test_a_tenant_that_writes_nonsense_gets_a_ratio_between_0_and_1() -> None:
    meter = Meter()
    read(meter, busy(5), 10)
    assert read(meter, busy(1), 11).busy_ratio == 0
    assert read(meter, busy(100), 12).busy_ratio == 1


def test_time_held_back_outlives_the_process_that_was_held_back() -> None:
    meter = Meter()
    first = replace(SLOT, throttled_ns=2 * SECOND)
    second = replace(SLOT, pid=11, start_time=101, throttled_ns=SECOND)
    assert read(meter, busy(0, first), 10).throttled_ns == 2 * SECOND
    assert read(meter, busy(0), 11).throttled_ns == 2 * SECOND
    assert read(meter, busy(0, second), 12).throttled_ns == 3 * SECOND


def test_a_share_is_throttled_while_it_is_held_back_and_not_for_ever() -> None:
    meter = Meter()
    assert not read(meter, busy(0, SLOT), 10).throttled
    held = replace(SLOT, throttled_ns=SECOND // 10)
    assert read(meter, busy(0, held), 11).throttled
    assert not read(meter, busy(0, held), 12).throttled
    assert read(meter, busy(0, replace(held, waiting=True)), 12.1).throttled


def test_a_share_paces_itself_where_its_arbiter_is_silent() -> None:
    assert read(Meter(), busy(0, SLOT), 1).pacing is Pacing.ARBITER
    assert read(Meter(), busy(0, SLOT, paces_itself=True), 1).pacing is Pacing.LOCAL
    # The arbiter is silent because nobody is there.
    assert read(Meter(), busy(0, paces_itself=True), 1).pacing is Pacing.ARBITER
    assert read(Meter(), busy(0, SLOT), 1, arbitrated=False).pacing is Pacing.NONE
