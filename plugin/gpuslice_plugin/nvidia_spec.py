"""What the node's own CDI spec says a container needs for a GPU: device nodes, driver, hooks.

nvidia-ctk writes it, as nvidia.com/gpu. It is merged into ours, so that nobody here has to know
which files a driver is made of.
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gpuslice_agent.mig import MigDevice
from gpuslice_agent.model import Gpu
from gpuslice_plugin.errors import CdiError

log = logging.getLogger(__name__)

KIND = "nvidia.com/gpu"
SUFFIXES = (".json", ".yaml", ".yml")
# libyaml where PyYAML was built with it: a spec of eight GPUs has a thousand lines.
Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# Which device file opens which instance: `gpu0/gi1/ci0/access 13`. By GPU minor; the GPU's own file
# opens nothing without those of the instances. Not there: a driver that has no such files.
MINORS = Path("/proc/driver/nvidia-caps/mig-minors")
MAJORS = Path("/proc/devices")
CAPABILITIES = "nvidia-caps"  # the driver's name for them
CAPABILITY = "/dev/nvidia-caps/nvidia-cap{}"

Edits = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class NvidiaSpec:
    """One file, as it was read."""

    path: Path
    version: str
    common: Edits
    devices: Mapping[str, Edits]


class NvidiaSpecs:
    """The specs of the node, read again when a file has changed: a driver was replaced."""

    def __init__(
        self, directories: Sequence[Path], minors: Path = MINORS, majors: Path = MAJORS
    ) -> None:
        self._directories = tuple(directories)
        self._minors = minors
        self._majors = majors
        self._read: dict[Path, tuple[tuple[int, int], NvidiaSpec | None]] = {}

    def of_gpu(self, gpu: Gpu) -> tuple[str, Edits, Edits]:
        """CDI version, what every device needs, what this GPU needs. CdiError: it is in none."""
        return self.of_device(gpu.uuid, str(gpu.index), f"gpu{gpu.index}")

    def of_partition(self, gpu: Gpu, device: MigDevice) -> tuple[str, Edits, Edits]:
        """The same of a MIG partition: no spec knows one that was made since, but the GPU's own
        files, and those by which its instances are opened, are all that it needs."""
        version, common, own = self.of_gpu(gpu)
        nodes = [*(own.get("deviceNodes") or ()), *self._capabilities(device)]
        return version, common, {**own, "deviceNodes": nodes}

    def _capabilities(self, device: MigDevice) -> list[Edits]:
        minors = {name: int(number) for name, number in _pairs(self._minors)}
        if not minors:
            return []
        instance = f"gpu{device.gpu_minor}/gi{device.gpu_instance}"
        wanted = (f"{instance}/access", f"{instance}/ci{device.compute_instance}/access")
        if missing := [name for name in wanted if name not in minors]:
            raise CdiError(f"{self._minors} has no {missing[0]}: the driver is another now.")
        major = next((int(one) for one, name in _pairs(self._majors) if name == CAPABILITIES), 0)
        # With its numbers, for nobody makes these files on the host before somebody needs them.
        return [
            {
                "path": CAPABILITY.format(minors[name]),
                "type": "c",
                "major": major,
                "minor": minors[name],
                "permissions": "r",
            }
            for name in wanted
        ]

    def of_device(self, *names: str) -> tuple[str, Edits, Edits]:
        """By the first of these names that a spec knows: nvidia-ctk can use any of several."""
        specs = list(self._specs())
        for name in names:
            # As in the runtime: what a later directory says goes over what an earlier one said.
            for spec in reversed(specs):
                if name in spec.devices:
                    return spec.version, spec.common, spec.devices[name]
        places = " and ".join(map(str, self._directories))
        raise CdiError(
            f"No CDI spec in {places} has {KIND}={names[0]}: make one with "
            "'nvidia-ctk cdi generate --output=/var/run/cdi/nvidia.yaml'."
        )

    def _specs(self) -> Iterator[NvidiaSpec]:
        for directory in self._directories:
            try:
                paths = sorted(path for path in directory.iterdir() if path.suffix in SUFFIXES)
            except OSError:
                continue  # one of several places where it may be
            for path in paths:
                spec = self._spec(path)
                if spec is not None:
                    yield spec

    def _spec(self, path: Path) -> NvidiaSpec | None:
        """None: of another kind, or not to be understood."""
        try:
            about = path.stat()
            state = (about.st_mtime_ns, about.st_size)
            known = self._read.get(path)
            if known is None or known[0] != state:
                known = (state, read(path))
                self._read[path] = known
        except OSError:
            return None  # it was removed meanwhile
        return known[1]


def read(path: Path) -> NvidiaSpec | None:
    text = path.read_bytes()
    if KIND.encode() not in text:
        return None  # the many files of other drivers are not worth decoding
    try:
        decode = json.loads if path.suffix == ".json" else _from_yaml
        document: Any = decode(text)
        if document["kind"] != KIND:
            return None
        return NvidiaSpec(
            path,
            str(document["cdiVersion"]),
            document.get("containerEdits") or {},
            {
                str(device["name"]): device.get("containerEdits") or {}
                for device in document["devices"]
            },
        )
    except (ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
        log.error("CDI spec not understood path=%s reason=%r", path, error)
        return None


def _from_yaml(text: bytes) -> Any:
    return yaml.load(text, Loader)


def _pairs(path: Path) -> Iterator[list[str]]:
    """The lines of two words of a file of the kernel; none where it is not there."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return
    yield from (words for line in lines if len(words := line.split()) == 2)
