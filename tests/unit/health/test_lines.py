"""Every known line of the driver, in every form that people and programs see it in."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gpuslice_agent.health import catalogue
from gpuslice_agent.health.judge import judge
from gpuslice_agent.health.line import Kind, parse

from .kernel_lines import KNOWN, RECOVERED, WRAPPERS, Known, as_record

CATALOGUE = catalogue.load()
ORDINARY = (Path(__file__).parent / "ordinary_kernel_log.txt").read_text().splitlines()


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.text[:60])
def test_a_known_line_says_what_it_says(known: Known, wrap: Callable[[str], str]) -> None:
    line = parse(wrap(known.text))
    assert line is not None and line.is_fault
    assert (line.pci, line.code, line.gi, line.ci) == (known.pci, known.code, known.gi, known.ci)
    assert (line.pid, line.process) == (known.pid, known.process)
    assert judge(line, CATALOGUE).action is known.action


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_the_end_of_a_recovery_is_no_fault(wrap: Callable[[str], str]) -> None:
    line = parse(wrap(RECOVERED))
    assert line is not None
    assert (line.kind, line.pci, line.recovery) == (Kind.RECOVERED, "0009:01:00", 0)
    assert not line.is_fault


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_an_ordinary_line_is_no_fault(wrap: Callable[[str], str]) -> None:
    faults = [text for text in ORDINARY if (line := parse(wrap(text))) and line.is_fault]
    assert faults == []


def test_the_uuid_of_a_gpu_is_read_where_the_driver_says_it() -> None:
    line = parse("NVRM: GPU at PCI:0000:9b:00: GPU-7c3f2b1a-90de-4d2c-8b1f-6f0f9d0f3c11")
    assert line is not None and line.kind is Kind.IDENTITY
    assert (line.pci, line.uuid) == ("0000:9b:00", "GPU-7c3f2b1a-90de-4d2c-8b1f-6f0f9d0f3c11")


def test_a_line_that_continues_another_is_read_all_the_same() -> None:
    text = "usb 1-1: reset NVRM: Xid (PCI:0000:05:00): 79, GPU has fallen off the bus."
    line = parse(as_record(text, flags="c"))
    assert line is not None and line.code == 79


def test_every_level_is_read() -> None:
    for priority in range(8):
        assert parse(as_record("NVRM: Xid (PCI:0000:05:00): 79, gone", priority)) is not None


def test_what_a_program_wrote_to_the_log_is_no_word_of_the_kernel() -> None:
    forged = "NVRM: Xid (PCI:0000:05:00): 79, gone"
    assert parse(as_record(forged, priority=(1 << 3) | 4)) is None
    assert parse(f"Nov 20 14:03:07 node app[12]: {forged}") is None
    assert parse(f"2026-11-20T14:03:07.123456+00:00 node logger: {forged}") is None
    assert parse(f"2026-11-20T14:03:07.123456+00:00 node kernel: {forged}") is not None


def test_a_device_that_a_record_names_is_not_read_as_its_text() -> None:
    record = "6,1,1,-;pci 0000:05:00.0: fine\n SUBSYSTEM=NVRM: Xid (PCI:0000:05:00): 79, x\n"
    assert parse(record) is None


def test_what_a_switch_says_beside_its_fault_is_not_counted() -> None:
    line = parse("nvidia-nvswitch0: SXid (PCI:0000:a9:00.0): 20034, Severity 1 Engine instance 30")
    assert line is not None and line.kind is Kind.MORE


def test_a_mismatch_of_driver_and_libraries_is_the_nodes() -> None:
    text = "NVRM: API mismatch: the client has the version 570.86.10, but\nNVRM: this kernel module"
    line = parse(as_record(text))
    assert line is not None and line.kind is Kind.MISMATCH and not line.pci
