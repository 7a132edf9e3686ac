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
ADMIN_TAINT = f"{DRIVER}/admin-access"  # every claim of an administrator tolerates it

CLAIMS = "/apis/resource.k8s.io/v1/namespaces/{namespace}/resourceclaims"
SLICES = "/apis/resource.k8s.io/v1/resourceslices"


DEVICE = re.compile(r"gpu-(\d+)(?:-(share|admin))?")


class Kind(StrEnum):
    SHARE = "share"
    WHOLE = "gpu"
    ADMIN = "admin"  # the GPU for somebody who looks after it, whoever holds it


@dataclass(frozen=True, slots=True)
class DeviceName:
    """gpu-3, gpu-3-share or gpu-3-admin; a GPU keeps its number when its index changes."""

    number: int
    kind: Kind

    def __str__(self) -> str:
        return f"gpu-{self.number}" + ("" if self.kind is Kind.WHOLE else f"-{self.kind}")


def device_name(text: str) -> DeviceName | None:
    """None: no name that this driver gives."""
    match = DEVICE.fullmatch(text)
    if match is None:
        return None
    return DeviceName(int(match[1]), Kind(match[2]) if match[2] else Kind.WHOLE)


def claim_path(namespace: str, name: str) -> str:
    return f"{CLAIMS.format(namespace=namespace)}/{name}"
