"""The agent as a process of its own, started as systemd starts it."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gpuslice_agent.control.client import Client, connect
from gpuslice_agent.run_directory import RunDirectory

AGENT = (sys.executable, "-m", "gpuslice_agent.cli", "agent")


@dataclass(frozen=True)
class Daemon:
    process: subprocess.Popen[str]
    directory: RunDirectory
    notifications: socket.socket

    def client(self) -> Client:
        return connect(self.directory)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait()


@contextmanager
def started(
    environment: Mapping[str, str], run_dir: Path, *arguments: str, metrics: str = ""
) -> Generator[Daemon]:
    """Yields when the agent says that it serves."""
    address = run_dir.parent / f"notify-{os.urandom(4).hex()}"
    options = ["--run-dir", str(run_dir), "--metrics-address", metrics, "--poll-interval", "0.1"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifications:
        notifications.bind(str(address))
        with subprocess.Popen(
            [*AGENT, *options, *arguments],
            env={**environment, "NOTIFY_SOCKET": str(address), "WATCHDOG_USEC": "200000"},
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                while notifications.recv(100) != b"READY=1":
                    pass
                yield Daemon(process, RunDirectory(run_dir), notifications)
            finally:
                process.kill()
