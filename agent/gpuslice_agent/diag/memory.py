"""Writes a pattern to a GPU's memory and looks whether it is still there. Runs in the worker."""

import struct
import time
from ctypes import c_uint32, c_uint64

from gpuslice_agent.demo.driver import OUT_OF_MEMORY, CudaError
from gpuslice_agent.diag.driver import Device
from gpuslice_agent.diag.measures import Matched

MIB = 2**20
# Large ones first, so that much memory is taken quickly.
BLOCKS = (1024 * MIB, 64 * MIB)
# What launches may need beside it.
LEFT_FREE = 256 * MIB
WORD = 4
GRID = (4096, 256)
ONES = 0xFFFFFFFF
# Odd and without a pattern of its own: each pass writes other words.
STEP = 0x9E3779B1
NOTHING_FOUND = struct.Struct("<QQQ")


def matched(device: Device, ptx: bytes, seconds: float, most: int) -> Matched:
    """All free memory, or `most` bytes of it, again and again for so long; at least once."""
    pattern, match = (
        device.function(ptx, "gpuslice_pattern"),
        device.function(ptx, "gpuslice_match"),
    )
    found = device.allocate(NOTHING_FOUND.size)
    device.write(found, NOTHING_FOUND.pack(0, 2**64 - 1, 0))
    blocks = _take(device, min(most, device.memory()[0] - LEFT_FREE))
    until, passes = time.monotonic() + seconds, 0
    while passes == 0 or time.monotonic() < until:
        mask = passes * STEP & ONES
        for word in (mask, mask ^ ONES):  # each bit is written as 0 and as 1
            # All is written before any is read: an address that leads to another's cell is found.
            for pointer, size, first in blocks:
                where = c_uint64(size // WORD), c_uint64(first)
                device.spread(pattern, GRID, c_uint64(pointer), c_uint32(word), *where)
            for pointer, size, first in blocks:
                where = c_uint64(size // WORD), c_uint64(first)
                read = (c_uint64(pointer), c_uint32(word), *where, c_uint64(found))
                device.spread(match, GRID, *read)
            device.synchronize()
        passes += 1
    wrong, at, bits = NOTHING_FOUND.unpack(device.read(found, NOTHING_FOUND.size))
    for pointer, _, _ in blocks:
        device.free(pointer)
    return Matched(sum(size for _, size, _ in blocks), passes, wrong, at, bits)


def _take(device: Device, most: int) -> list[tuple[int, int, int]]:
    """Address, bytes and number of the first word of each block."""
    blocks: list[tuple[int, int, int]] = []
    taken = 0
    for size in BLOCKS:
        while taken + size <= most:
            try:
                pointer = device.allocate(size)
            except CudaError as error:
                if error.status != OUT_OF_MEMORY:
                    raise
                break
            blocks.append((pointer, size, taken // WORD))
            taken += size
    if not blocks:
        raise RuntimeError("less than 64 MiB of its memory are free")
    return blocks
