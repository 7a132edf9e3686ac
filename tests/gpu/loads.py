"""Programs that keep the GPU busy, and how much of it they get.

Nothing outside a program tells how long a GPU worked for it, least of all while others use it. So
what it got is what it got done: its launches a second, of those the same program makes unhooked
and alone.
"""

import statistics
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from .tenants import Command, Tenant, started

GIB = 2**30
MEMORY_BYTES = 4 * GIB
ALONE_SECONDS = 1.0
# Work queued behind the running kernel: enough that the GPU never waits for the host.
AHEAD_MS = 20
LEAVES_IDLE = ("sync", "host")
GRAPH_KERNELS = 4


@dataclass(frozen=True, slots=True)
class Load:
    """See tests/programs/launch_loop.c."""

    mode: str
    kernel_us: int

    def __str__(self) -> str:
        return f"{self.mode}, {self.kernel_us} us"


@dataclass(frozen=True, slots=True)
class Done:
    launches: int
    start_ns: int
    end_ns: int

    @property
    def a_second(self) -> float:
        return self.launches * 1e9 / (self.end_ns - self.start_ns)


class Loads:
    """Starts them, and knows what each gets done alone."""

    def __init__(self, programs: Path, kernels: Path, simulated: bool = False) -> None:
        self._simulated = simulated
        self._program = programs / "launch_loop"
        self._kernels = kernels
        self._alone: dict[Load, float] = {}
        self.steps_per_us = 1000
        self.steps_per_us = self._calibrated()

    def command(self, load: Load) -> Command:
        return (
            *(self._program, "--ptx", self._kernels, "--mode", load.mode),
            *("--kernel-us", str(load.kernel_us), "--steps-per-us", str(self.steps_per_us)),
            *("--ahead-ms", str(AHEAD_MS)),
        )

    @contextmanager
    def start(self, load: Load, *share: str, beside: Tenant | None = None) -> Generator[Tenant]:
        with started(*share, *self.command(load), beside=beside) as tenant:
            assert tenant.says_line() == "ready"
            yield tenant

    def alone(self, load: Load) -> float:
        """Launches a second without the shim and without company."""
        if load not in self._alone:
            with self.start(load) as tenant:
                work([tenant], ALONE_SECONDS / 4)
                [done] = work([tenant], ALONE_SECONDS)
            self._alone[load] = done.a_second
        return self._alone[load]

    def percent(self, load: Load, done: Done) -> float:
        # A simulated kernel takes what was asked for, and its host may leave any program waiting.
        if self._simulated:
            return self.percent_by_time(load, done)
        if load.mode in LEAVES_IDLE:
            return 100 * done.a_second * self._kernel_seconds(load)
        return 100 * done.a_second / self.alone(load)

    def _kernel_seconds(self, load: Load) -> float:
        """What one of twice the length takes longer: the idle time in between is the same."""
        twice = Load(load.mode, 2 * load.kernel_us)
        return 1 / self.alone(twice) - 1 / self.alone(load)

    def percent_by_time(self, load: Load, done: Done) -> float:
        """Gaps between kernels are not in it, and streams that run at once count twice."""
        kernels = GRAPH_KERNELS if load.mode == "graph" else 1
        return 100 * done.a_second * kernels * load.kernel_us / 1e6

    def _calibrated(self) -> int:
        """When the clocks of the GPU have risen. 1000 on the simulated node, which takes any."""
        asked = Load("loop", 5000)
        with self.start(asked) as tenant:
            work([tenant], 1.0)
            rates = [work([tenant], 0.3)[0].a_second for _ in range(5)]
        return max(1, round(1000 * asked.kernel_us * statistics.median(rates) / 1e6))


def work(tenants: list[Tenant], seconds: float) -> list[Done]:
    """All at once."""
    for tenant in tenants:
        tenant.hears(str(seconds))
    return [Done(**tenant.says(seconds + 60)) for tenant in tenants]


@contextmanager
def all_started(*starts: tuple[Loads, Load, tuple[str, ...]]) -> Generator[list[Tenant]]:
    with ExitStack() as stack:
        yield [stack.enter_context(loads.start(load, *share)) for loads, load, share in starts]
