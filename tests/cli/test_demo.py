"""`gpuslice demo` tells the truth: also when the shares do not hold."""

from dataclasses import replace

import pytest
from rich.console import Console

from gpuslice_agent.cli.demo_report import Outcome, report
from gpuslice_agent.cli.demo_tenant import Ask, Memory

from .conftest import Cli

MIB = 2**20
GOOD = Outcome(
    Ask("GPU-0", 30, 1024 * MIB),
    Memory(free_bytes=600 * MIB, total_bytes=1024 * MIB, taken_bytes=600 * MIB, refused=True),
    busy_ns=30,
    gpu_busy_ns=100,
    elapsed_ns=100,
)


def test_the_demo_holds_on_the_simulated_node(bare: Cli) -> None:
    done = bare("demo", "--seconds", "4")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("yes") == 2 and "refused" in done.stdout


def test_the_demo_says_so_where_there_is_no_gpu(bare: Cli) -> None:
    done = bare("demo", "--real")
    assert done.returncode == 1
    assert done.stderr.startswith("gpuslice: ") and done.stderr.count("\n") == 1


def test_what_was_promised_counts_as_held() -> None:
    assert GOOD.held
    assert replace(GOOD, busy_ns=31).held


def test_a_host_that_cannot_feed_the_gpu_is_no_breach() -> None:
    assert replace(GOOD, busy_ns=27, gpu_busy_ns=90).held


@pytest.mark.parametrize("busy_ns", [0, 27, 33, 100])
def test_another_part_of_the_time_does_not(busy_ns: int) -> None:
    assert not replace(GOOD, busy_ns=busy_ns).held


def test_an_idle_gpu_does_not() -> None:
    assert not replace(GOOD, busy_ns=12, gpu_busy_ns=40).held


def test_more_than_the_cap_does_not() -> None:
    assert not replace(GOOD, busy_ns=45, gpu_busy_ns=150).held


@pytest.mark.parametrize(
    "memory",
    [
        replace(GOOD.memory, refused=False),
        replace(GOOD.memory, taken_bytes=602 * MIB),
        replace(GOOD.memory, taken_bytes=590 * MIB),
        replace(GOOD.memory, total_bytes=80 * 1024 * MIB),
    ],
)
def test_another_amount_of_memory_does_not(memory: Memory) -> None:
    outcome = replace(GOOD, memory=memory)
    assert not outcome.held
    console = Console(width=160, markup=False)
    with console.capture() as printed:
        console.print(report([outcome], simulated=True))
    assert "no: memory" in printed.get()
