"""Where the kubelet puts pods among the control groups, and which pod a process is in.

The kubelet's names (1.36, pkg/kubelet/cm): below its cgroup root `kubepods`, then the QoS class
unless that is Guaranteed, then `pod<UID>`. The cgroupfs driver makes a folder of each; the systemd
driver a slice of each, in which dashes of a name are underscores and each slice repeats the names
above it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

QOS_CLASSES = ("besteffort", "burstable", "")  # Guaranteed pods lie beside the other two classes
# With version 1 every controller has a tree of its own, and the kubelet uses all the same way.
FIRST_VERSION = "memory"

_UID = r"[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32}"  # or a static pod's hash
_POD = re.compile(rf"(?:/|-)pod({_UID})(?:\.slice)?(?=/|$)")
_CONTAINER = re.compile(r"[/-]([0-9a-f]{64})(?:\.scope)?$")


@dataclass(frozen=True, slots=True)
class Place:
    """The pod and the container of a process; empty for one that is in none."""

    pod_uid: str = ""
    container_id: str = ""


def place(cgroups: str) -> Place:
    """From the text of /proc/PID/cgroup, whatever version, driver and namespace it is seen from."""
    for line in cgroups.splitlines():
        path = line.split(":", 2)[-1]
        if pod := _POD.search(path):
            container = _CONTAINER.search(path)
            return Place(pod[1].replace("_", "-"), container[1] if container else "")
    return Place()


class PodCgroups:
    def __init__(self, mounted: Path, root: str) -> None:
        """`mounted`: where /sys/fs/cgroup of the node is seen; `root`: the kubelet's cgroupRoot."""
        first = mounted / FIRST_VERSION
        self.top = mounted if (mounted / "cgroup.procs").exists() or not first.exists() else first
        self._root = tuple(part for part in root.split("/") if part)

    def find(self, pod_uid: str) -> Path | None:
        """The cgroup of a pod. The kubelet makes it before anything of the pod starts."""
        return next((path for path in self._candidates(pod_uid) if path.is_dir()), None)

    def _candidates(self, pod_uid: str) -> Iterator[Path]:
        for qos in QOS_CLASSES:
            names = (*self._root, "kubepods", *filter(None, [qos]), f"pod{pod_uid}")
            yield self.top.joinpath(*names)
            yield self.top.joinpath(*_slices(names))


def _slices(names: tuple[str, ...]) -> Iterator[str]:
    escaped = [name.removesuffix(".slice").replace("-", "_") for name in names]
    return ("-".join(escaped[: depth + 1]) + ".slice" for depth in range(len(escaped)))
