"""A node: mount, network and process namespaces of its own, which end with its process 1."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from . import cache, keeper

# Not below TMPDIR, which may be another the next time; on a disk, which overlayfs wants.
CLUSTERS = Path("/var/tmp/gpuslice-clusters")
REPOSITORY = Path(__file__).parents[2]
NODES_OWN = ("/run", "/var/lib", "/var/log")
START_SECONDS = 20.0
STOP_SECONDS = 30.0


class NodeError(Exception):
    """The node cannot be started, or a program in it ended."""


@dataclass(frozen=True, slots=True)
class Process:
    """A program in the node; `pid` as this machine counts."""

    name: str
    pid: int
    log: Path

    def alive(self) -> bool:
        with contextlib.suppress(OSError):
            state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
            return state not in "ZX"
        return False

    def send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self, seconds: float = STOP_SECONDS) -> None:
        with contextlib.suppress(ProcessLookupError):
            ended = os.pidfd_open(self.pid)
            try:
                if not select.select([ended], [], [], seconds)[0]:
                    raise NodeError(f"{self.name} has not ended after {seconds} s")
            finally:
                os.close(ended)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.send(number)
        self.wait()

    def tail(self, lines: int = 20) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


@dataclass(frozen=True, slots=True)
class Node:
    folder: Path

    @property
    def pid(self) -> int:
        """Of process 1, as this machine counts."""
        return int((self.folder / "pid").read_text())

    @property
    def root(self) -> Path:
        """The node's files, as its own programs see them; sockets can be opened through it."""
        return Path(f"/proc/{self.pid}/root")

    @property
    def address(self) -> str:
        return (self.folder / "address").read_text()

    def enter(self, *command: str | Path) -> list[str]:
        """The command line that runs a program in the node."""
        namespaces = ("--mount", "--net", "--pid")
        return ["nsenter", "--target", str(self.pid), *namespaces, "--", *map(str, command)]

    def run(self, *command: str | Path, given: str = "") -> str:
        """What a program in the node prints."""
        done = subprocess.run(
            self.enter(*command), input=given, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise NodeError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
        return done.stdout

    def start(
        self, name: str, *command: str | Path, environment: Mapping[str, str] = os.environ
    ) -> Process:
        """Starts a program that outlives this process; its output is appended to its log."""
        log = self.folder / "logs" / f"{name}.log"
        log.parent.mkdir(exist_ok=True)
        written = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        entering = os.posix_spawnp(
            "nsenter",
            self.enter(*command),
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(log), written, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
        process = Process(name, _only_child(entering, f"{name} did not start"), log)
        (self.folder / f"{name}.pid").write_text(str(process.pid))
        return process

    def process(self, name: str) -> Process:
        """The one that was started last by this name."""
        pid = int((self.folder / f"{name}.pid").read_text())
        return Process(name, pid, self.folder / "logs" / f"{name}.log")


def start(name: str, lease: int | None = None) -> Node:
    """With a lease, the reading end of a pipe, the node ends when all writing ends are closed."""
    if os.geteuid() != 0:
        raise NodeError("a node has mounts and interfaces of its own, and only root makes them")
    remove(name)
    node = Node(CLUSTERS / name)
    node.folder.mkdir(parents=True)
    keeper = os.posix_spawn(
        sys.executable,
        [sys.executable, str(Path(__file__).with_name("keeper.py")), str(node.folder), *_kept()],
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
            if lease is None
            else (os.POSIX_SPAWN_DUP2, lease, 0),
            (
                os.POSIX_SPAWN_OPEN,
                1,
                str(node.folder / "keeper.log"),
                os.O_WRONLY | os.O_CREAT,
                0o644,
            ),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    deadline = time.monotonic() + START_SECONDS
    while not (node.folder / "pid").exists():
        if os.waitpid(keeper, os.WNOHANG)[0] or time.monotonic() > deadline:
            raise NodeError((node.folder / "keeper.log").read_text() or "the node does not start")
        time.sleep(0.01)
    _connect(node)
    return node


def remove(name: str) -> None:
    """Ends a node, also one whose keeper was killed, and removes what it left."""
    folder = CLUSTERS / name
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        pid = int((folder / "keeper").read_text())
        if str(folder) in Path(f"/proc/{pid}/cmdline").read_text():
            keeping = Process("keeper", pid, folder / "keeper.log")
            keeping.stop()
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
    if folder.exists():
        keeper.clean(folder)


def _connect(node: Node) -> None:
    """A pair of interfaces, so that the API server has an address on this machine too."""
    for number in range(256):
        here = f"gpuslice{number}"
        pair = ["ip", "link", "add", here, "type", "veth", "peer", "name", "eth0"]
        made = subprocess.run(
            [*pair, "netns", str(node.pid)], capture_output=True, text=True, check=False
        )
        if made.returncode == 0:
            break
        if "exists" not in made.stderr:
            raise NodeError(made.stderr)
    else:
        raise NodeError("there are 256 nodes already")
    # A range for tests of networks, which nobody routes (RFC 2544).
    mine, theirs = f"198.18.{number}.1", f"198.18.{number}.2"
    subprocess.run(["ip", "address", "add", f"{mine}/30", "dev", here], check=True)
    subprocess.run(["ip", "link", "set", here, "up"], check=True)
    node.run("ip", "address", "add", f"{theirs}/30", "dev", "eth0")
    node.run("ip", "link", "set", "eth0", "up")
    (node.folder / "address").write_text(theirs)


def _kept() -> list[str]:
    """What the tests need and process 1 would hide below the node's own folders."""
    needed = {REPOSITORY, Path(sys.prefix), Path(sys.base_prefix), cache.directory()}
    return sorted(str(one) for one in needed if any(one.is_relative_to(own) for own in NODES_OWN))


def _only_child(parent: int, otherwise: str) -> int:
    children = Path(f"/proc/{parent}/task/{parent}/children")
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if found := children.read_text().split():
                return int(found[0])
        if os.waitpid(parent, os.WNOHANG)[0]:
            break
        time.sleep(0.001)
    raise NodeError(otherwise)
