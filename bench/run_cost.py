"""What `gpuslice run -- true` costs over `true`: the whole command from start to end, with the
agent running already and with one to be started first (a private agent that ended). The time by the
clock grows with what else the machine does; the processor time of the command hardly.

    python bench/run_cost.py
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import pairs
import simulated_share

from gpuslice_agent import simulation

RUN = (sys.executable, "-m", "gpuslice_agent.cli", "run", "--cores", "10", "--")


def elapsed_ms(command: Sequence[str], environment: Mapping[str, str]) -> Callable[[], float]:
    def measure() -> float:
        start = time.perf_counter()
        subprocess.run(command, env=environment, check=True)
        return (time.perf_counter() - start) * 1e3

    return measure


def processor_ms(command: Sequence[str], environment: Mapping[str, str]) -> Callable[[], float]:
    def measure() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, env=environment, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime) * 1e3

    return measure


def on_a_new_node(command: Sequence[str]) -> Callable[[], float]:
    def measure() -> float:
        with simulation.temporary("2xa100-80g", 1) as node:
            return elapsed_ms(command, node.environment(os.environ))()

    return measure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=20)
    count: int = parser.parse_args().pairs
    with simulation.temporary("2xa100-80g", 1) as node:
        environment = node.environment(os.environ)
        # A share that lives meanwhile keeps the agent.
        with subprocess.Popen([*RUN, "cat"], env=environment, stdin=subprocess.PIPE) as keeper:
            there, processor = (
                pairs.interleave(
                    count, taken(["true"], environment), taken([*RUN, "true"], environment)
                )
                for taken in (elapsed_ms, processor_ms)
            )
            assert keeper.stdin is not None
            keeper.stdin.close()
    started = pairs.interleave(count, on_a_new_node(["true"]), on_a_new_node([*RUN, "true"]))
    pairs.report(
        "run_cost",
        simulated_share.GPU,
        [
            pairs.figure(name, "ms", [with_run - bare for bare, with_run in rows])
            for name, rows in (
                ("run adds, the agent is there", there),
                ("run adds, the agent is there, processor time", processor),
                ("run adds, the agent is started", started),
            )
        ],
    )


if __name__ == "__main__":
    main()
