"""Where the native parts lie: the shim, the agent's library and the simulated node.

They are installed into gpuslice_agent/native beside this file. An editable install keeps the
Python files in the checkout and puts the native ones into site-packages. GPUSLICE_NATIVE names
another place: `cmake --install BUILD --prefix DIR` fills DIR/gpuslice_agent/native.
"""

import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from gpuslice_agent.errors import InstallationError


def native_directory() -> Path:
    """The first place that holds the shim."""
    searched: list[str] = []
    for place in _places():
        if (place / "libgpuslice.so").exists():
            return place
        searched.append(str(place))
    raise InstallationError(
        f"The native parts of gpuslice are in none of {', '.join(searched)}:"
        " install it again with pip."
    )


def _places() -> Iterator[Path]:
    """Asks for the last one only where it comes to that: sysconfig takes milliseconds."""
    if named := os.environ.get("GPUSLICE_NATIVE"):
        yield Path(named)
    yield Path(__file__).parent / "native"
    yield Path(sysconfig.get_path("platlib")) / "gpuslice_agent" / "native"


def shim() -> Path:
    """What LD_PRELOAD loads into tenants."""
    return native_directory() / "libgpuslice.so"


def agent_library() -> Path:
    return native_directory() / "libgpuslice_agent.so"


def agent_header() -> Path:
    """The declarations of agent_library(), as cffi reads them."""
    return native_directory() / "agent.h"


def kernels() -> Path:
    """PTX of the kernels that the demo and the tests launch."""
    return native_directory() / "gpuslice.ptx"


def simulation() -> Path:
    """The folder with the simulated libcuda.so.1 and libnvidia-ml.so.1, for LD_LIBRARY_PATH."""
    return native_directory() / "sim"


def sim_node_program() -> Path:
    """The program that makes simulated nodes and shows what they did."""
    return simulation() / "gpuslice-sim-node"
