"""What the shim costs a process that never touches a GPU: a shell loop of /bin/true, preloaded with
nothing, with an empty library, and with the shim. Measured in processor time of the loop and its
processes, because a fraction of a millisecond drowns in the wall clock of a shared machine; alone,
both are the same. The least library is the smallest the linker can be told to make: no start files,
one segment of code and one of data.

    python bench/preload_cost.py [PATH/TO/libgpuslice.so]
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import resource
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pairs

from gpuslice_agent import native_files

LOOP = "i=0; while [ $i -lt {count} ]; do /bin/true; i=$((i+1)); done"


LEAST = ("-nostartfiles", "-Wl,-z,noseparate-code", "-Wl,-z,norelro", "-Wl,--hash-style=gnu")


def empty_library(directory: Path, name: str, *options: str) -> Path:
    library, source = directory / name, directory / "empty.c"
    source.write_text("")
    compiler = os.environ.get("CC", "cc")
    command: list[str | Path] = [
        compiler,
        "-shared",
        "-fPIC",
        "-O2",
        *options,
        "-o",
        library,
        source,
    ]
    subprocess.run(command, check=True)
    return library


def loop_us(preload: Path | None, count: int) -> Callable[[], float]:
    """Microseconds of the processor that one process takes, over a loop of `count`."""
    environment = {**os.environ, **({"LD_PRELOAD": str(preload)} if preload else {})}
    if preload is None:
        environment.pop("LD_PRELOAD", None)

    def measure() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(["/bin/sh", "-c", LOOP.format(count=count)], env=environment, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        return seconds * 1e6 / count

    return measure


def ratio_interval(
    rows: Sequence[tuple[float, ...]], column: int, base: int, rounds: int = 2000
) -> pairs.Interval:
    """What one column adds to the first over what another adds, both as medians over the rows."""

    def added(sample: Sequence[tuple[float, ...]], index: int) -> float:
        return statistics.median(row[index] - row[0] for row in sample)

    source = random.Random(1)
    samples = (source.choices(rows, k=len(rows)) for _ in range(rounds))
    ratios = sorted(added(sample, column) / added(sample, base) for sample in samples)
    low, high = ratios[int(rounds * 0.025)], ratios[int(rounds * 0.975) - 1]
    return pairs.Interval(added(rows, column) / added(rows, base), low, high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    release = Path(f"dist/libgpuslice-{platform.machine()}.so")
    parser.add_argument("shim", type=Path, nargs="?", default=release)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--loop", type=int, default=1000, help="processes in one loop")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        preloads = (
            None,
            empty_library(scratch, "libempty.so"),
            empty_library(scratch, "libleast.so", *LEAST),
            arguments.shim.resolve(strict=True),
            native_files.shim(),
        )
        rows = pairs.interleave(
            arguments.pairs, *(loop_us(preload, arguments.loop) for preload in preloads)
        )
    added = [[row[column] - row[0] for row in rows] for column in range(len(preloads))]
    figures = [
        pairs.figure("/bin/true", "us", [row[0] for row in rows]),
        pairs.figure("an empty library adds", "us", added[1]),
        pairs.figure("the least library adds", "us", added[2]),
        pairs.figure("the shim adds, release build", "us", added[3]),
        pairs.figure("the shim adds, built here", "us", added[4]),
    ]
    figures += [
        pairs.Figure(name, "times", ratio_interval(rows, column, base), len(rows), asked)
        for name, column, base, asked in (
            ("release build / empty library", 3, 1, "≤ 1.5"),
            ("built here / empty library", 4, 1, "≤ 1.5"),
            ("release build / least library", 3, 2, ""),
            ("built here / least library", 4, 2, ""),
        )
    ]
    pairs.report("preload_cost", "no GPU", figures)


if __name__ == "__main__":
    main()
