"""The NVML calls that limit a cgroup's memory on a GPU (drivers from r615). They run in the child.

A limit counts for the processes of the cgroup and of those below it, together; the kernel drops it
with the cgroup. Setting one needs root; a GPU in MIG mode takes none.
"""

from gpuslice_agent.errors import NvmlError
from gpuslice_agent.nvml.calls import nvml


def limit(uuid: str, cgroup: str, size: int | None) -> None:
    """`size` in bytes, at most the GPU's memory; None: no limit. The cgroup as a path."""
    hard = nvml.NVML_DEVICE_MEMORY_LIMIT_MAX if size is None else size
    limits = nvml.c_nvmlSetMemoryLimits_v1_t(cgroup.encode(), 0, hard)
    try:
        nvml.nvmlDeviceSetMemoryLimits_v1(nvml.nvmlDeviceGetHandleByUUID(uuid), limits)
    except nvml.NVMLError_NoPermission as error:
        raise NvmlError(f"setting the limit of {cgroup} needs root") from error
    except nvml.NVMLError_OperatingSystem as error:
        raise NvmlError(f"{cgroup} is no cgroup, or is gone") from error


def limits(uuid: str, cgroup: str) -> bool:
    """Whether this GPU and this driver limit cgroups like this one at all."""
    asked = nvml.c_nvmlGetMemoryLimits_v1_t(cgroup.encode())
    try:
        nvml.nvmlDeviceGetMemoryLimits_v1(nvml.nvmlDeviceGetHandleByUUID(uuid), asked)
    except nvml.NVMLError_NotFound:
        return True  # it could have a limit, and has none
    except (
        nvml.NVMLError_NotSupported,
        nvml.NVMLError_FunctionNotFound,
        nvml.NVMLError_NoPermission,
        nvml.NVMLError_OperatingSystem,
        nvml.NVMLError_InvalidArgument,
    ):
        return False
    return True
