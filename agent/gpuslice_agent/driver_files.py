"""The node's driver libraries, for an agent whose root is not the node's: in a container.

The container has none of the files of NVIDIA, and its loader does not know the folders of the node;
to name them in LD_LIBRARY_PATH would bring the libc of the node along. So a folder of links to the
libraries of the driver alone is made, and that is named.
"""

import os
from collections.abc import Iterator, MutableMapping
from fnmatch import fnmatch
from pathlib import Path

from gpuslice_agent.errors import NvmlError

NVML = "libnvidia-ml.so.1"
# libcuda and what it loads by name while it compiles PTX.
LIBRARIES = (NVML, "libcuda.so.*", "libnvidia-ptxjitcompiler.so.*", "libnvidia-gpucomp.so.*")
# As distributions, NVIDIA's installer and containers, GKE, WSL and NixOS lay them.
FOLDERS = (
    "usr/lib/x86_64-linux-gnu/nvidia/current",
    "usr/lib/aarch64-linux-gnu/nvidia/current",
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "usr/lib64",
    "usr/lib",
    "home/kubernetes/bin/nvidia/lib64",
    "usr/lib/wsl/lib",
    "run/opengl-driver/lib",
)
# The node itself, else the container that NVIDIA's GPU Operator runs its driver from.
ROOTS = ("", "run/nvidia/driver")
LINKS_AT_MOST = 40  # as the kernel follows


class DriverFiles:
    """Links to the driver libraries below `root`; nothing where that is the agent's own root."""

    def __init__(self, root: Path, links: Path) -> None:
        self._root = root
        self._links = links

    @property
    def search_path(self) -> Path | None:
        """For LD_LIBRARY_PATH; None where the loader finds the driver by itself."""
        return None if self._root == Path("/") else self._links

    def name_to_children(self, environment: MutableMapping[str, str]) -> None:
        """Their loader, not ours, is to find the driver."""
        if self.search_path is not None:
            environment["LD_LIBRARY_PATH"] = str(self.search_path)

    def link(self) -> None:
        """Makes the links anew, for a driver may have come or been replaced since.

        Raises NvmlError where the links cannot be made; a root without a driver is none.
        """
        if self.search_path is None:
            return
        try:
            self._links.mkdir(parents=True, exist_ok=True)
            found = dict(libraries(self._root))
            for name, target in found.items():
                _point(self._links / name, target)
            for link in self._links.iterdir():
                if link.name not in found:
                    link.unlink(missing_ok=True)
        except OSError as error:
            raise NvmlError(
                f"The driver libraries below {self._root} cannot be linked into {self._links}:"
                f" {error.strerror}."
            ) from error


def libraries(root: Path) -> Iterator[tuple[str, Path]]:
    """Name and file of each, from the first folder that has NVML."""
    for folder in (root / base / folder for base in ROOTS for folder in FOLDERS):
        if os.path.lexists(folder / NVML):
            for name in os.listdir(
                folder
            ):  # Path.glob would leave out links that lead nowhere here
                if any(fnmatch(name, pattern) for pattern in LIBRARIES):
                    yield name, resolved(folder / name, _root_of(folder, root))
            return


def _root_of(folder: Path, root: Path) -> Path:
    container = root / ROOTS[1]
    return container if folder.is_relative_to(container) else root


def resolved(path: Path, root: Path) -> Path:
    """Where `path` leads for somebody whose root is `root`: Debian's links to its libraries are
    absolute, and would lead into the container."""
    done, rest = root, list(path.relative_to(root).parts)
    followed = 0
    while rest:
        part = rest.pop(0)
        if part == "..":
            done = done if done == root else done.parent
            continue
        step = done / part
        if not step.is_symlink() or followed == LINKS_AT_MOST:
            done = step
            continue
        followed += 1
        target = step.readlink()
        if target.is_absolute():
            done = root
        rest[:0] = [part for part in target.parts if part != "/"]
    return done


def _point(link: Path, target: Path) -> None:
    """By rename: a process that looks for the library meanwhile finds the one or the other."""
    if link.is_symlink() and link.readlink() == target:
        return
    new = link.with_name(f".{link.name}.{os.getpid()}")
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    new.rename(link)
