"""What a tenant's environment carries. Children inherit it, and so the share."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from gpuslice_agent.errors import InstallationError

_OURS = ("LD_PRELOAD", "GPUSLICE_SHARES")


def tenant_environment(
    environment: Mapping[str, str], shim: Path, share_directories: Sequence[str]
) -> dict[str, str]:
    """The shim goes last in LD_PRELOAD: other preloaded libraries call through it, not past it."""
    if any(character in str(shim) for character in " :"):
        raise InstallationError(
            f"The shim lies at '{shim}', and LD_PRELOAD cannot hold a path with a space or a colon:"
            " install gpuslice elsewhere."
        )
    return {
        **environment,
        "LD_PRELOAD": ":".join([*_preloaded_by_others(environment), str(shim)]),
        "GPUSLICE_SHARES": ":".join(share_directories),
    }


def simulated_environment(
    environment: Mapping[str, str], libraries: Path, node: Path, run_directory: Path
) -> dict[str, str]:
    """Everything that starts with this finds the simulated node and its agent, and nothing else."""
    search = [str(libraries), *filter(None, [environment.get("LD_LIBRARY_PATH")])]
    return {
        **without_share(
            environment
        ),  # an outer `run` gave one of a GPU that this node does not have
        "LD_LIBRARY_PATH": ":".join(search),
        "GPUSLICE_SIM_NODE": str(node),
        "GPUSLICE_RUN_DIR": str(run_directory),
        "GPUSLICE_NVIDIA_CDI_DIRS": str(cdi_directory(node)),
        "GPUSLICE_SYSFS_DIR": str(node / "sys"),
        "GPUSLICE_KMSG": str(node / "kmsg"),
    }


def cdi_directory(node: Path) -> Path:
    """Where a simulated node has its CDI spec."""
    return node / "cdi"


def without_share(environment: Mapping[str, str]) -> dict[str, str]:
    """For what must see the GPUs as they are: an agent, or a node of its own."""
    cleared = {name: value for name, value in environment.items() if name not in _OURS}
    if others := _preloaded_by_others(environment):
        cleared["LD_PRELOAD"] = ":".join(others)
    return cleared


def _preloaded_by_others(environment: Mapping[str, str]) -> list[str]:
    libraries = environment.get("LD_PRELOAD", "").replace(" ", ":").split(":")
    return [name for name in libraries if name and Path(name).name != "libgpuslice.so"]
