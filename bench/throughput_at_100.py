"""What a share of the whole time gets done, of what the same program does without the shim: kernels
launched in a loop on the simulated GPU. Asked: at least 99 %.

    python bench/throughput_at_100.py
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pairs
import simulated_share

from gpuslice_agent import native_files


def launches_a_second(process: subprocess.Popen[str], seconds: float) -> Callable[[], float]:
    assert process.stdin and process.stdout
    ask, answer = process.stdin, process.stdout
    if answer.readline() != "ready\n":
        raise RuntimeError("launch_loop did not start")

    def measure() -> float:
        ask.write(f"{seconds}\n")
        ask.flush()
        said = json.loads(answer.readline())
        return float(said["launches"] * 1e9 / (said["end_ns"] - said["start_ns"]))

    return measure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=0.5, help="of one measurement")
    arguments = parser.parse_args()
    figures: list[pairs.Figure] = []
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        program = simulated_share.build(Path(scratch) / "launch_loop", "launch_loop.c")
        share = stack.enter_context(simulated_share.share(cores=100))
        for mode, kernel_us in (("loop", 10), ("loop", 100), ("sync", 100), ("graph", 100)):
            options = ["--mode", mode, "--kernel-us", str(kernel_us)]
            command: list[str | Path] = [program, "--ptx", native_files.kernels(), *options]
            measures = [
                launches_a_second(
                    stack.enter_context(share.start(command, hooked=hooked)), arguments.seconds
                )
                for hooked in (False, True)
            ]
            rows = pairs.interleave(arguments.pairs, *measures)
            kept = pairs.median_interval([100 * hooked / bare for bare, hooked in rows])
            name = f"throughput kept, {mode}, {kernel_us} us"
            figures.append(pairs.Figure(name, "%", kept, len(rows), "simulated A100"))
    pairs.report("throughput_at_100", figures)


if __name__ == "__main__":
    main()
