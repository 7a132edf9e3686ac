"""What a pair of cuMemAlloc and cuMemFree costs with the shim and the limit active, beside 20 000
live allocations: added over the same pair without it, on the simulated driver.

    python bench/allocation_cost.py
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pairs
import simulated_share
from launch_cost import cost_ns


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--live", type=int, default=20_000, help="allocations that stay")
    parser.add_argument("--calls", type=int, default=5_000, help="alloc and free, in a measurement")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        program = simulated_share.build(Path(scratch) / "allocation_loop", "allocation_loop.c")
        (share,) = stack.enter_context(simulated_share.shares(100))
        command: list[str | Path] = [program, str(arguments.live), str(arguments.calls)]
        hooked = stack.enter_context(share.start(command, hooked=True))
        plain = stack.enter_context(share.start(command, hooked=False))
        rows = pairs.interleave(arguments.pairs, cost_ns(plain), cost_ns(hooked))
    pairs.report(
        "allocation_cost",
        simulated_share.GPU,
        [
            pairs.figure("alloc and free, bare", "ns", [bare for bare, _ in rows]),
            pairs.figure("the shim adds", "ns", [shim - bare for bare, shim in rows], "≤ 200"),
        ],
    )


if __name__ == "__main__":
    main()
