"""Small file systems for shares: mount(2) and umount2(2), which Python has no words for."""

import ctypes
import os
import re
from pathlib import Path

MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND = 2, 4, 8, 4096
MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)


def mount_tmpfs(at: Path, size_bytes: int, inodes: int) -> None:
    """OSError where we may not mount."""
    options = f"size={size_bytes},nr_inodes={inodes},mode=0755"
    _mount(b"gpuslice", at, b"tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, options.encode())


def bind(source: Path, at: Path) -> None:
    _mount(os.fsencode(source), at, b"none", MS_BIND, None)


def detach(at: Path) -> None:
    """Unmounts it at once for all who come, later for those inside. No error where nothing is."""
    _libc.umount2(os.fsencode(at), MNT_DETACH)


def detach_below(directory: Path) -> None:
    """All mounts below this directory."""
    for line in Path("/proc/self/mounts").read_bytes().splitlines():
        # Spaces and backslashes in a path are written as octal escapes.
        at = re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), line.split()[1])
        if at.startswith(os.fsencode(directory) + b"/"):
            detach(Path(os.fsdecode(at)))


def _mount(source: bytes, at: Path, kind: bytes, flags: int, options: bytes | None) -> None:
    if _libc.mount(source, os.fsencode(at), kind, ctypes.c_ulong(flags), options) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(at))
