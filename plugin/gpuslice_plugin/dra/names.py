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
ALREADY_CUT_TAINT = f"{DRIVER}/mig"  # others than us have cut the GPU there
ADMIN_TAINT = f"{DRIVER}/admin-access"  # every claim of an administrator tolerates it

CLAIMS = "/apis/resource.k8s.io/v1/namespaces/{namespace}/resourceclaims"
SLICES = "/apis/resource.k8s.io/v1/resourceslices"


DEVICE = re.compile(r"gpu-(\d+)(?:-(share|admin)|-(mig)-(\d+)-(\d+))?")


class Kind(StrEnum):
    SHARE = "share"
    WHOLE = "gpu"
    MIG = "mig"  # a partition, made when a claim has it
    ADMIN = "admin"  # the GPU for somebody who looks after it, whoever holds it


@dataclass(frozen=True, slots=True)
class DeviceName:
    """gpu-3, gpu-3-share, gpu-3-admin, or gpu-3-mig-19-4: NVML's number of the profile and the
    first memory slice. A GPU keeps its number when its index changes."""

    number: int
    kind: Kind
    profile_id: int = 0
    start: int = 0

    def __str__(self) -> str:
        if self.kind is Kind.WHOLE:
            return f"gpu-{self.number}"
        place = f"-{self.profile_id}-{self.start}" if self.kind is Kind.MIG else ""
        return f"gpu-{self.number}-{self.kind}{place}"


def device_name(text: str) -> DeviceName | None:
    """None: no name that this driver gives."""
    match = DEVICE.fullmatch(text)
    if match is None:
        return None
    number, kind, mig, profile_id, start = match.groups()
    if mig:
        return DeviceName(int(number), Kind.MIG, int(profile_id), int(start))
    return DeviceName(int(number), Kind(kind) if kind else Kind.WHOLE)


def claim_path(namespace: str, name: str) -> str:
    return f"{CLAIMS.format(namespace=namespace)}/{name}"
