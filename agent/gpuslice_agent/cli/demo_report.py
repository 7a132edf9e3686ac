"""What the demo's tenants asked for against what they got, and whether the shares held."""

from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gpuslice_agent.cli.demo_tenant import Ask, Memory
from gpuslice_agent.cli.status_tables import size

TIME_TOLERANCE = 0.02
# The driver hands out memory in blocks of this size.
BLOCK_BYTES = 2 * 2**20


@dataclass(frozen=True, slots=True)
class Outcome:
    ask: Ask
    memory: Memory
    time_ratio: float  # of the GPU's time while both were busy

    @property
    def time_held(self) -> bool:
        return abs(self.time_ratio - self.ask.cores / 100) <= TIME_TOLERANCE

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
    return Group(table, _legend(simulated))


def _verdict(outcome: Outcome) -> Text:
    if outcome.held:
        return Text("yes", style="green")
    broken = [
        *([] if outcome.time_held else ["time"]),
        *([] if outcome.memory_held else ["memory"]),
    ]
    return Text(f"no: {' and '.join(broken)}", style="bold red")


def _legend(simulated: bool) -> Text:
    measured = (
        "by the simulated GPU itself (these are no figures of a real one)"
        if simulated
        else "by the shares"
    )
    return Text(
        f"GPU time is measured {measured}; it holds within {100 * TIME_TOLERANCE:.0f} points."
        " Asked and free memory differ by what the context itself takes."
    )
