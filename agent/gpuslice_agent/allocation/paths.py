"""Which way Kubernetes may hand out each GPU: by configuration, so that no two ways ever race."""

from gpuslice_agent.errors import ConfigError
from gpuslice_agent.model import Gpu, GpuPath


def path_of(gpu: Gpu, plugin_gpus: str, dra_gpus: str) -> GpuPath:
    """ConfigError: it is listed for both. `all` is what the other one does not name."""
    plugin, dra = _names(gpu, plugin_gpus), _names(gpu, dra_gpus)
    if plugin and dra:
        raise ConfigError(
            f"GPU {gpu.index} ({gpu.uuid}) is in plugin_gpus and in dra_gpus: a GPU is handed out "
            "one way only; take it out of one of them."
        )
    if plugin or (plugin_gpus == "all" and not dra):
        return GpuPath.PLUGIN
    if dra or dra_gpus == "all":
        return GpuPath.DRA
    return GpuPath.LOCAL


def check_paths(plugin_gpus: str, dra_gpus: str) -> None:
    """What is wrong before any GPU is seen."""
    if plugin_gpus == dra_gpus == "all":
        raise ConfigError(
            "plugin_gpus and dra_gpus are both 'all': a GPU is handed out one way only; name the "
            "GPUs of one of them."
        )


def _names(gpu: Gpu, listed: str) -> bool:
    return any(_is(gpu, name) for name in listed.split(",") if name not in ("all", "none"))


def _is(gpu: Gpu, name: str) -> bool:
    return gpu.index == int(name) if name.isdecimal() else gpu.uuid == name
