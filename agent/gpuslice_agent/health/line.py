"""Finds what a line of the kernel's log says of a GPU. Pure; it takes any text and never raises.

The driver prints `NVRM: Xid (PCI:%04x:%02x:%02x[ GPU-I:%02u[ GPU-CI:%02u]]): %d, pid=%s, name=%s, `
and its words (krcReportXid of the open kernel modules). Every pattern below has bounded repeats and
is tried only where one of its first words stands, so that the time is linear in the line's length.
"""

import re
from collections.abc import Callable
from enum import StrEnum

import msgspec

from gpuslice_agent.entities import pci_address
from gpuslice_agent.health import record

FALLEN_OFF_THE_BUS = 79
RECOVERY_ACTION_CHANGED = 154

_PCI = r"((?:[0-9a-fA-F]{4,8}:)?[0-9a-fA-F]{2}:[0-9a-fA-F]{2}(?:\.[0-7])?)"
# A process's name has at most 15 bytes, and each may be printed as the four of an escape.
_XID = re.compile(
    rf"NVRM: (?:GPU\d{{1,4}} )?Xid \((?:PCI:)?{_PCI}"
    r"(?: GPU-I:(\d{1,4}))?(?: GPU-CI:(\d{1,4}))?\): (\d{1,6})(?!\d)"
    r"(?:, pid=(?:(\d{1,10})|'?<unknown>'?))?(?:, name=([^\n]{0,63}?)(?=, |\n|$))?,? ?",
    re.ASCII,
)
_SXID = re.compile(
    rf"nvidia-nvswitch\d{{1,4}}: SXid \(PCI:{_PCI}\): "
    r"(\d{1,6})(?!\d)(?:, (Fatal|Non-fatal|Data|Severity)\b)?,? ?",
    re.ASCII,
)
_GPU = re.compile(rf"NVRM: (?:The NVIDIA )?GPU (?:at PCI:)?{_PCI}(?::|\b)[ \n]?", re.ASCII)
_UUID = re.compile(r"GPU-[0-9a-fA-F-]{8,40}", re.ASCII)
_RECOVERY = re.compile(r"GPU recovery action changed from [^\n]{1,80}? to 0x([0-9a-fA-F]{1,8})\b")
_CAUSED_BY = re.compile(r" ?caused by previous Xid (\d{1,6})(?!\d)", re.ASCII)
_OFF_THE_BUS = "fallen off the bus"
_NEAR = 400  # characters behind the GPU's address in which the driver has said what it has to say
_MISMATCH = "NVRM: API mismatch"


class Kind(StrEnum):
    XID = "xid"
    SXID = "sxid"  # of an NVSwitch
    MORE = "more"  # about the SXid of the line before: never counted
    RECOVERED = "recovered"  # the driver asks for nothing any more: the end of a fault
    INIT_FAILED = "init-failed"  # the driver could not start the GPU
    MISMATCH = "mismatch"  # kernel module and libraries are of different versions
    IDENTITY = "identity"  # which UUID is at which address: good to know when NVML is dead


class Line(msgspec.Struct, frozen=True, gc=False):
    """What one line says. `message` is the driver's text behind the numbers."""

    kind: Kind
    pci: str = ""  # as in entities; an NVSwitch's too
    code: int | None = None
    gi: int | None = None
    ci: int | None = None
    pid: int | None = None  # of the host
    process: str | None = None
    message: str = ""
    caused_by: int | None = None  # the Xid that the driver names as the reason for this one
    recovery: int | None = None  # the action that an Xid 154 changes to; None: it is not readable
    fatal: bool | None = None  # as an NVSwitch says; None: it does not
    uuid: str = ""
    numbered: bool = True  # False: the code is ours, for a fault that is told in words only

    @property
    def is_fault(self) -> bool:
        return self.kind not in (Kind.RECOVERED, Kind.IDENTITY)


def parse(text: str) -> Line | None:
    """A line as pasted from /dev/kmsg, dmesg, the journal or syslog. None: it is about no GPU.

    What programs wrote, by its facility or by the name before it, is no word of the kernel.
    """
    if not _is_about_gpus(text):
        return None
    message = record.kernel_message(text)
    return None if message is None else parse_message(message)


