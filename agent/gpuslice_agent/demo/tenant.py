"""One tenant of the demo: takes all the memory it can get, then keeps the GPU busy.

It talks to whoever started it in lines of JSON, and works from one line that it hears to the next:

    → {"free_bytes": …, "total_bytes": …, "taken_bytes": …, "refused": true}
    ← (any line)
    ← (any line, or the end of its input)
    → {"launches": …}
"""

import argparse
import ctypes
import json
import sys
import threading
import time
from pathlib import Path

from gpuslice_agent.demo.driver import OUT_OF_MEMORY, CudaError, Driver

MIB = 2**20
# Large ones first, so that a big share is taken quickly; the last is the driver's own granule.
BLOCKS = (1024 * MIB, 64 * MIB, 2 * MIB)
KERNEL_NS = 2_000_000
QUEUE = 4
CALIBRATION_STEPS_PER_US = 1000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--ptx", type=Path, required=True)
    parser.add_argument("--steps-per-us", type=int, default=CALIBRATION_STEPS_PER_US)
    parser.add_argument("--calibrate", action="store_true")
    options = parser.parse_args()
    driver = Driver()
    spin = driver.function(options.ptx.read_bytes(), "gpuslice_spin")
    if options.calibrate:
        _say({"steps_per_us": _calibrate(driver, spin)})
        return
    free, total = driver.memory()
    taken, refused = _take_all(driver)
    _say({"free_bytes": free, "total_bytes": total, "taken_bytes": taken, "refused": refused})
    sys.stdin.readline()
    _say({"launches": _keep_busy(driver, spin, options.steps_per_us, _next_line())})


def _take_all(driver: Driver) -> tuple[int, bool]:
    """Bytes got, and whether the smallest block was refused for want of memory."""
    taken, refused = 0, False
    for size in BLOCKS:
        refused = False
        while not refused:
            try:
                driver.allocate(size)
                taken += size
            except CudaError as error:
                if error.status != OUT_OF_MEMORY:
                    raise
                refused = True
    return taken, refused


def _next_line() -> threading.Event:
    """Set when it has been heard."""
    heard = threading.Event()

    def hear() -> None:
        sys.stdin.readline()
        heard.set()

    threading.Thread(target=hear, daemon=True).start()
    return heard


def _keep_busy(
    driver: Driver, spin: ctypes.c_void_p, steps_per_us: int, stop: threading.Event
) -> int:
    """One kernel is always queued behind the running one: the GPU never waits for the host."""
    events = [driver.event() for _ in range(QUEUE)]
    launches = 0
    while not stop.is_set():
        event = events[launches % QUEUE]
        driver.wait(event)
        driver.launch(spin, ctypes.c_uint64(KERNEL_NS), ctypes.c_uint32(steps_per_us))
        driver.record(event)
        launches += 1
    driver.synchronize()
    return launches


def _calibrate(driver: Driver, spin: ctypes.c_void_p) -> int:
    """How many steps this GPU does in a microsecond, measured while nobody else uses it."""
    work_ns = 20_000_000
    best_ns = min(_timed(driver, spin, work_ns) for _ in range(5))
    return max(1, round(CALIBRATION_STEPS_PER_US * work_ns / best_ns))


def _timed(driver: Driver, spin: ctypes.c_void_p, work_ns: int) -> int:
    start = time.monotonic_ns()
    driver.launch(spin, ctypes.c_uint64(work_ns), ctypes.c_uint32(CALIBRATION_STEPS_PER_US))
    driver.synchronize()
    return time.monotonic_ns() - start


def _say(words: dict[str, object]) -> None:
    print(json.dumps(words), flush=True)


if __name__ == "__main__":
    main()
