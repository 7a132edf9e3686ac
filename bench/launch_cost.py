"""What a launch costs with the shim and the limit active: added over the same launch without it, on
the simulated driver with a kernel that costs nothing. Asked: at most 60 ns.

    python bench/launch_cost.py
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pairs
import simulated_share

from gpuslice_agent import native_files


def cost_ns(process: subprocess.Popen[str]) -> Callable[[], float]:
    """The median of the next launches."""
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
        share = stack.enter_context(simulated_share.share(cores=30))
        for stream in ("own", "default"):
            command: list[str | Path] = [
                program,
                native_files.kernels(),
                str(arguments.launches),
                stream,
            ]
            hooked = stack.enter_context(share.start(command, hooked=True))
            plain = stack.enter_context(share.start(command, hooked=False))
            rows = pairs.interleave(arguments.pairs, cost_ns(plain), cost_ns(hooked))
            values = {
                f"launch, {stream} stream": [bare for bare, _ in rows],
                f"the shim adds, {stream} stream": [with_shim - bare for bare, with_shim in rows],
            }
            figures += [
                pairs.Figure(name, "ns", pairs.median_interval(costs), len(rows), "simulated A100")
                for name, costs in values.items()
            ]
    pairs.report("launch_cost", figures)


if __name__ == "__main__":
    main()
