"""What reserving memory in a share and giving it back costs: alone, over an atomic addition and
subtraction, and while another process of the share does nothing else.

    python bench/reserve_cost.py
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pairs
import simulated_share
from launch_cost import cost_ns

NATIVE = Path(__file__).parents[1] / "native"


def build(output: Path) -> Path:
    """With the sources that the shim is built from."""
    compiler = os.environ.get("CC", "cc")
    command: list[str | Path] = [compiler, "-O2", "-D_GNU_SOURCE", "-o", output]
    command += [f"-I{NATIVE / 'include'}", f"-I{NATIVE / 'region'}"]
    sources = [simulated_share.PROGRAMS / "reserve_loop.c", *(NATIVE / "region").glob("*.c")]
    subprocess.run([*command, *sources], check=True)
    return output


def contended(
    process: subprocess.Popen[str], others: list[subprocess.Popen[str]]
) -> Callable[[], float]:
    """The mean over all of them, working at once."""

    def measure() -> float:
        everybody = [process, *others]
        for each in everybody:
            assert each.stdin
            each.stdin.write("\n")
            each.stdin.flush()
        costs: list[float] = []
        for each in everybody:
            assert each.stdout
            costs.append(float(each.stdout.readline()))
        return sum(costs) / len(costs)

    return measure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--calls", type=int, default=200_000, help="pairs in one measurement")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        program = build(Path(scratch) / "reserve_loop")
        (share,) = stack.enter_context(simulated_share.shares(100))
        calls = str(arguments.calls)
        counter, alone, one, other = (
            stack.enter_context(
                share.start([program, share.directory, calls, what, kind], hooked=False)
            )
            for what, kind in (
                ("counter", "median"),
                ("share", "median"),
                ("share", "mean"),  # processes that meet now and then do not show in a median
                ("share", "mean"),
            )
        )
        rows = pairs.interleave(
            arguments.pairs, cost_ns(counter), cost_ns(alone), cost_ns(one), contended(one, [other])
        )
    pairs.report(
        "reserve_cost",
        "no GPU",
        [
            pairs.figure("atomic addition and subtraction", "ns", [row[0] for row in rows]),
            pairs.figure("reserve and refund add", "ns", [row[1] - row[0] for row in rows]),
            pairs.figure("two processes at once / one", "times", [row[3] / row[2] for row in rows]),
        ],
    )


if __name__ == "__main__":
    main()