def parse_message(message: str) -> Line | None:
    """The text of one record of the kernel's log, whatever stands before the driver's words."""
    if not _is_about_gpus(message):
        return None
    # nv_printf continues the line of whoever wrote last: the words may stand anywhere in it.
    return _first(message, "NVRM: ", _driver_line) or _first(
        message, "nvidia-nvswitch", _switch_line
    )


def _is_about_gpus(text: str) -> bool:
    return "NVRM: " in text or "SXid" in text


def _first(message: str, word: str, read: Callable[[str, int], Line | None]) -> Line | None:
    position = message.find(word)
    while position >= 0:
        if (line := read(message, position)) is not None:
            return line
        position = message.find(word, position + len(word))
    return None


def _driver_line(text: str, position: int) -> Line | None:
    if (found := _XID.match(text, position)) is not None:
        return _xid(found, _to_end_of_line(text, found.end()))
    if text.startswith(_MISMATCH, position):
        return Line(Kind.MISMATCH, message=_to_end_of_line(text, position + len("NVRM: ")))
    if (found := _GPU.match(text, position)) is not None:
        return _without_xid(pci_address(found[1]), text, position, found.end())
    return None


def _xid(found: re.Match[str], message: str) -> Line:
    pci, gi, ci, code, pid, process = found.groups()
    return _recovery_checked(
        Line(
            kind=Kind.XID,
            pci=pci_address(pci),
            code=int(code),
            gi=None if gi is None else int(gi),
            ci=None if ci is None else int(ci),
            pid=None if pid is None else int(pid),
            process=None if process in (None, "", "<unknown>", "'<unknown>'") else process,
            message=message,
            caused_by=_number(_CAUSED_BY.search(message)),
        )
    )


def _recovery_checked(line: Line) -> Line:
    """By the number: the words for it differ from driver to driver."""
    if line.code != RECOVERY_ACTION_CHANGED:
        return line
    found = _RECOVERY.search(line.message)
    if found is None:
        return line
    recovery = int(found[1], 16)
    kind = Kind.XID if recovery else Kind.RECOVERED
    return msgspec.structs.replace(line, kind=kind, recovery=recovery)


def _without_xid(pci: str, text: str, position: int, end: int) -> Line | None:
    # A piece of it: to look to the end each time would be quadratic on a hostile line.
    near = text[position + len("NVRM: ") : end + _NEAR]
    message = near.partition("\n")[0].rstrip()
    if _OFF_THE_BUS in message:
        return Line(Kind.XID, pci, FALLEN_OFF_THE_BUS, message=message, numbered=False)
    # One record of three lines, which dmesg and the journal indent each in its way.
    if near.startswith("The NVIDIA GPU") and _OFF_THE_BUS in near:
        words = near[: near.index(_OFF_THE_BUS) + len(_OFF_THE_BUS)].replace("NVRM: ", "")
        said = " ".join(words.split())
        return Line(Kind.XID, pci, FALLEN_OFF_THE_BUS, message=said, numbered=False)
    if "RmInitAdapter failed" in message:
        return Line(Kind.INIT_FAILED, pci, message=message)
    if near.startswith("GPU at PCI:"):
        uuid = _UUID.match(text, end)
        return None if uuid is None else Line(Kind.IDENTITY, pci, uuid=uuid[0])
    return None


def _switch_line(text: str, position: int) -> Line | None:
    found = _SXID.match(text, position)
    if found is None:
        return None
    pci, code, said = found.groups()
    return Line(
        kind=Kind.MORE if said in ("Data", "Severity") else Kind.SXID,
        pci=pci_address(pci),
        code=int(code),
        message=_to_end_of_line(text, found.end()),
        fatal={"Fatal": True, "Non-fatal": False}.get(said),
    )


def _to_end_of_line(text: str, start: int) -> str:
    end = text.find("\n", start)
    return text[start:].rstrip() if end < 0 else text[start:end].rstrip()


def _number(found: re.Match[str] | None) -> int | None:
    return None if found is None else int(found[1])
