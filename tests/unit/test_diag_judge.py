"""What the figures of `gpuslice diag` are taken to mean."""

import struct
from dataclasses import replace

import msgspec
import pytest

from gpuslice_agent.diag import burning, judge
from gpuslice_agent.diag.measures import Burnt, Copied, Cuda, Matched
from gpuslice_agent.diag.results import Outcome
from gpuslice_agent.model import Gpu, Health, HealthState, Snapshot
from gpuslice_agent.nvml.vitals import Vitals

WELL = Vitals(
    recovery_action=0,
    remap_pending=False,
    remap_failed=False,
    remapped_rows=0,
    ecc_corrected=0,
    ecc_uncorrected=0,
    sram_threshold_exceeded=False,
    pcie_width=16,
    pcie_width_max=16,
    pcie_gen_max=4,
)
GPU = Gpu(0, "GPU-1", "A100", "0000:07:00.0", 2**30, health=Health(HealthState.HEALTHY))
HBM2E = (1_593_000, 5120)  # of an A100 with 80 GB: 2039 GB/s by its data sheet


def test_nvml_that_does_not_start_is_a_failure_in_its_own_words() -> None:
    seen = judge.nvml(Snapshot(problem="Driver/library version mismatch"))
    assert (seen.outcome, seen.reason) == (Outcome.FAIL, "Driver/library version mismatch")


def test_libraries_of_two_drivers_are_told() -> None:
    assert judge.cuda(Cuda(13050, ("GPU-1",)), "13.5", ["GPU-1"]).outcome is Outcome.PASS
    other = judge.cuda(Cuda(12040, ("GPU-1",)), "13.5", ["GPU-1"])
    assert other.outcome is Outcome.FAIL
    assert "CUDA 12.4, NVML of 13.5" in other.reason


def test_a_gpu_that_cuda_has_not_is_named() -> None:
    seen = judge.cuda(Cuda(13050, ("GPU-1",)), "13.5", ["GPU-1", "GPU-2"])
    assert (seen.outcome, seen.reason) == (Outcome.FAIL, "NVML lists what CUDA has not: GPU-2.")


def test_an_unhealthy_gpu_fails_with_the_agents_reason() -> None:
    ill = replace(GPU, health=Health(HealthState.UNHEALTHY, "Xid 79."))
    assert judge.health(ill).reason.endswith("Xid 79.")
    assert judge.health(GPU).outcome is Outcome.PASS


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"recovery_action": 1}, "The driver asks for reset_gpu."),
        ({"remap_failed": True}, "A row could not be remapped."),
        ({"remap_pending": True}, "A row waits to be remapped at the next reset."),
        ({"ecc_uncorrected": 2}, "2 errors were not corrected."),
    ],
)
def test_what_the_driver_has_counted_is_told(change: dict[str, object], reason: str) -> None:
    seen = judge.errors(msgspec.structs.replace(WELL, **change))
    assert seen.outcome is Outcome.FAIL
    assert seen.reason.lower() == reason.lower()
    assert judge.errors(WELL).outcome is Outcome.PASS
    assert judge.errors(Vitals()).outcome is Outcome.PASS


def test_a_narrow_link_fails_and_bandwidth_is_judged_by_what_it_can_carry() -> None:
    narrow = msgspec.structs.replace(WELL, pcie_width=8)
    assert judge.link(narrow).outcome is Outcome.FAIL
    assert judge.link(Vitals()).outcome is Outcome.SKIP
    slow = Copied(12.5e9, *HBM2E)
    assert judge.host_copy("h2d", slow, WELL).outcome is Outcome.FAIL
    assert judge.host_copy("h2d", slow, narrow).outcome is Outcome.PASS
    assert judge.host_copy("h2d", slow, Vitals()).outcome is Outcome.SKIP


def test_memory_bandwidth_is_judged_by_the_memory_there_is() -> None:
    assert judge.device_copy(Copied(850e9, *HBM2E)).outcome is Outcome.PASS
    assert judge.device_copy(Copied(500e9, *HBM2E)).outcome is Outcome.FAIL
    assert judge.device_copy(Copied(850e9, 0, 0)).outcome is Outcome.SKIP


def test_wrong_words_are_placed() -> None:
    assert judge.memory(Matched(2**30, 1, 0, 2**64 - 1, 0)).outcome is Outcome.PASS
    bad = judge.memory(Matched(2**30, 2, 2, 4, 0x100))
    assert bad.outcome is Outcome.FAIL
    assert "the first at byte 0x10, in bits 0x00000100" in bad.reason


def test_a_burn_fails_for_a_wrong_result_and_for_doing_nothing() -> None:
    well = Burnt(10, 0, 9e12, (8, 0), 108, 1_410_000)
    assert judge.burn(well).outcome is Outcome.PASS
    assert judge.burn(msgspec.structs.replace(well, wrong=1)).outcome is Outcome.FAIL
    assert judge.burn(msgspec.structs.replace(well, rate=0.0)).outcome is Outcome.FAIL


def test_errors_counted_meanwhile_are_a_failure() -> None:
    assert judge.counted(WELL, WELL).outcome is Outcome.PASS
    after = msgspec.structs.replace(WELL, ecc_corrected=3, remapped_rows=1)
    told = judge.counted(WELL, after).reason
    assert told == "While it was tested 3 errors were corrected and 1 rows were remapped."


def to_single(number: int, exponent: int) -> tuple[int, int]:
    """number * 2**exponent, rounded to 24 bits, ties to even."""
    if (excess := number.bit_length() - 24) <= 0:
        return number, exponent
    kept, rest, half = number >> excess, number & ((1 << excess) - 1), 1 << (excess - 1)
    return kept + (rest > half or (rest == half and kept & 1)), exponent + excess


def test_the_result_of_the_burn_is_what_exact_arithmetic_comes_to() -> None:
    """One lane by whole numbers, rounded after each of a round's two operations."""
    (factor,) = struct.unpack("f", struct.pack("f", 3.99))
    factor_number = int(factor * 2**22)
    number, exponent = 1, -6  # lane 0 begins at 1/64
    for _ in range(burning.ROUNDS):
        square, lowest = number * number, 2 * exponent
        difference = to_single((number << (exponent - lowest)) - square, lowest)
        number, exponent = to_single(difference[0] * factor_number, difference[1] - 22)
    assert struct.pack("<f", number * 2.0**exponent) == burning.RIGHT[:4]
