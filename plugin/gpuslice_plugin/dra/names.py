"""The names that the driver, its devices and their capacities have in the cluster."""

import re
from dataclasses import dataclass
from enum import StrEnum

DRIVER = "gpu.gpuslice.io"

CORES = "gpucores"
MEMORY = "gpumem"
SLOTS = "slots"
UNHEALTHY_TAINT = f"{DRIVER}/unhealthy"
ABSENT_TAINT = f"{DRIVER}/absent"

CLAIMS = "/apis/resource.k8s.io/v1/namespaces/{namespace}/resourceclaims"
SLICES = "/apis/resource.k8s.io/v1/resourceslices"

DEVICE = re.compile(r"gpu-(\d+)(-share)?")


class Kind(StrEnum):
    SHARE = "share"
    WHOLE = "gpu"


@dataclass(frozen=True, slots=True)
class DeviceName:
    """gpu-3 or gpu-3-share; the number stays with the GPU, whatever its index becomes."""

    number: int
    kind: Kind

    def __str__(self) -> str:
        return f"gpu-{self.number}" + ("-share" if self.kind is Kind.SHARE else "")


def device_name(text: str) -> DeviceName | None:
    """None: no name that this driver gives."""
    match = DEVICE.fullmatch(text)
    if match is None:
        return None
    return DeviceName(int(match[1]), Kind.SHARE if match[2] else Kind.WHOLE)


def claim_path(namespace: str, name: str) -> str:
    return f"{CLAIMS.format(namespace=namespace)}/{name}"
