"""The agent, killed at a line of its own that a test chose.

    dying_agent.py LINES agent FLAGS...

Counts the lines that run where shares come to be and end, and dies before the one after LINES of
them, as by kill -9: no `finally` runs, nothing is flushed.
"""

import inspect
import os
import signal
import sys
from types import FrameType
from typing import Any

from gpuslice_agent.cli import main

PLUGIN = ("binding", "planner", "release", "service")
CLAIMS = ("claims", "prepare", "service", "sweeper")
WATCHED = (
    "gpuslice_agent/shares.py",
    "gpuslice_agent/ledger.py",
    "gpuslice_agent/enforcement/directories.py",
    "gpuslice_plugin/cdi.py",
    *(f"gpuslice_plugin/device_plugin/{part}.py" for part in PLUGIN),
    *(f"gpuslice_plugin/dra/{part}.py" for part in CLAIMS),
)


def die_after(lines: int) -> None:
    left = lines

    def in_watched(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal left
        if event == "line":
            left -= 1
            if left < 0:
                where = f"{frame.f_code.co_filename}:{frame.f_lineno}"
                print(f"killed before {where}", file=sys.stderr, flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
        return in_watched

    def anywhere(frame: FrameType, _event: str, _argument: Any) -> Any:
        # Functions only: what an import runs is no work on shares.
        in_function = frame.f_code.co_flags & inspect.CO_OPTIMIZED
        watched = in_function and frame.f_code.co_filename.endswith(WATCHED)
        return in_watched if watched else None

    sys.settrace(anywhere)


if __name__ == "__main__":
    die_after(int(sys.argv.pop(1)))
    main()
