"""What turns cost: two tenants with 30 and 70 percent, both always busy, get done together, of what
one tenant with the whole time gets done alone. The rest of the GPU time is lost in handing over.

    python bench/handover_cost.py
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import launches
import pairs
import simulated_share


def throughput(
    stack: ExitStack, command: list[str | Path], cores: tuple[int, ...], seconds: float
) -> Callable[[], float]:
    """Launches a second of one tenant a share, all on one GPU of their own."""
    tenants = [
        stack.enter_context(share.start(command, hooked=True))
        for share in stack.enter_context(simulated_share.shares(*cores))
    ]
    for tenant in tenants:
        launches.wait_until_ready(tenant)
    return lambda: launches.launches_a_second(launches.work(tenants, seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=1.0, help="of one measurement")
    arguments = parser.parse_args()
    figures: list[pairs.Figure] = []
    with tempfile.TemporaryDirectory() as scratch:
        program = simulated_share.build(Path(scratch) / "launch_loop", "launch_loop.c")
        for kernel_us in (500, 2000):
            command = launches.command(program, "loop", kernel_us)
            with ExitStack() as stack:
                alone = throughput(stack, command, (100,), arguments.seconds)
                together = throughput(stack, command, (30, 70), arguments.seconds)
                rows = pairs.interleave(arguments.pairs, alone, together)
            lost = [100 * (1 - two / one) for one, two in rows]
            figures.append(pairs.figure(f"GPU time lost, kernels of {kernel_us} us", "%", lost))
    pairs.report("handover_cost", simulated_share.GPU, figures)


if __name__ == "__main__":
    main()
