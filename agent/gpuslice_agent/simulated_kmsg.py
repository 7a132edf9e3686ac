"""The kernel log of a simulated node, read as `/dev/kmsg` is."""

import os
from functools import cache
from typing import Any

import cffi

from gpuslice_agent import native_files
from gpuslice_agent.errors import InstallationError

_DECLARATIONS = """
struct sim_kmsg;
int sim_kmsg_open(const char *path, int flags, struct sim_kmsg **ret_log);
void sim_kmsg_close(struct sim_kmsg *log);
int sim_kmsg_fd(const struct sim_kmsg *log);
ssize_t sim_kmsg_read(struct sim_kmsg *log, char *buffer, size_t bytes);
int sim_kmsg_seek(struct sim_kmsg *log, int64_t offset, int whence);
"""


class SimulatedKmsg:
    """An open kernel log. What fails raises the OSError that the system call would on /dev/kmsg."""

    def __init__(self, path: str | os.PathLike[str], flags: int = os.O_NONBLOCK) -> None:
        self._ffi, self._calls = _library()
        opened: Any = self._ffi.new("struct sim_kmsg **")
        self._log: Any = None
        self._check(self._calls.sim_kmsg_open(os.fsencode(path), flags, opened))
        self._log = opened[0]

    def fileno(self) -> int:
        """To poll, not to read: readable while read() has a record, or a loss to tell."""
        return int(self._calls.sim_kmsg_fd(self._log))

    def read(self, size: int) -> bytes:
        """One record. BlockingIOError: there is none; BrokenPipeError, once: some were lost."""
        buffer: Any = self._ffi.new("char[]", size)
        length = self._check(self._calls.sim_kmsg_read(self._log, buffer, size))
        return bytes(self._ffi.buffer(buffer, length))

    def seek(self, offset: int, whence: int) -> None:
        self._check(self._calls.sim_kmsg_seek(self._log, offset, whence))

    def close(self) -> None:
        if self._log is not None:
            self._calls.sim_kmsg_close(self._log)
        self._log = None

    def _check(self, result: int) -> int:
        if result < 0:
            raise OSError(-result, os.strerror(-result))
        return int(result)


@cache
def _library() -> tuple[cffi.FFI, Any]:
    ffi = cffi.FFI()
    ffi.cdef(_DECLARATIONS)
    path = native_files.simulation() / "libgpuslice_sim_kmsg.so"
    try:
        return ffi, ffi.dlopen(str(path))
    except OSError as error:
        raise InstallationError(
            f"The library of the simulated kernel log cannot be loaded ({error}):"
            " install gpuslice again."
        ) from error
