"""What a share of the whole time gets done, of what the same program does without the shim: kernels
launched in a loop on the simulated GPU.

    python bench/throughput_at_100.py
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import launches
import pairs
import simulated_share


def throughput(process: subprocess.Popen[str], seconds: float) -> Callable[[], float]:
    launches.wait_until_ready(process)
    return lambda: launches.launches_a_second(launches.work([process], seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=0.5, help="of one measurement")
    arguments = parser.parse_args()
    figures: list[pairs.Figure] = []
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        program = simulated_share.build(Path(scratch) / "launch_loop", "launch_loop.c")
        (share,) = stack.enter_context(simulated_share.shares(100))
        for mode, kernel_us in (("loop", 10), ("loop", 100), ("sync", 100), ("graph", 100)):
            command = launches.command(program, mode, kernel_us)
            bare, hooked = (
                stack.enter_context(share.start(command, hooked=hooked)) for hooked in (False, True)
            )
            rows = pairs.interleave(
                arguments.pairs,
                throughput(bare, arguments.seconds),
                throughput(hooked, arguments.seconds),
            )
            kept = [100 * with_shim / without for without, with_shim in rows]
            name = f"throughput kept, {mode}, {kernel_us} us"
            figures.append(pairs.figure(name, "%", kept, "≥ 99"))
    pairs.report("throughput_at_100", simulated_share.GPU, figures)


if __name__ == "__main__":
    main()
