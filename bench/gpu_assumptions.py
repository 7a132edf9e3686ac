"""What the simulated node assumes of a GPU, asked of a real one: assumption, real, simulated.

    python bench/gpu_assumptions.py [--profile h200]     on a machine with a GPU that nobody uses

Both columns come from bench/programs/assumptions.py, which asks the driver and NVML the same
questions wherever it runs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpuslice_agent import simulation

PROGRAM = Path(__file__).parent / "programs" / "assumptions.py"
SECONDS = 60.0


def ask(environment: Mapping[str, str]) -> dict[str, Any]:
    """What was found out before something went wrong is kept, with what went wrong."""
    done = subprocess.run(
        [sys.executable, PROGRAM],
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    facts: dict[str, Any] = {}
    for line in done.stdout.splitlines():
        facts |= json.loads(line)
    if done.returncode != 0:
        facts["error"] = done.stderr.strip().splitlines()[-1]
    return facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", default="h200")
    profile: str = parser.parse_args().profile
    real = ask(os.environ)
    with simulation.temporary(profile, 1) as node:
        simulated = ask(node.environment(os.environ))
    rows: list[dict[str, Any]] = []
    width = max(map(len, real | simulated))
    for what in real | simulated:
        here, there = real.get(what), simulated.get(what)
        rows.append({"assumption": what, "real": here, "simulated": there})
        differs = " " if here == there else "*"
        print(f"{differs} {what:{width}}  {here!s:>24}  {there!s:>24}", file=sys.stderr)
    json.dump({"bench": "gpu_assumptions", "profile": profile, "rows": rows}, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
