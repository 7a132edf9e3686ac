"""A simulated node: made, used by whoever has its environment, then ended with its agent."""

import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gpuslice_agent import mounts, native_files, simulated_spec
from gpuslice_agent.environment import cdi_directory, simulated_environment
from gpuslice_agent.errors import GpusliceError, RequestError
from gpuslice_agent.run_directory import RunDirectory

STOP_SECONDS = 5.0


class SimulationError(GpusliceError):
    """The simulated node cannot be made or read."""


@dataclass(frozen=True, slots=True)
class SimNode:
    path: Path

    @property
    def run_directory(self) -> RunDirectory:
        return RunDirectory(self.path / "run")

    def environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        return simulated_environment(
            environment, native_files.simulation(), self.path, self.run_directory.path
        )


def create(profile: str, gpus: int | None, driver: str | None = None) -> SimNode:
    """`driver`: its version; None: the profile's."""
    # A unix socket's path has 107 bytes, so the node does not go below what TMPDIR may name.
    path = Path(tempfile.mkdtemp(prefix="gpuslice-sim-", dir=_short_temporary_directory()))
    try:
        count = [] if gpus is None else ["--gpus", str(gpus)]
        version = [] if driver is None else ["--driver", driver]
        _ask("create", "--profile", profile, *count, *version, str(path))
        (path / "run").mkdir(mode=0o700, exist_ok=True)
        _write_cdi_spec(path)
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise
    return SimNode(path)


def _write_cdi_spec(path: Path) -> None:
    """For an agent that gives these GPUs to containers."""
    # Their users are others than ours; what is private lies in `run`.
    path.chmod(0o777)
    gpus = [(gpu["index"], gpu["uuid"]) for gpu in json.loads(_ask("show", str(path)))["gpus"]]
    document = simulated_spec.document(path, native_files.simulation(), gpus, ())
    spec = cdi_directory(path) / "nvidia.json"
    spec.parent.mkdir()
    spec.write_text(json.dumps(document, indent=1))


def profiles() -> str:
    return _ask("profiles")


def gpu_time(node: SimNode) -> tuple[int, dict[int, int]]:
    """Now, and the GPU time of every process by pid, as the GPUs counted it; ns."""
    shown = json.loads(_ask("show", str(node.path)))
    return shown["now_ns"], {
        process["pid"]: sum(gpu["busy_ns"] for gpu in process["gpus"])
        for process in shown["processes"]
    }


def end(node: SimNode) -> None:
    """Stops the node's agent and removes the node."""
    _stop_agent(node.run_directory)
    mounts.detach_below(node.path)
    shutil.rmtree(node.path, ignore_errors=True)


@contextmanager
def temporary(profile: str, gpus: int | None, driver: str | None = None) -> Generator[SimNode]:
    node = create(profile, gpus, driver)
    try:
        yield node
    finally:
        end(node)


def _short_temporary_directory() -> str:
    named = tempfile.gettempdir()
    return named if len(named) < 60 else "/tmp"


def _ask(*arguments: str) -> str:
    program = native_files.sim_node_program()
    try:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    except OSError as error:
        raise SimulationError(f"{program} cannot be run: {error.strerror}.") from error
    if done.returncode != 0:
        sentence = done.stderr.strip().removeprefix("gpuslice-sim-node: ")
        wrong = RequestError if done.returncode == 2 else SimulationError
        raise wrong(sentence or f"{program.name} ended with status {done.returncode}.")
    return done.stdout


def _stop_agent(directory: RunDirectory) -> None:
    """Whoever listens on the socket is the agent: the kernel says which process that is."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(directory.socket))
        except OSError:
            return
        credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, _, _ = struct.unpack("3i", credentials)
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        for number in (signal.SIGTERM, signal.SIGKILL):
            signal.pidfd_send_signal(process, number)
            if select.select([process], [], [], STOP_SECONDS)[0]:
                return
    except ProcessLookupError:
        return
    finally:
        os.close(process)
