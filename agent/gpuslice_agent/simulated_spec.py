"""The CDI spec of a simulated node: what `nvidia-ctk cdi generate` would write for its GPUs.

Containers that get one of them find the driver where a Debian node has it, and the node's directory
at its own path, whatever their uid and pid namespace.
"""

import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

KIND = "nvidia.com/gpu"
VERSION = "0.5.0"
# Where a program links to the one or opens the other by name.
LIBRARIES = ("libcuda.so", "libcuda.so.1", "libnvidia-ml.so", "libnvidia-ml.so.1")


def document(
    node: Path, libraries: Path, gpus: Iterable[tuple[int, str]], more: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """`libraries`: their folder on the host; `gpus`: index and UUID; `more`: mounts beside."""
    folder = Path(f"/usr/lib/{platform.machine()}-linux-gnu")
    return {
        "cdiVersion": VERSION,
        "kind": KIND,
        "devices": [
            # The simulated driver shows a container the GPUs that are named to it this way.
            {"name": name, "containerEdits": {"env": [f"GPUSLICE_SIM_GPU_{index}=1"]}}
            for index, uuid in gpus
            for name in (uuid, str(index))
        ],
        "containerEdits": {
            "env": [f"GPUSLICE_SIM_NODE={node}"],
            "mounts": [
                *(mount(libraries / name, folder / name, "ro") for name in LIBRARIES),
                mount(node, node, "rw"),
                *more,
            ],
        },
    }


def mount(host: Path, container: Path, mode: str) -> dict[str, Any]:
    options = [mode, "nosuid", "nodev", "rbind"]
    return {"hostPath": str(host), "containerPath": str(container), "options": options}
