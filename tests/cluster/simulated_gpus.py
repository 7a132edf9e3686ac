"""The GPUs of a node and what a real one has beside them: the driver's files, their CDI spec.

They lie where NVIDIA's driver container leaves its own, which is where a node without a driver of
its own is looked at.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpuslice_agent import native_files

from .node import Node

DIRECTORY = Path("/var/lib/gpuslice-sim")
DRIVER = Path("/run/nvidia/driver")
LIBRARIES = Path("/usr/lib/x86_64-linux-gnu")
SPEC = Path("/run/cdi/nvidia.json")
CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class SimulatedGpus:
    node: Node

    def create(self, profile: str) -> None:
        program = native_files.sim_node_program()
        self.node.run(program, "create", "--profile", profile, DIRECTORY)
        self.install()

    def install(self) -> None:
        """What a reboot takes along."""
        libraries = self._below(DRIVER / LIBRARIES.relative_to("/"))
        libraries.mkdir(parents=True)
        for library in native_files.simulation().glob("lib*.so*"):
            shutil.copy(library, libraries, follow_symlinks=False)
        spec = self._below(SPEC)
        spec.parent.mkdir(exist_ok=True)
        spec.write_text(json.dumps(self._spec(), indent=2))

    def show(self) -> dict[str, Any]:
        """The node's GPUs and the processes on them, as the GPUs themselves count."""
        shown: dict[str, Any] = json.loads(
            self.node.run(native_files.sim_node_program(), "show", DIRECTORY)
        )
        return shown

    def environment(self) -> dict[str, str]:
        """For a program of the node itself."""
        return {
            "GPUSLICE_SIM_NODE": str(DIRECTORY),
            "LD_LIBRARY_PATH": str(DRIVER / LIBRARIES.relative_to("/")),
        }

    def _spec(self) -> dict[str, Any]:
        """As `nvidia-ctk cdi generate` would describe these GPUs."""
        driver = DRIVER / LIBRARIES.relative_to("/")
        names = sorted(path.name for path in self._below(driver).iterdir())
        mounts = [_mount(driver / name, LIBRARIES / name, "ro") for name in names]
        devices = [
            {"name": name, "containerEdits": {"env": [f"GPUSLICE_SIM_GPU_{gpu['index']}=1"]}}
            for gpu in self.show()["gpus"]
            for name in (gpu["uuid"], str(gpu["index"]))
        ]
        return {
            "cdiVersion": "0.6.0",
            "kind": "nvidia.com/gpu",
            "devices": devices,
            "containerEdits": {
                "env": [f"GPUSLICE_SIM_NODE={DIRECTORY}"],
                "mounts": [
                    *mounts,
                    _mount(DIRECTORY, DIRECTORY, "rw"),
                    # A driver knows every cgroup; the simulated one lives in the program, and
                    # looks here when a program stands behind the kernel's wall.
                    _mount(CGROUPS, DIRECTORY / "cgroup", "ro"),
                ],
            },
        }

    def _below(self, path: Path) -> Path:
        return self.node.root / path.relative_to("/")


def _mount(here: Path, there: Path, mode: str) -> dict[str, Any]:
    options = [mode, "nosuid", "nodev", "rbind"]
    return {"hostPath": str(here), "containerPath": str(there), "options": options}
