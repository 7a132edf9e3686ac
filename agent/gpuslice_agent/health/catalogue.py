"""What each code means and asks for: data beside this module, and a file laid over it."""

import tomllib
from collections.abc import Mapping
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from gpuslice_agent.entities import Action
from gpuslice_agent.errors import CatalogueError


class FaultClass(StrEnum):
    """Whose matter a fault is."""

    APPLICATION = "application"
    ENGINE = "engine"
    MEMORY = "memory"
    LINK = "link"
    FIRMWARE = "firmware"
    BUS = "bus"
    POWER = "power"
    DISPLAY = "display"
    VIDEO = "video"
    DRIVER = "driver"
    INFORMATION = "information"
    UNKNOWN = "unknown"


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"kind": "class"}):
    """Of an Xid."""

    action: Action
    kind: FaultClass
    meaning: str
    name: str = ""
    echo: bool = False  # most often it only follows another fault of the same GPU
    ends: int | None = None  # the code whose fault is over with this one


class SwitchEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of an SXid."""

    fatal: bool
    meaning: str


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    xid: dict[str, Entry] = {}
    sxid: dict[str, SwitchEntry] = {}


# A code that nobody knows yet must neither pass unseen nor take a GPU away by itself.
UNKNOWN = Entry(Action.FOLLOW_DRIVER, FaultClass.UNKNOWN, "No catalogue knows this code yet.")
UNKNOWN_OF_SWITCH = SwitchEntry(fatal=False, meaning="No catalogue knows this code yet.")
VERSION = 1


class Catalogue:
    def __init__(self, xids: Mapping[int, Entry], sxids: Mapping[int, SwitchEntry]) -> None:
        self._xids = xids
        self._sxids = sxids

    def xid(self, code: int) -> Entry:
        return self._xids.get(code, UNKNOWN)

    def sxid(self, code: int) -> SwitchEntry:
        return self._sxids.get(code, UNKNOWN_OF_SWITCH)

    def knows(self, code: int) -> bool:
        return code in self._xids or code in self._sxids


def load(override: Path | None = None) -> Catalogue:
    """Raises CatalogueError where `override` cannot be read or is wrong."""
    ours = _decoded(
        resources.files("gpuslice_agent.health").joinpath("catalogue.toml").read_text(), ""
    )
    xids, sxids = dict(ours.xid), dict(ours.sxid)
    if override is not None:
        theirs = _decoded(_text(override), str(override))
        xids |= theirs.xid
        sxids |= theirs.sxid
    return Catalogue(
        {int(code): entry for code, entry in xids.items()},
        {int(code): entry for code, entry in sxids.items()},
    )


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise CatalogueError(f"The fault catalogue {path} cannot be read: {error}.") from error


def _decoded(text: str, name: str) -> _File:
    try:
        written: dict[str, Any] = tomllib.loads(text)
        file = msgspec.convert(written, _File)
        if bad := [code for code in (*file.xid, *file.sxid) if not code.isdecimal()]:
            raise ValueError(f"{bad[0]} is no code")
        if file.version != VERSION:
            raise ValueError(f"it is of version {file.version}, and this gpuslice reads {VERSION}")
    except (ValueError, msgspec.ValidationError) as error:
        raise CatalogueError(
            f"The fault catalogue {name} is wrong ({error}): write it as "
            "gpuslice_agent/health/catalogue.toml is written."
        ) from error
    return file
