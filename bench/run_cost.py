"""What `gpuslice run -- true` costs over `true`: the whole command from start to end, with the
agent running already and with one to be started first (a private agent that ended).

    python bench/run_cost.py
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import pairs

from gpuslice_agent import simulation

RUN = (sys.executable, "-m", "gpuslice_agent.cli", "run", "--cores", "10", "--")


def elapsed_ms(command: Sequence[str], environment: Mapping[str, str]) -> Callable[[], float]:
    def measure() -> float:
        start = time.perf_counter()
        subprocess.run(command, env=environment, check=True)
        return (time.perf_counter() - start) * 1e3

    return measure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=20)
    count: int = parser.parse_args().pairs
    with simulation.temporary("2xa100-80g", 1) as node:
        environment = node.environment(os.environ)
        run, bare = elapsed_ms([*RUN, "true"], environment), elapsed_ms(["true"], environment)
        # A share that lives meanwhile keeps the agent.
        with subprocess.Popen([*RUN, "cat"], env=environment, stdin=subprocess.PIPE) as keeper:
            with_agent = [
                with_run - without for without, with_run in pairs.interleave(count, bare, run)
            ]
            assert keeper.stdin is not None
            keeper.stdin.close()
    without_agent: list[float] = []
    for _ in range(count):
        with simulation.temporary("2xa100-80g", 1) as node:
            environment = node.environment(os.environ)
            start = elapsed_ms([*RUN, "true"], environment)()
            without_agent.append(start - elapsed_ms(["true"], environment)())
    pairs.report(
        "run_cost",
        [
            pairs.Figure(name, "ms", pairs.median_interval(values), count, "simulated A100")
            for name, values in (
                ("run adds, the agent is there", with_agent),
                ("run adds, the agent is started", without_agent),
            )
        ],
    )


if __name__ == "__main__":
    main()
