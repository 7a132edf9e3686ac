"""The directories of shares: each appears whole or not at all."""

import logging
import os
import shutil
from contextlib import suppress
from pathlib import Path

from gpuslice_agent import mounts
from gpuslice_agent.enforcement.library import AgentLibrary
from gpuslice_agent.errors import EnforcementError
from gpuslice_agent.model import Share

log = logging.getLogger(__name__)

# The three files take a little over 256 KiB; what is left lets no tenant fill the node's memory.
TMPFS_BYTES = 512 << 10
TMPFS_INODES = 16


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

    def is_complete(self, share_id: str) -> bool:
        return (self.of(share_id) / "grant").exists()

    def create(self, share: Share, overhead_bytes: int) -> Path:
        final = self.of(share.id)
        new = self._root / f".{share.id}"
        try:
            new.mkdir(mode=0o755)
            mounted = self._tmpfs and self._mounted(new)
            self._library.create_files(new, share.gpu_uuid, share.id, share.limits, overhead_bytes)
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

    def _mounted(self, at: Path) -> bool:
        try:
            mounts.mount_tmpfs(at, TMPFS_BYTES, TMPFS_INODES)
        except OSError as error:
            log.warning("shares are plain files: no tmpfs can be mounted reason=%s", error.strerror)
            self._tmpfs = False
        return self._tmpfs


def _remove(directory: Path) -> None:
    mounts.detach(directory)
    with suppress(FileNotFoundError):
        shutil.rmtree(directory)
