"""The agent of one user, where no service runs: started by the first command that needs one.

It ends by itself with its last share. Under a file lock, many commands at once start only one.
"""

import fcntl
import os
import selectors
import socket
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from gpuslice_agent.control.client import Client, connect
from gpuslice_agent.environment import without_share
from gpuslice_agent.errors import AgentAbsentError, ControlError
from gpuslice_agent.run_directory import RunDirectory, prepare

# The first look at GPUs whose driver has to start takes tens of seconds.
START_SECONDS = 90.0


def connect_or_start(directory: RunDirectory, environment: Mapping[str, str]) -> Client:
    """AgentRefusedError where an agent is there that does not let us in: never a second one."""
    try:
        return connect(directory)
    except AgentAbsentError:
        prepare(directory, private=True)
    with _start_lock(directory):
        try:
            return connect(directory)
        except AgentAbsentError:
            return _started(directory, environment)


def _started(directory: RunDirectory, environment: Mapping[str, str]) -> Client:
    try:
        _start(directory, environment)
    except ControlError:
        # Another may be there by now whose starter was killed, and with it the lock of starting.
        with suppress(AgentAbsentError):
            return connect(directory)
        raise
    return connect(directory)


@contextmanager
def _start_lock(directory: RunDirectory) -> Generator[None]:
    descriptor = os.open(
        directory.path / "start.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
    )
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _start(directory: RunDirectory, environment: Mapping[str, str]) -> None:
    """Returns when the agent serves, which it says as it would to systemd.

    It inherits `held`, so that the end of it shows on the other end of that pipe.
    """
    log_start = directory.log.stat().st_size if directory.log.exists() else 0
    with _notify_socket(directory) as ready:
        alive, held = os.pipe()
        address = str(ready.getsockname())
        _spawn_orphan(directory, {**without_share(environment), "NOTIFY_SOCKET": address}, held)
        os.close(held)
        try:
            _wait_until_ready(ready, alive, directory, log_start)
        finally:
            os.close(alive)


@contextmanager
def _notify_socket(directory: RunDirectory) -> Generator[socket.socket]:
    """Not in TMPDIR: a socket's path has 107 bytes, and the agent's own has passed that test."""
    path = directory.path / "start.sock"
    path.unlink(missing_ok=True)  # of one who was killed while starting
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        ready.bind(str(path))
        try:
            yield ready
        finally:
            path.unlink(missing_ok=True)


def _spawn_orphan(directory: RunDirectory, environment: Mapping[str, str], held: int) -> None:
    """By way of a shell: the caller becomes the tenant's program, which must not find our child.

    Not by two forks of our own: where gRPC has been used, its fork handler waits in the second one
    for threads that the first did not inherit, for ever, and with it whoever waits for the lock.
    """
    agent = [sys.executable, "-m", "gpuslice_agent.cli", "agent", "--private"]
    arguments = [*agent, "--run-dir", str(directory.path)]
    with open(directory.log, "ab", opener=_open_private) as log:
        subprocess.run(
            ["/bin/sh", "-c", '"$@" &', "sh", *arguments],
            env=dict(environment),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(held,),
            start_new_session=True,
            check=True,
        )


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _wait_until_ready(
    ready: socket.socket, alive: int, directory: RunDirectory, log_start: int
) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(ready, selectors.EVENT_READ)
        selector.register(alive, selectors.EVENT_READ)
        while True:
            events = selector.select(START_SECONDS)
            if not events:
                raise ControlError(f"The agent did not start in time: see {directory.log}.")
            if any(key.fileobj is ready for key, _ in events):
                if b"READY=1" in ready.recv(4096):
                    return
            else:
                raise ControlError(_last_words(directory.log, log_start))


def _last_words(log: Path, log_start: int) -> str:
    """What the agent said when it gave up, as every command of ours does: `gpuslice: SENTENCE`."""
    with log.open("rb") as file:
        file.seek(log_start)
        lines = file.read().decode(errors="replace").splitlines()
    for line in reversed(lines):
        if line.startswith("gpuslice: "):
            return line.removeprefix("gpuslice: ")
    return f"The agent ended at once: see {log}."
