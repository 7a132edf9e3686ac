"""Records of the kernel's log, and what tells them from what programs wrote. Pure, never raises.

A record of /dev/kmsg is `prio,seq,usec,flags[,key=value…];text` and lines of ` KEY=value`. A byte
of the text that is not printable stands as `\\xNN` (the kernel's ABI/testing/dev-kmsg).
"""

import re

import msgspec

KERNEL = 0  # the facility; a program that writes to /dev/kmsg gets at least 1

_HEADER = re.compile(r"(\d{1,10}),(\d{1,20}),(\d{1,20}),([^;\n]{0,200});", re.ASCII)
_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")
# `Nov 20 14:03:07 host name[pid]: `, or the time as in ISO 8601: the journal's and syslog's way.
_NOT_OF_THE_KERNEL = re.compile(
    r"(?:<\d{1,3}>(?:1 )?)?"
    r"(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?:\.\d{1,9})?|\d{4}-\d\d-\d\d[T ][\d:.,+Z-]{8,30})"
    r" \S{1,255} (?!kernel(?:\[\d{1,10}\])?:)[^\s:\[]{1,64}(?:\[\d{1,10}\])?: ",
    re.ASCII,
)


class Record(msgspec.Struct, frozen=True, gc=False):
    facility: int
    sequence: int
    usec: int  # since boot, on the clock of the kernel's log
    text: str


def parse(data: bytes) -> Record | None:
    """None: it is no record."""
    return _record(data.decode("utf-8", "replace"))


def _record(text: str) -> Record | None:
    header = _HEADER.match(text)
    if header is None:
        return None
    priority, sequence, usec, _ = header.groups()
    # Behind the first newline are the keys of the device; one within the text is escaped.
    line = text[header.end() :].partition("\n")[0]
    return Record(int(priority) >> 3, int(sequence), int(usec), _unescaped(line))


def kernel_message(text: str) -> str | None:
    """What the kernel said, of a line in any form that it is shown in. None: a program said it."""
    if (raw := _record(text)) is not None:
        return raw.text if raw.facility == KERNEL else None
    return None if _NOT_OF_THE_KERNEL.match(text) else text


def _unescaped(text: str) -> str:
    if "\\x" not in text:
        return text
    escaped = text.encode("utf-8", "replace")
    return _ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), escaped).decode("utf-8", "replace")
