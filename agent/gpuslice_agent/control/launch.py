"""Starts a private agent where none runs: the first `gpuslice run` on a host without a service."""

import contextlib
import os
import subprocess
import time
from collections.abc import Sequence

from gpuslice_agent.control.client import Client, connect
from gpuslice_agent.errors import AgentAbsentError, ControlError
from gpuslice_agent.model import Share, ShareRequest
from gpuslice_agent.run_directory import RunDirectory, prepare

# A cold interpreter on a busy host; a driver that must load comes later, in the first request.
START_SECONDS = 30.0


def connect_or_launch(directory: RunDirectory, command: Sequence[str]) -> Client:
    """Connects, starting `command` (`… agent --private --run-dir …`) first where no agent runs.

    Of several that start at once, one wins the lock of the run directory and serves all.
    """
    with contextlib.suppress(AgentAbsentError):
        return connect(directory)
    prepare(directory, private=True)
    with open(directory.log, "ab", buffering=0) as log:
        said = log.tell()
        agent = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
        )
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        status = agent.poll()
        with contextlib.suppress(AgentAbsentError):
            return connect(directory)
        if status:
            raise ControlError(
                _last_line(directory, said) or f"The agent ended with status {status}."
            )
        time.sleep(0.01)
    raise ControlError(
        f"The agent did not answer within {START_SECONDS:.0f} s: see {directory.log}."
    )


def create(
    directory: RunDirectory, command: Sequence[str], request: ShareRequest
) -> tuple[Client, tuple[Share, ...]]:
    """Connects or launches, and creates; again where a private agent was just ending."""
    while True:
        client = connect_or_launch(directory, command)
        try:
            return client, client.create(request)
        except AgentAbsentError:
            client.close()
        except BaseException:
            client.close()
            raise


def _last_line(directory: RunDirectory, offset: int) -> str:
    with open(directory.log, "rb") as log:
        log.seek(offset, os.SEEK_SET)
        lines = log.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""
