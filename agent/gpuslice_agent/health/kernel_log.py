"""Reads the kernel's log as it is written: /dev/kmsg, or the log of a simulated node."""

import asyncio
import errno
import os
import stat
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Protocol

import msgspec

from gpuslice_agent.health import record
from gpuslice_agent.health.record import KERNEL, Record
from gpuslice_agent.simulated_kmsg import SimulatedKmsg

RECORD_BYTES = 8192  # the kernel's own limit (CONSOLE_EXT_LOG_MAX); less is EINVAL for a long one
READS_AT_ONCE = 256  # then others of the loop have their turn
FROM_A_PROGRAM = 1  # the facility of what is written to the log by a program
# Read sooner after it was written than this, a record gets the time of the reading: the log's clock
# is not the one that people set, and drifts from it.
PROMPT_SECONDS = 5.0


class Batch(msgspec.Struct, frozen=True):
    """What one turn of reading gave. `lost`: records were overwritten before they were read."""

    records: tuple[Record, ...] = ()
    lost: int = 0


class Log(Protocol):
    """As /dev/kmsg: a record a read, BlockingIOError where there is none, EPIPE after a loss."""

    def fileno(self) -> int: ...

    def read(self, size: int) -> bytes: ...

    def close(self) -> None: ...


class DeviceLog:
    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def fileno(self) -> int:
        return self._file

    def read(self, size: int) -> bytes:
        return os.read(self._file, size)

    def close(self) -> None:
        os.close(self._file)


class KernelLog:
    """From its oldest record on. OSError: it may not be read."""

    def __init__(self, path: Path) -> None:
        # Only on a simulated node may faults be written by a program: its log is no device.
        simulated = path.exists() and not stat.S_ISCHR(path.stat().st_mode)
        self._log: Log = SimulatedKmsg(path) if simulated else DeviceLog(path)
        self._facilities = {KERNEL, FROM_A_PROGRAM} if simulated else {KERNEL}

    def close(self) -> None:
        self._log.close()

    def read(self) -> tuple[Batch, bool]:
        """What there is, within limits, and whether there may be more. Never waits."""
        records: list[Record] = []
        lost = 0
        for _ in range(READS_AT_ONCE):
            try:
                one = record.parse(self._log.read(RECORD_BYTES))
            except BlockingIOError:
                return Batch(tuple(records), lost), False
            except OSError as error:
                if error.errno == errno.EPIPE:
                    lost += 1  # the next read is of the oldest record that is left
                elif error.errno != errno.EINVAL:  # longer than any the kernel writes: skipped
                    raise
                continue
            if one is not None and one.facility in self._facilities:
                records.append(one)
        return Batch(tuple(records), lost), True

    async def batches(self) -> AsyncGenerator[Batch]:
        """For ever, as it is written. Cancel to end."""
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        file = self._log.fileno()
        loop.add_reader(file, readable.set)
        try:
            while True:
                batch, more = self.read()
                if batch.records or batch.lost:
                    yield batch
                if more:
                    await asyncio.sleep(0)
                    continue
                readable.clear()
                await readable.wait()
        finally:
            loop.remove_reader(file)


def written_at(one: Record) -> float:
    """Seconds since the epoch."""
    now = time.time()
    age = time.clock_gettime(time.CLOCK_MONOTONIC) - one.usec / 1e6
    return now if age < PROMPT_SECONDS else now - age
