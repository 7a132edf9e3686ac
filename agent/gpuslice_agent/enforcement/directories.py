"""The directories of shares: each appears whole or not at all.

Beside the files of the tenant lies the share's record, for the agent alone: the ledger may be lost.
A whole GPU has nothing but its record.
"""

import logging
import os
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import msgspec

from gpuslice_agent import mounts
from gpuslice_agent.enforcement.library import AgentLibrary
from gpuslice_agent.errors import EnforcementError
from gpuslice_agent.model import Share, Usage

log = logging.getLogger(__name__)

# The three files take a little over 256 KiB; what is left lets no tenant fill the node's memory.
TMPFS_BYTES = 512 << 10
TMPFS_INODES = 16
RECORD = "record"


class Directories:
    def __init__(self, root: Path, library: AgentLibrary, *, tmpfs: bool) -> None:
        """`tmpfs`: each share on one of its own, where we may mount."""
        self._root = root
        self._library = library
        self._tmpfs = tmpfs

    def of(self, share_id: str) -> Path:
        return self._root / share_id

    def present(self) -> tuple[str, ...]:
        """The ids that have a directory, complete or not."""
        return tuple(name for name in os.listdir(self._root) if name[0] != ".")

    def is_complete(self, share: Share) -> bool:
        return (self.of(share.id) / (RECORD if share.limits.whole else "grant")).exists()

    def record(self, share_id: str) -> Share | None:
        """The share as it was; None: nothing legible says so."""
        try:
            return msgspec.json.decode((self.of(share_id) / RECORD).read_bytes(), type=Share)
        except (OSError, msgspec.DecodeError):
            return None

    def write_record(self, share: Share) -> None:
        """By rename. It is only read where the ledger is lost, so a failure fails nothing."""
        try:
            self._write_record(self.of(share.id), share)
        except OSError as error:
            log.warning("record not written id=%s reason=%s", share.id, error.strerror)

    def create(self, share: Share, overhead_bytes: int) -> Path:
        final = self.of(share.id)
        new = self._root / f".{share.id}"
        try:
            new.mkdir(mode=0o755)
            mounted = self._tmpfs and not share.limits.whole and self._mounted(new)
            if not share.limits.whole:
                self._library.create_files(
                    new, share.gpu_uuid, share.id, share.limits, overhead_bytes
                )
            self._write_record(new, share)
            if mounted:
                # A mount point cannot be renamed; binding it is as much of one step.
                final.mkdir(mode=0o755)
                mounts.bind(new, final)
                mounts.detach(new)
                new.rmdir()
            else:
                new.rename(final)
        except BaseException as error:
            _remove(new)
            _remove(final)
            if isinstance(error, OSError):
                raise EnforcementError(
                    f"The directory {final} of a share cannot be made: {error.strerror}."
                ) from error
            raise
        return final

    def remove(self, share_id: str) -> None:
        """Idempotent. Who has the files open or mapped keeps them."""
        _remove(self.of(share_id))

    def sweep(self) -> None:
        """Removes what an agent that was killed had begun."""
        for name in os.listdir(self._root):
            if name[0] == ".":
                _remove(self._root / name)

    def _write_record(self, directory: Path, share: Share) -> None:
        text = msgspec.json.encode(replace(share, usage=Usage()))
        new = directory / f".{RECORD}"
        with open(new, "wb", opener=_open_private) as file:
            file.write(text)
        new.rename(directory / RECORD)

    def _mounted(self, at: Path) -> bool:
        try:
            mounts.mount_tmpfs(at, TMPFS_BYTES, TMPFS_INODES)
        except OSError as error:
            log.warning("shares are plain files: no tmpfs can be mounted reason=%s", error.strerror)
            self._tmpfs = False
        return self._tmpfs


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _remove(directory: Path) -> None:
    mounts.detach(directory)
    with suppress(FileNotFoundError):
        shutil.rmtree(directory)
