"""The agent that the first command of a user starts."""

import subprocess
import sys

from .conftest import Cli


def test_an_agent_is_started_by_a_command_that_has_asked_one_before(on_node: Cli) -> None:
    """As it does where the agent is killed while it is asked: gRPC has run in it then."""
    script = """
import os, select, signal
from gpuslice_agent.cli.private_agent import connect_or_start
from gpuslice_agent.run_directory import locate
for _ in range(4):
    with connect_or_start(locate(os.environ, 0), os.environ) as client:
        gpus = client.list().gpus
        agent = os.pidfd_open(int(locate(os.environ, 0).lock.read_text().split()[1]))
        signal.pidfd_send_signal(agent, signal.SIGKILL)
        select.select([agent], [], [])
print(len(gpus))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=on_node.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("2\n", "")
