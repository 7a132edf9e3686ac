"""What a launch costs with the shim and the limit active: added over the same launch without it, on
the simulated driver with a kernel that costs nothing. The mean has what is done only now and then:
a marker every 64 launches, a look at what is done.

    python bench/launch_cost.py
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pairs
import simulated_share

from gpuslice_agent import native_files


def cost_ns(process: subprocess.Popen[str]) -> Callable[[], float]:
    """What the process says of its next calls."""
    assert process.stdin and process.stdout
    ask, answer = process.stdin, process.stdout

    def measure() -> float:
        ask.write("\n")
        ask.flush()
        return float(answer.readline())

    return measure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--launches", type=int, default=50_000, help="in one measurement")
    arguments = parser.parse_args()
    figures: list[pairs.Figure] = []
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        program = simulated_share.build(Path(scratch) / "launch_cost", "launch_cost.c")
        (share,) = stack.enter_context(simulated_share.shares(30))
        for stream, kind in itertools.product(("own", "default"), ("median", "mean")):
            launches = str(arguments.launches)
            command: list[str | Path] = [program, native_files.kernels(), launches, stream, kind]
            hooked = stack.enter_context(share.start(command, hooked=True))
            plain = stack.enter_context(share.start(command, hooked=False))
            rows = pairs.interleave(arguments.pairs, cost_ns(plain), cost_ns(hooked))
            bare = [bare for bare, _ in rows]
            added = [shim - bare for bare, shim in rows]
            asked = "≤ 60" if kind == "median" else ""
            figures += [
                pairs.figure(f"{kind} of launches, {stream} stream, bare", "ns", bare),
                pairs.figure(f"the shim adds to it, {stream} stream", "ns", added, asked),
            ]
    pairs.report("launch_cost", simulated_share.GPU, figures)


if __name__ == "__main__":
    main()
