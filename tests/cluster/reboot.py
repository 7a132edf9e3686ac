"""What a node loses when it reboots: all processes, /run, mounts, its boot id; not /var.

The control plane stays, as it would on machines of its own.
"""

import contextlib
import os
import shutil
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

from . import keeper
from .cluster import Cluster, wait
from .node import Node

BOOT_ID = "/proc/sys/kernel/random/boot_id"
# Of kubelet, containerd and agent; what a boot makes anew.
LOST = ("cdi", "containerd", "gpuslice", "netns", "nvidia")
UNMOUNTED = ("/run/", "/var/lib/kubelet/", "/var/lib/containerd/")


def reboot(cluster: Cluster) -> None:
    """Returns once the kubelet knows its pods again. The agent starts last, as a pod would."""
    for process in (cluster.agent.process, cluster.kubelet.process, cluster.runtime.process):
        process.stop(signal.SIGKILL)
    wait("the pods' processes to be gone", lambda: not _kill_all(cluster.node))
    for mounted in _mounts(cluster.node):
        cluster.node.run("umount", "--lazy", mounted)
    for lost in LOST:
        shutil.rmtree(cluster.node.root / "run" / lost, ignore_errors=True)
    _change_boot_id(cluster.node)
    cluster.gpus.install()
    cluster.runtime.start()
    cluster.start_kubelet()
    cluster.agent.start()


def _kill_all(node: Node) -> list[int]:
    """Whoever is in a pod's cgroup or holds pods; returns those that were still there."""
    found = [*_in_cgroups(node), *_shims(node)]
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return found


def _in_cgroups(node: Node) -> Iterator[int]:
    for hierarchy in keeper.hierarchies():
        for group in (hierarchy / keeper.cgroup_of(node.folder)).rglob("cgroup.procs"):
            with contextlib.suppress(OSError):
                yield from map(int, group.read_text().split())


def _shims(node: Node) -> Iterator[int]:
    here = os.readlink(f"/proc/{node.pid}/ns/pid")
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            its_name, its_namespace = (
                (process / "comm").read_text(),
                os.readlink(process / "ns/pid"),
            )
            if its_name.startswith("containerd-shim") and its_namespace == here:
                yield int(process.name)


def _mounts(node: Node) -> list[str]:
    """Innermost first."""
    lines = Path(f"/proc/{node.pid}/mountinfo").read_text().splitlines()
    points = [line.split()[4] for line in lines]
    return [point for point in reversed(points) if point.startswith(UNMOUNTED)]


def _change_boot_id(node: Node) -> None:
    boot_id = node.folder / "boot_id"
    boot_id.write_text(f"{uuid.uuid4()}\n")
    node.run("mount", "--bind", boot_id, BOOT_ID)
