"""Pods that use GPUs, as users write them, and what their programs say they see."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import images
from .api import Object
from .cluster import Cluster, wait

MIB = 1 << 20
GPU_LINE = re.compile(
    r"gpu \d+ (?P<uuid>\S+) total=(?P<total>\d+) free=(?P<free>\d+) took=(?P<took>\d+)"
    r"(?: refused=(?P<refused>\d+))?"
)
OUT_OF_MEMORY = 2


@dataclass(frozen=True, slots=True)
class SeenGpu:
    """A GPU as the program `tenant` met it."""

    uuid: str
    total_bytes: int
    free_bytes: int
    took_bytes: int
    refused: int  # CUDA's error; 0: it got all it asked for


def pod(
    name: str,
    *command: str,
    limits: Mapping[str, int] | None = None,
    claims: Sequence[str] = (),
    template: str = "",
) -> Object:
    """A pod with one container. `limits` are of the device plugin's resources, without prefix;
    `claims` are names of ResourceClaims, `template` of a ResourceClaimTemplate."""
    container: Object = container_of("main", *command, limits=limits)
    spec: Object = {"terminationGracePeriodSeconds": 1, "containers": [container]}
    sources = [{"name": f"c{n}", "resourceClaimName": one} for n, one in enumerate(claims)]
    if template:
        sources.append({"name": "own", "resourceClaimTemplateName": template})
    if sources:
        spec["resourceClaims"] = sources
        container["resources"]["claims"] = [{"name": source["name"]} for source in sources]
    return {"metadata": {"name": name}, "spec": spec}


def container_of(name: str, *command: str, limits: Mapping[str, int] | None = None) -> Object:
    quantities = {f"nvidia.com/{one}": str(amount) for one, amount in (limits or {}).items()}
    return {
        "name": name,
        "image": images.TENANT,
        "imagePullPolicy": "Never",
        "command": list(command or ("tenant",)),
        "resources": {"limits": quantities},
    }


def share_of_claim(cores: int, mebibytes: int, **more: Any) -> Object:
    """The spec of a claim for one share."""
    capacity = {"requests": {"gpucores": str(cores), "gpumem": f"{mebibytes}Mi"}}
    exactly = {"deviceClassName": "share.gpuslice.io", "capacity": capacity, **more}
    return {"devices": {"requests": [{"name": "gpu", "exactly": exactly}]}}


def claim(name: str, cores: int, mebibytes: int) -> Object:
    return {"metadata": {"name": name}, "spec": share_of_claim(cores, mebibytes)}


def template(name: str, cores: int, mebibytes: int) -> Object:
    return {"metadata": {"name": name}, "spec": {"spec": share_of_claim(cores, mebibytes)}}


def seen(cluster: Cluster, namespace: str, name: str, container: str = "") -> list[SeenGpu]:
    """What the program `tenant` of this pod said, once it is ready."""

    def said() -> str:
        log = cluster.logs(namespace, name, container)
        return log if log.endswith("ready\n") else ""

    found = GPU_LINE.finditer(wait(f"the program of {name} to be ready", said))
    return [
        SeenGpu(
            line["uuid"],
            int(line["total"]),
            int(line["free"]),
            int(line["took"]) * MIB,
            int(line["refused"] or 0),
        )
        for line in found
    ]
