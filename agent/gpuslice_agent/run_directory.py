"""Where the run directory is, and who owns it.

One agent owns a run directory for as long as it holds the lock in it. The service's is
/run/gpuslice; an agent that `gpuslice run` starts for its user lives in that user's own.
"""

import asyncio
import fcntl
import os
import socket
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from gpuslice_agent.errors import RunDirectoryError

SERVICE = Path("/run/gpuslice")
WAIT_SECONDS = 10.0  # an agent that was told to stop takes less
MOST_WAITING = 16  # agents whose pods are long gone by then


@dataclass(frozen=True, slots=True)
class RunDirectory:
    path: Path

    @property
    def socket(self) -> Path:
        return self.path / "agent.sock"

    @property
    def lock(self) -> Path:
        return self.path / "agent.lock"

    @property
    def log(self) -> Path:
        """Where a private agent writes what a service writes to the journal."""
        return self.path / "agent.log"

    @property
    def driver(self) -> Path:
        """Links to the driver's libraries, for an agent that has another root than the node."""
        return self.path / "driver"

    @property
    def waiting(self) -> Path:
        """Names the agents that gave way to another, so that none asks for its place back."""
        return self.path / "agent.waiting"

    @property
    def shares(self) -> Path:
        return self.path / "shares"

    def gave_way(self) -> tuple[str, ...]:
        try:
            return tuple(self.waiting.read_text().split())
        except OSError:
            return ()

    def give_way(self, instance: str) -> None:
        """To be called before the lock is released."""
        known = [one for one in self.gave_way() if one != instance]
        new = self.waiting.with_suffix(".new")
        new.write_text(" ".join([*known[1 - MOST_WAITING :], instance]))
        new.rename(self.waiting)


def locate(environ: Mapping[str, str], uid: int, service: Path = SERVICE) -> RunDirectory:
    """The run directory of this user, whether or not it exists yet."""
    if named := environ.get("GPUSLICE_RUN_DIR"):
        return RunDirectory(Path(named).absolute())
    # The lock outlives the service: while that is restarted, its socket is not there.
    if uid == 0 or os.path.lexists(service / "agent.lock"):
        return RunDirectory(service)
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/") and os.path.isdir(runtime):
        return RunDirectory(Path(runtime) / "gpuslice")
    return RunDirectory(Path(f"/tmp/gpuslice-{uid}"))


def prepare(directory: RunDirectory, *, private: bool) -> None:
    """Creates it. A private one is its user's alone; in the service's, all reach their shares."""
    mode = 0o700 if private else 0o755
    try:
        directory.path.mkdir(mode=mode, parents=True, exist_ok=True)
        about = directory.path.lstat()
        # In /tmp anybody could have put a directory or a link of that name there first.
        if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid():
            raise RunDirectoryError(
                f"{directory.path} is not a directory of ours (owner uid {about.st_uid}): "
                "remove it, or name another with GPUSLICE_RUN_DIR."
            )
        if private and about.st_mode & 0o077:
            directory.path.chmod(mode)
        directory.shares.mkdir(mode=0o755, exist_ok=True)
    except OSError as error:
        raise RunDirectoryError(
            f"The run directory {directory.path} cannot be made: {error.strerror}."
        ) from error


class Ownership:
    """The lock of the one agent of a run directory; held until its process ends, even killed."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    async def taken(
        cls,
        directory: RunDirectory,
        *,
        private: bool,
        wait_seconds: float = WAIT_SECONDS,
        while_served: bool = False,
    ) -> Self:
        """Waits a little where nobody serves: the last agent may be on its way out.

        `while_served`: also where somebody does, who was asked to let go.
        """
        descriptor = os.open(directory.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        deadline = time.monotonic() + wait_seconds
        while not _locked(descriptor):
            if time.monotonic() > deadline or (not while_served and is_served(directory)):
                owner = os.pread(descriptor, 64, 0).decode(errors="replace").strip()
                os.close(descriptor)
                raise RunDirectoryError(
                    f"Another agent ({owner}) owns {directory.path}: "
                    "stop it, or use another run directory."
                )
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                os.close(descriptor)
                raise
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{'private' if private else 'service'} {os.getpid()}\n".encode(), 0)
        return cls(descriptor)

    def release(self) -> None:
        os.close(self._descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_served(directory: RunDirectory) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(str(directory.socket)) == 0


def is_services(directory: RunDirectory) -> bool:
    """Whether the last agent here was a service: then it will be back, and nobody takes over."""
    try:
        return directory.lock.read_text().startswith("service")
    except OSError:
        return False
