"""What the agent takes of one core: all its threads, the arbiter's alone, and its NVML child.
Without any share; with two tenants (30 and 70 percent) that do nothing; with both always busy.

    python bench/agent_cost.py
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import launches
import pairs
import psutil
import simulated_share

from gpuslice_agent import simulation

GPUSLICE = (sys.executable, "-m", "gpuslice_agent.cli")
START_SECONDS = 30.0


@contextmanager
def agent(node: simulation.SimNode) -> Generator[psutil.Process]:
    """Of the node, as a service: it stays without shares."""
    command = [*GPUSLICE, "agent", "--state-dir", str(node.path / "state")]
    with subprocess.Popen(
        command, env=node.environment(os.environ), stderr=subprocess.DEVNULL
    ) as process:
        until = time.monotonic() + START_SECONDS
        while not node.run_directory.socket.exists():
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("the agent did not start")
            time.sleep(0.05)
        try:
            yield psutil.Process(process.pid)
        finally:
            process.terminate()


def tenant(node: simulation.SimNode, cores: int, command: list[str | Path]) -> list[str | Path]:
    return [*GPUSLICE, "run", "--cores", str(cores), "--", *command]


def processor_ns(pid: int) -> dict[tuple[int, str], int]:
    """Of every thread, by its id and name. The kernel counts ns here and hundredths elsewhere."""
    times: dict[tuple[int, str], int] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        name = (task / "comm").read_text().strip()
        times[int(task.name), name] = int((task / "schedstat").read_text().split()[0])
    return times


Taken = dict[str, float]


def percent_of_a_core(process: psutil.Process, meanwhile: Callable[[], object]) -> Taken:
    """By part of the agent."""
    children = process.children(recursive=True)
    start = time.monotonic_ns()
    before = {child.pid: processor_ns(child.pid) for child in (process, *children)}
    meanwhile()
    after = {pid: processor_ns(pid) for pid in before}
    elapsed_ns = time.monotonic_ns() - start
    taken = {"agent": 0.0, "its arbiter": 0.0, "its NVML child": 0.0}
    for pid, threads in after.items():
        for thread, ns in threads.items():
            percent = 100 * (ns - before[pid].get(thread, 0)) / elapsed_ns
            taken["agent" if pid == process.pid else "its NVML child"] += percent
            if thread[1] == "arbiter":
                taken["its arbiter"] += percent
    return taken


def figures_of(state: str, windows: list[Taken], asked: dict[str, str]) -> list[pairs.Figure]:
    return [
        pairs.figure(f"{part}, {state}", "% of a core", [w[part] for w in windows], asked[part])
        for part in windows[0]
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=3.0, help="of one measurement")
    arguments = parser.parse_args()
    seconds: float = arguments.seconds
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        program = simulated_share.build(Path(scratch) / "launch_loop", "launch_loop.c")
        node = stack.enter_context(simulation.temporary("2xa100-80g", 1))
        process = stack.enter_context(agent(node))
        time.sleep(seconds)  # what it does once, after its start
        alone = [
            percent_of_a_core(process, lambda: time.sleep(seconds)) for _ in range(arguments.pairs)
        ]
        share = simulated_share.Share(node, node.path)
        tenants = [
            stack.enter_context(
                share.start(
                    tenant(node, cores, launches.command(program, "loop", 2000)), hooked=False
                )
            )
            for cores in (30, 70)
        ]
        for each in tenants:
            launches.wait_until_ready(each)
        idle: list[Taken] = []
        busy: list[Taken] = []
        for _ in range(arguments.pairs):
            time.sleep(1)  # the tenants' last work is done
            idle.append(percent_of_a_core(process, lambda: time.sleep(seconds)))
            busy.append(percent_of_a_core(process, lambda: launches.work(tenants, seconds)))
    nothing = dict.fromkeys(alone[0], "")
    pairs.report(
        "agent_cost",
        simulated_share.GPU,
        [
            *figures_of("no share", alone, nothing),
            *figures_of("two idle tenants", idle, nothing),
            *figures_of(
                "two busy tenants", busy, {**nothing, "its arbiter": "< 1", "agent": "< 1"}
            ),
        ],
    )


if __name__ == "__main__":
    main()
