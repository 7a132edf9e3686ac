"""The process that touches a GPU: `python -m gpuslice_agent.diag.worker PTX SECONDS BYTES TEST…`.

A call into a sick driver may never return: whoever started it waits with a deadline.
"""

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from gpuslice_agent.demo.driver import CudaError
from gpuslice_agent.diag import burning, driver, measures, memory
from gpuslice_agent.diag.driver import Device
from gpuslice_agent.nvml.child import end_with

MIB = 2**20
HOST_COPY_BYTES = 64 * MIB
# Two of them are more than any cache holds.
DEVICE_COPY_BYTES = 128 * MIB
COPIES = 8


def main() -> None:
    end_with(os.getppid())
    ptx, seconds, size, *tests = sys.argv[1:]
    steps = steps_of(Path(ptx), float(seconds), int(size))
    for test in tests:
        say(measures.Begun(test))
        try:
            measure: measures.Line = steps[test]()
        except (CudaError, OSError, RuntimeError) as error:
            say(measures.Broken(str(error)))
            return
        say(measure)


def steps_of(ptx: Path, seconds: float, size: int) -> dict[str, Callable[[], measures.Measure]]:
    device = Lazy()
    return {
        "cuda": cuda,
        "h2d": lambda: copied_in(device()),
        "d2h": lambda: copied_out(device()),
        "d2d": lambda: copied_within(device()),
        "memory": lambda: memory.matched(device(), ptx.read_bytes(), seconds, size),
        "burn": lambda: burning.burnt(device(), ptx.read_bytes(), seconds),
    }


class Lazy:
    """The device, from the first test on that needs a context."""

    def __init__(self) -> None:
        self._device: Device | None = None

    def __call__(self) -> Device:
        self._device = self._device or Device()
        return self._device


def cuda() -> measures.Cuda:
    return measures.Cuda(*driver.version_and_uuids())


def copied_in(device: Device) -> measures.Copied:
    target, source = device.allocate(HOST_COPY_BYTES), device.pinned(HOST_COPY_BYTES)
    copy = partial(device.copy_in, target, source, HOST_COPY_BYTES)
    return rate_of(device, copy, HOST_COPY_BYTES, (target,))


def copied_out(device: Device) -> measures.Copied:
    source, target = device.allocate(HOST_COPY_BYTES), device.pinned(HOST_COPY_BYTES)
    copy = partial(device.copy_out, target, source, HOST_COPY_BYTES)
    return rate_of(device, copy, HOST_COPY_BYTES, (source,))


def copied_within(device: Device) -> measures.Copied:
    target, source = device.allocate(DEVICE_COPY_BYTES), device.allocate(DEVICE_COPY_BYTES)
    copy = partial(device.copy_within, target, source, DEVICE_COPY_BYTES)
    return rate_of(device, copy, DEVICE_COPY_BYTES, (target, source))


def rate_of(
    device: Device, copy: Callable[[], None], size: int, pointers: tuple[int, ...]
) -> measures.Copied:
    copy()  # wakes the link and the clocks
    device.synchronize()
    start, end = device.event(), device.event()
    device.record(start)
    for _ in range(COPIES):
        copy()
    device.record(end)
    device.wait(end)
    for pointer in pointers:
        device.free(pointer)
    return measures.Copied(
        COPIES * size / device.seconds(start, end),
        device.attribute(driver.MEMORY_CLOCK_RATE),
        device.attribute(driver.GLOBAL_MEMORY_BUS_WIDTH),
    )


def say(line: measures.Line) -> None:
    sys.stdout.buffer.write(measures.encode(line) + b"\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
