"""What the shim costs a process that never touches a GPU: a shell loop of /bin/true, preloaded with
nothing, with an empty library, and with the shim. Asked: the shim adds at most 1.5 times what the
empty library adds. Measured in processor time of the loop and its processes, because a fraction of
a millisecond drowns in the wall clock of a shared machine; alone, both are the same.

    python bench/preload_cost.py PATH/TO/libgpuslice.so
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pairs

LOOP = "i=0; while [ $i -lt {count} ]; do /bin/true; i=$((i+1)); done"


def empty_library(directory: Path) -> Path:
    """The least that can be preloaded, linked as the shim is."""
    library = directory / "libempty.so"
    source = directory / "empty.c"
    source.write_text("")
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", library, source], check=True)
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


def ratio_interval(rows: Sequence[tuple[float, ...]], rounds: int = 2000) -> pairs.Interval:
    """What the shim adds over what the empty library adds, both as medians over the rows."""

    def ratio(sample: Sequence[tuple[float, ...]]) -> float:
        added_empty = statistics.median(empty - none for none, empty, _ in sample)
        return statistics.median(shim - none for none, _, shim in sample) / added_empty

    source = random.Random(1)
    ratios = sorted(ratio(source.choices(rows, k=len(rows))) for _ in range(rounds))
    low, high = ratios[int(rounds * 0.025)], ratios[int(rounds * 0.975) - 1]
    return pairs.Interval(median=ratio(rows), low=low, high=high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shim", type=Path)
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--loop", type=int, default=100, help="processes in one loop")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        preloads = (None, empty_library(Path(scratch)), arguments.shim.resolve())
        rows = pairs.interleave(
            arguments.pairs, *(loop_us(preload, arguments.loop) for preload in preloads)
        )
    values = {
        "/bin/true": ("us", pairs.median_interval([none for none, _, _ in rows])),
        "an empty library adds": (
            "us",
            pairs.median_interval([empty - none for none, empty, _ in rows]),
        ),
        "the shim adds": ("us", pairs.median_interval([shim - none for none, _, shim in rows])),
        "shim / empty library": ("times", ratio_interval(rows)),
    }
    pairs.report(
        "preload_cost",
        [
            pairs.Figure(name, unit, value, len(rows), "no GPU")
            for name, (unit, value) in values.items()
        ],
    )


if __name__ == "__main__":
    main()
