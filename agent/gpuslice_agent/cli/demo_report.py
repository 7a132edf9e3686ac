"""What the demo's tenants asked for against what they got, and whether the shares held."""

from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gpuslice_agent.cli.demo_tenant import Ask, Memory
from gpuslice_agent.cli.status_tables import size

TIME_TOLERANCE = 0.02
# Below that the arbiter, not the host, would be what keeps the GPU from working.
LEAST_WORK = 0.5
# The driver hands out memory in blocks of this size.
BLOCK_BYTES = 2 * 2**20


@dataclass(frozen=True, slots=True)
class Outcome:
    ask: Ask
    memory: Memory
    busy_ns: int  # its GPU time
    gpu_busy_ns: int  # that of all tenants
    elapsed_ns: int

    @property
    def time_ratio(self) -> float:
        """Of the time in which the GPU worked: a host too busy to feed it takes from all alike."""
        return self.busy_ns / self.gpu_busy_ns if self.gpu_busy_ns else 0.0

    @property
    def time_held(self) -> bool:
        """Its part within the tolerance, never more than its cap, and the GPU was kept at work."""
        asked = self.ask.cores / 100
        return (
            abs(self.time_ratio - asked) <= TIME_TOLERANCE
            and self.busy_ns / self.elapsed_ns <= asked + TIME_TOLERANCE
            and self.gpu_busy_ns / self.elapsed_ns >= LEAST_WORK
        )

    @property
    def memory_held(self) -> bool:
        """All that was called free was there, nothing beyond, and one block more was refused."""
        memory = self.memory
        return (
            memory.refused
            and memory.total_bytes == self.ask.memory_bytes
            and memory.free_bytes - BLOCK_BYTES <= memory.taken_bytes <= memory.free_bytes
        )

    @property
    def held(self) -> bool:
        return self.time_held and self.memory_held


def report(outcomes: list[Outcome], *, simulated: bool) -> RenderableType:
    table = Table(title="Asked against got", title_justify="left", title_style="bold")
    for column in (
        "GPU time asked", "got", "Memory asked", "called free", "could allocate", "one block more",
        "Held",
    ):  # fmt: skip
        table.add_column(column, justify="right", no_wrap=True)
    for outcome in outcomes:
        memory = outcome.memory
        table.add_row(
            f"{outcome.ask.cores} %",
            f"{100 * outcome.time_ratio:.1f} %",
            size(outcome.ask.memory_bytes),
            size(memory.free_bytes),
            size(memory.taken_bytes),
            "refused" if memory.refused else "given",
            _verdict(outcome),
        )
    return Group(table, _legend(outcomes[0], simulated))


def _verdict(outcome: Outcome) -> Text:
    if outcome.held:
        return Text("yes", style="green")
    broken = [
        *([] if outcome.time_held else ["time"]),
        *([] if outcome.memory_held else ["memory"]),
    ]
    return Text(f"no: {' and '.join(broken)}", style="bold red")


def _legend(outcome: Outcome, simulated: bool) -> Text:
    measured = (
        "by the simulated GPU itself (these are no figures of a real one)"
        if simulated
        else "by the shares"
    )
    return Text(
        f"GPU time is measured {measured}, as a part of the time in which the GPU worked"
        f" ({outcome.gpu_busy_ns / outcome.elapsed_ns:.0%} of {outcome.elapsed_ns / 1e9:.1f} s);"
        f" it holds within {100 * TIME_TOLERANCE:.0f} points.\n"
        "Asked and free memory differ by what the context itself takes."
    )
