"""The kernel's log as journald has it, for where /dev/kmsg may not be read."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

import msgspec

from gpuslice_agent.errors import HealthError
from gpuslice_agent.health.record import KERNEL, Record

LINE_BYTES = 1 << 20  # a record of the journal may hold many fields
COMMAND = (
    "journalctl",
    "--dmesg",
    "--follow",
    "--output=json",
    "--output-fields=MESSAGE,SYSLOG_FACILITY,_TRANSPORT,_SOURCE_MONOTONIC_TIMESTAMP",
    "--lines=all",
    "--quiet",
)


class _Entry(msgspec.Struct):
    MESSAGE: str | list[int] | None = None  # numbers: bytes that are no UTF-8
    SYSLOG_FACILITY: str = "0"
    _TRANSPORT: str = ""
    monotonic: str = msgspec.field(default="0", name="__MONOTONIC_TIMESTAMP")
    source_monotonic: str = msgspec.field(default="", name="_SOURCE_MONOTONIC_TIMESTAMP")


_entries: msgspec.json.Decoder[_Entry] = msgspec.json.Decoder(_Entry)


async def records(command: tuple[str, ...] = COMMAND) -> AsyncGenerator[Record]:
    """Of this boot, from the oldest on and as they come. Numbered as they come, from 0.

    Raises HealthError where there is no journal for us.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=LINE_BYTES,
        )
    except OSError as error:
        raise HealthError(f"The journal cannot be read: {error.strerror}.") from error
    assert process.stdout is not None and process.stderr is not None
    number = 0
    try:
        while line := await _line(process.stdout):
            if (one := _record(line, number)) is not None:
                yield one
                number += 1
        said = (await process.stderr.read(1000)).decode(errors="replace").strip()
        raise HealthError(f"The journal cannot be read: {said or 'journalctl ended'}.")
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _line(stream: asyncio.StreamReader) -> bytes:
    """Empty at the end."""
    while True:
        try:
            return await stream.readuntil(b"\n")
        except asyncio.IncompleteReadError:
            return b""
        except asyncio.LimitOverrunError as error:
            await stream.readexactly(error.consumed)  # too long to be of the driver


def _record(line: bytes, number: int) -> Record | None:
    try:
        entry = _entries.decode(line)
    except msgspec.DecodeError:
        return None
    text, facility = entry.MESSAGE, entry.SYSLOG_FACILITY
    if facility != str(KERNEL) or text is None:
        return None
    if isinstance(text, list):
        text = bytes(byte & 0xFF for byte in text).decode("utf-8", "replace")
    usec = entry.source_monotonic or entry.monotonic
    return Record(KERNEL, number, int(usec) if usec.isdecimal() else 0, text)
