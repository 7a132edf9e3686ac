"""Keeps all of a GPU at arithmetic whose result is known. Runs in the worker."""

import time
from ctypes import c_uint32, c_uint64

from gpuslice_agent.diag import driver
from gpuslice_agent.diag.driver import Device
from gpuslice_agent.diag.measures import Burnt

ROUNDS = 1 << 17
OPERATIONS = 2  # a round: a fused multiply-add and a multiplication
THREADS = 256
BLOCKS_PER_MULTIPROCESSOR = 8
LANES = 32
# What 32-bit floating point of IEEE 754 comes to: the bits of each lane's result, little-endian.
RIGHT = bytes.fromhex(
    "ee526b3f5a49183f08d1693f1c20f23e90cf193eb066723f6b03b03ed314583f"
    "2c20803e8d98fa3e2828b63c67426f3e47c8b13dc6917e3fd2160b3fdf13413e"
    "9611163fcd12083fbd68763ffeee283cc8027f3f6b8a5b3f06bb1e3f4db2903c"
    "75a95b3e27e04c3f1474e03ebe64913c7c5ed33c63792c3d767b7b3f0618493e"
)


def burnt(device: Device, ptx: bytes, seconds: float) -> Burnt:
    """For so long; at least two launches. Every launch's results are compared."""
    burn = device.function(ptx, "gpuslice_burn")
    multiprocessors = device.attribute(driver.MULTIPROCESSOR_COUNT)
    blocks = multiprocessors * BLOCKS_PER_MULTIPROCESSOR
    count = blocks * THREADS
    results = device.allocate(count * 4)
    right = RIGHT * (count // LANES)
    start, end = device.event(), device.event()
    until, launches, wrong, busy = time.monotonic() + seconds, 0, 0, 0.0
    while launches < 2 or time.monotonic() < until:
        device.record(start)
        device.spread(burn, (blocks, THREADS), c_uint64(results), c_uint32(ROUNDS), c_uint64(count))
        device.record(end)
        device.wait(end)
        if launches > 0:  # in the first one the clocks still rise
            busy += device.seconds(start, end)
        wrong += _wrong(device.read(results, count * 4), right)
        launches += 1
    device.free(results)
    return Burnt(
        launches,
        wrong,
        (launches - 1) * ROUNDS * OPERATIONS * count / busy,
        (
            device.attribute(driver.COMPUTE_CAPABILITY_MAJOR),
            device.attribute(driver.COMPUTE_CAPABILITY_MINOR),
        ),
        multiprocessors,
        device.attribute(driver.CLOCK_RATE),
    )


def _wrong(got: bytes, right: bytes) -> int:
    """How many results differ."""
    if got == right:
        return 0
    return sum(got[i : i + 4] != right[i : i + 4] for i in range(0, len(right), 4))
