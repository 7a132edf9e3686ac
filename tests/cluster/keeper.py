"""Keeps the namespaces of one node, and removes every trace of it when it ends.

    keeper.py FOLDER KEPT...

The node ends when this process is told to by SIGTERM or, if standard input is a pipe, when the
last writer of the pipe is gone: so the node of a test does not outlive the test, however that dies.
"""

import contextlib
import os
import select
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

PROCESS_ONE = Path(__file__).with_name("process_one.sh")
CGROUPS = Path("/sys/fs/cgroup")
CLEAN_SECONDS = 15.0


def main(folder: Path, kept: list[str]) -> None:
    ended, end = os.pipe()

    def told(_number: int, _frame: FrameType | None) -> None:
        os.write(end, b"\n")

    signal.signal(signal.SIGTERM, told)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    (folder / "keeper").write_text(str(os.getpid()))
    # setpriv: the node must not outlive this process either. unshare then takes process 1 along.
    namespaces = ("--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
    with subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "unshare", *namespaces, PROCESS_ONE, folder, *kept],
        stdin=subprocess.DEVNULL,
    ) as unshare:
        try:
            process_one = _child(unshare)
            (folder / "pid.new").write_text(str(process_one))
            (folder / "pid.new").rename(folder / "pid")
            leased = [0] if stat.S_ISFIFO(os.fstat(0).st_mode) else []
            select.select([ended, os.pidfd_open(unshare.pid), *leased], [], [])
            os.kill(process_one, signal.SIGKILL)
        except ProcessLookupError:
            pass
    clean(folder)


def cgroup_of(folder: Path) -> str:
    """The cgroup in each hierarchy below which the node's kubelet makes those of its pods."""
    return f"gpuslice-{folder.name}"


def hierarchies() -> list[Path]:
    """The roots of cgroup v1's, or the one of v2."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [Path(mount[1]) for mount in mounts if mount[2] in ("cgroup", "cgroup2")]


def clean(folder: Path) -> None:
    """What outlives the namespaces of a node: its cgroups and its folder."""
    deadline = time.monotonic() + CLEAN_SECONDS
    for hierarchy in hierarchies():
        top = hierarchy / cgroup_of(folder)
        # A process that was just killed may still be in it.
        while not _remove_cgroup(top) and time.monotonic() < deadline:
            time.sleep(0.05)
    shutil.rmtree(folder)
    with contextlib.suppress(OSError):
        folder.parent.rmdir()


def _remove_cgroup(top: Path) -> bool:
    for folder, _, _ in os.walk(top, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(folder)
    return not top.exists()


def _child(unshare: subprocess.Popen[bytes]) -> int:
    """Process 1, once it has made the node's own folders."""
    children = Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children")
    while unshare.poll() is None:
        found = children.read_text().split()
        if found and Path(f"/proc/{found[0]}/root/run/ready").exists():
            return int(found[0])
        time.sleep(0.01)
    raise SystemExit(f"keeper: process 1 ended with status {unshare.returncode}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
