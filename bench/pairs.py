"""Interleaved pairs: how every figure of docs/performance.md is made.

Machines are shared and drift, so a figure is never a time: it is the ratio or the difference of two
things measured in turn within one run, A B A B …, each pair beside each other. What is quoted is
the median over the pairs with its 95 % interval (bootstrap over pairs), and what it ran on.
"""

from __future__ import annotations

import json
import math
import os
import platform
import random
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Interval:
    """A median and the 95 % interval of that median."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.4g} [{self.low:.4g}, {self.high:.4g}]"


def median_interval(values: Sequence[float]) -> Interval:
    """The median of `values` with the 95 % interval of a bootstrap over them."""
    return _interval(values, statistics.median)


def _interval(
    values: Sequence[float],
    of: Callable[[Sequence[float]], float],
    rounds: int = 2000,
    seed: int = 1,
) -> Interval:
    source = random.Random(seed)
    found = sorted(of(source.choices(values, k=len(values))) for _ in range(rounds))
    return Interval(
        median=of(values),
        low=found[int(rounds * 0.025)],
        high=found[int(rounds * 0.975) - 1],
    )


def interleave(pairs: int, *subjects: Callable[[], float]) -> list[tuple[float, ...]]:
    """Runs all subjects in turn `pairs` times, after one round that is not counted.

    The order turns with every round, so that none always runs on the heels of the same neighbour.
    """
    for subject in subjects:
        subject()
    rows: list[tuple[float, ...]] = []
    for number in range(pairs):
        shift = number % len(subjects)
        order = [*range(shift, len(subjects)), *range(shift)]
        measured = {index: subjects[index]() for index in order}
        rows.append(tuple(measured[index] for index in range(len(subjects))))
    return rows


def machine() -> str:
    """What the run ran on, in one line."""
    model = "unknown processor"
    with open("/proc/cpuinfo") as cpuinfo:
        for line in cpuinfo:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return f"{model}, {os.cpu_count()} cores, Linux {platform.release()}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of a bench: what, and the interval in `unit`; what was asked of it, as "≤ 60"."""

    name: str
    unit: str
    value: Interval
    pairs: int
    asked: str = ""


def figure(name: str, unit: str, values: Sequence[float], asked: str = "") -> Figure:
    return Figure(name, unit, median_interval(values), len(values), asked)


def quantile_figure(
    name: str, unit: str, values: Sequence[float], quantile: float, asked: str = ""
) -> Figure:
    """With a quantile in the median's place, which the name has to say."""

    def of(some: Sequence[float]) -> float:
        return sorted(some)[math.ceil(quantile * len(some)) - 1]

    return Figure(name, unit, _interval(values, of), len(values), asked)


def report(bench: str, gpu: str, figures: Sequence[Figure]) -> None:
    """Prints the figures for people on stderr and as JSON on stdout (for bench/results/)."""
    where = machine()
    print(f"{bench} on {where}, {gpu}", file=sys.stderr)
    for row in figures:
        asked = f", asked {row.asked}" if row.asked else ""
        print(f"  {row.name}: {row.value} {row.unit} ({row.pairs} pairs{asked})", file=sys.stderr)
    rows = [asdict(row) for row in figures]
    result = {"bench": bench, "machine": where, "gpu": gpu, "figures": rows}
    json.dump(result, sys.stdout, indent=2, ensure_ascii=False)
    print()
