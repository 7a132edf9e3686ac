"""What calls of the driver cost on a real GPU, and what the shim adds to each, with the limit of a
whole GPU's time active. Also a pair of cuMemAlloc and cuMemFree beside 20 000 live allocations.

    python bench/gpu_costs.py --programs FOLDER      (tests/gpu/build.py fills it)
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pairs
import pynvml  # pyright: ignore[reportMissingTypeStubs]

from gpuslice_agent import native_files

nvml: Any = pynvml  # without types
RUN = (sys.executable, "-m", "gpuslice_agent.cli", "run", "--gpu", "0", "--cores", "100")
SHARE = (*RUN, "--mem", "8GiB", "--")
# As many as take some milliseconds on a GPU.
MANY, SOME, FEW = 2000, 200, 20


def calls_of(name: str) -> int:
    if name.startswith("cuMemAlloc") and "256" not in name:
        return SOME
    return FEW if "MiB" in name else MANY


@contextmanager
def started(command: Sequence[str | Path]) -> Generator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
    try:
        yield process
    finally:
        process.communicate()


def asked(process: subprocess.Popen[str], line: str) -> Callable[[], float]:
    """The nanoseconds that the program answers with."""
    assert process.stdin and process.stdout
    ask, answer = process.stdin, process.stdout

    def measure() -> float:
        ask.write(line)
        ask.flush()
        return float(answer.readline())

    return measure


def figures_of(
    name: str, count: int, plain: Callable[[], float], hooked: Callable[[], float]
) -> Iterator[pairs.Figure]:
    rows = pairs.interleave(count, plain, hooked)
    costs = {
        name: [bare for bare, _ in rows],
        f"{name}: the shim adds": [with_shim - bare for bare, with_shim in rows],
    }
    for what, values in costs.items():
        yield pairs.figure(what, "ns", values)


def nvml_figures(count: int) -> Iterator[pairs.Figure]:
    """What the agent asks of NVML."""
    handle = nvml.nvmlDeviceGetHandleByIndex(0)
    questions: dict[str, Callable[[], object]] = {
        "nvmlDeviceGetMemoryInfo": lambda: nvml.nvmlDeviceGetMemoryInfo(handle),
        "nvmlDeviceGetComputeRunningProcesses": lambda: nvml.nvmlDeviceGetComputeRunningProcesses(
            handle
        ),
        "nvmlDeviceGetUtilizationRates": lambda: nvml.nvmlDeviceGetUtilizationRates(handle),
    }
    for name, ask in questions.items():
        times: list[float] = []
        for _ in range(count):
            start = time.perf_counter_ns()
            ask()
            times.append(time.perf_counter_ns() - start)
        yield pairs.figure(name, "ns", times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=15)
    arguments = parser.parse_args()
    program: Path = arguments.programs / "gpu_costs"
    nvml.nvmlInit()
    gpu = nvml.nvmlDeviceGetName(nvml.nvmlDeviceGetHandleByIndex(0))
    names = subprocess.run([program, "names"], capture_output=True, text=True, check=True)
    figures: list[pairs.Figure] = []
    with ExitStack() as stack:
        command: tuple[str | Path, ...] = (program, native_files.kernels())
        plain = stack.enter_context(started(command))
        hooked = stack.enter_context(started((*SHARE, *command)))
        for name in names.stdout.splitlines():
            line = f"{name}\t{calls_of(name)}\n"
            measures = asked(plain, line), asked(hooked, line)
            figures += figures_of(name, arguments.pairs, *measures)
        figures += nvml_figures(SOME)
    with ExitStack() as stack:
        command = (arguments.programs / "allocation_loop", "20000", "1000")
        plain = stack.enter_context(started(command))
        hooked = stack.enter_context(started((*SHARE, *command)))
        what = "cuMemAlloc and free beside 20 000"
        measures = asked(plain, "\n"), asked(hooked, "\n")
        figures += figures_of(what, arguments.pairs, *measures)
    pairs.report("gpu_costs", gpu, figures)


if __name__ == "__main__":
    main()
