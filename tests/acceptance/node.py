"""A node as `gpuslice sim` makes it, and programs in it as `gpuslice run` starts them."""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from gpuslice_agent.control.client import Client, connect
from gpuslice_agent.model import Share, Snapshot
from gpuslice_agent.simulation import SimNode

from ..sim.share_on_node import Tenant, show

GPUSLICE = (sys.executable, "-m", "gpuslice_agent.cli")
SAY_ENVIRONMENT = (
    "import json, os, sys; print(json.dumps(dict(os.environ)), flush=True); sys.stdin.read()"
)


@dataclass
class Run(Tenant):
    """A program below `gpuslice run`. It and what joins it are the processes of its shares."""

    node: "Node"
    joined: list[Tenant] = field(default_factory=list[Tenant])

    @property
    def pid(self) -> int:
        """`run` became the program."""
        return self.process.pid

    def shares(self) -> list[Share]:
        """As the agent sees them now."""
        return [share for share in self.node.snapshot().shares if share.owner.pid == self.pid]

    def charged(self) -> int:
        return sum(share.usage.used_bytes for share in self.shares())

    def held(self) -> int:
        """Physical memory of its live processes, as the node counts it."""
        return self.node.held([self.pid, *(tenant.process.pid for tenant in self.joined)])

    def join(self, *command: str | Path) -> Tenant:
        """Another process with the environment of this one, as a child would have it."""
        tenant = Tenant(_open(command, environment_of(self.pid)))
        self.joined.append(tenant)
        return tenant

    def close(self) -> None:
        for tenant in (self, *self.joined):
            tenant.process.kill()
            for stream in (tenant.process.stdin, tenant.process.stdout, tenant.process.stderr):
                with suppress(BrokenPipeError):
                    stream.close() if stream else None
            tenant.process.wait()


@dataclass(frozen=True)
class Node:
    environment: dict[str, str]
    runs: list[Run] = field(default_factory=list[Run])

    @property
    def sim(self) -> SimNode:
        return SimNode(Path(self.environment["GPUSLICE_SIM_NODE"]))

    def gpuslice(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*GPUSLICE, *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def start(self, *command: str | Path) -> Tenant:
        """A program on the node, without a share."""
        return Tenant(_open(command, self.environment))

    def run(self, options: str, *command: str | Path) -> Run:
        """Starts `gpuslice run OPTIONS -- COMMAND`."""
        run = Run(
            _open((*GPUSLICE, "run", *options.split(), "--", *command), self.environment), self
        )
        self.runs.append(run)
        return run

    def run_python(self, options: str, script: Path, *arguments: str) -> Run:
        return self.run(options, sys.executable, script, *arguments)

    def client(self) -> Client:
        return connect(self.sim.run_directory)

    def snapshot(self) -> Snapshot:
        with closing(self.client()) as client:
            return client.list()

    def end_agent(self, number: signal.Signals = signal.SIGKILL) -> bool:
        """Waits for its end. Whether there was one: its pid may be another's by now."""
        directory = self.sim.run_directory
        try:
            pid = int(directory.lock.read_text().split()[1])
            process = os.pidfd_open(pid)
        except (OSError, IndexError):
            return False
        try:
            if str(directory.path) not in Path(f"/proc/{pid}/cmdline").read_text():
                return False
            signal.pidfd_send_signal(process, number)
            select.select([process], [], [])
        except OSError:
            return False
        finally:
            os.close(process)
        return True

    def held(self, pids: list[int] | None = None) -> int:
        """Physical memory of these processes, or of all."""
        return sum(
            gpu["memory_bytes"]
            for process in show(self.sim)["processes"]
            if process["alive"] and (pids is None or process["pid"] in pids)
            for gpu in process["gpus"]
        )

    def end_all(self) -> None:
        while self.runs:
            self.runs.pop().close()


def environment_of(pid: int) -> dict[str, str]:
    words = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return dict(word.split("=", 1) for word in words if word)


def _open(command: tuple[str | Path, ...], environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def simulated(profile: str) -> Generator[Node]:
    """What `gpuslice sim` exports to its program, for as long as that runs."""
    command = [*GPUSLICE, "sim", "--profile", profile, "--", sys.executable, "-c", SAY_ENVIRONMENT]
    with subprocess.Popen(
        command, env=os.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as sim:
        assert sim.stdout is not None and sim.stdin is not None
        node = Node(json.loads(sim.stdout.readline()))
        try:
            yield node
        finally:
            node.end_all()
            sim.stdin.close()


@contextmanager
def kept_agent(node: Node) -> Generator[None]:
    """A private agent ends with its last share: this one keeps it between tests."""
    keeper = node.run("--mem 2MiB", "cat")
    assert keeper.process.stdin and keeper.process.stdout
    keeper.goes_on()
    keeper.process.stdout.readline()
    node.runs.remove(keeper)
    try:
        yield
    finally:
        keeper.close()
