"""What a pod wishes beside sizes: annotations and variables, HAMi's and our own."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from gpuslice_agent.errors import RequestError
from gpuslice_agent.model import Gpu, Order, Policy, Priority
from gpuslice_plugin.pods import Container, Pod

Kind = TypeVar("Kind", bound=StrEnum)

USE_TYPE, AVOID_TYPE = "nvidia.com/use-gputype", "nvidia.com/nouse-gputype"
USE_UUID, AVOID_UUID = "nvidia.com/use-gpuuuid", "nvidia.com/nouse-gpuuuid"
ONE_NUMA_NODE = "nvidia.com/numa-bind"
HAMI_PLACEMENT = "hami.io/gpu-scheduler-policy"
PLACEMENT, POLICY, PRIORITY = (
    f"gpuslice.io/{name}" for name in ("placement", "policy", "priority")
)
HAMI_PRIORITY, HAMI_POLICY = "CUDA_TASK_PRIORITY", "GPU_CORE_UTILIZATION_POLICY"

HAMI_PLACEMENTS = {
    "binpack": Order.BINPACK,
    "spread": Order.SPREAD,
    "topology-aware": Order.TOPOLOGY,
}
# HAMi's default lets a task alone on its GPU take all of it.
HAMI_POLICIES = {
    "force": Policy.HARD,
    "default": Policy.ELASTIC,
    "disable": Policy.ELASTIC,
}
HAMI_PRIORITIES = {"0": Priority.HIGH, "1": Priority.LOW}


@dataclass(frozen=True, slots=True)
class GpuChoice:
    """Which GPUs a pod accepts. A type is a part of the GPU's name, in any case."""

    types: tuple[str, ...] = ()
    not_types: tuple[str, ...] = ()
    uuids: tuple[str, ...] = ()
    not_uuids: tuple[str, ...] = ()

    def misfit(self, gpu: Gpu) -> str | None:
        name = gpu.name.lower()
        if self.types and not any(one.lower() in name for one in self.types):
            return f"is a {gpu.name}, and the pod wants {' or '.join(self.types)}"
        if any(one.lower() in name for one in self.not_types):
            return f"is a {gpu.name}, which the pod does not want"
        if (self.uuids and gpu.uuid not in self.uuids) or gpu.uuid in self.not_uuids:
            return "is not among those that the pod names"
        return None


@dataclass(frozen=True, slots=True)
class Wishes:
    choice: GpuChoice = GpuChoice()
    placement: Order | None = None
    policy: Policy | None = None
    priority: Priority = Priority.NORMAL
    one_numa_node: bool = False


def of_container(pod: Pod, container: Container) -> Wishes:
    """RequestError: a wish that nobody understands; better not started than not as wished."""
    annotations, environment = dict(pod.annotations), dict(container.environment)
    hami_policy = _one_of(HAMI_POLICIES, environment, HAMI_POLICY)
    hami_priority = _one_of(HAMI_PRIORITIES, environment, HAMI_PRIORITY)
    hami_placement = _one_of(HAMI_PLACEMENTS, annotations, HAMI_PLACEMENT)
    return Wishes(
        choice=GpuChoice(
            types=_listed(annotations, USE_TYPE),
            not_types=_listed(annotations, AVOID_TYPE),
            uuids=_listed(annotations, USE_UUID),
            not_uuids=_listed(annotations, AVOID_UUID),
        ),
        placement=_one_of(_values(Order), annotations, PLACEMENT) or hami_placement,
        policy=_one_of(_values(Policy), annotations, POLICY) or hami_policy,
        priority=_one_of(_values(Priority), annotations, PRIORITY)
        or hami_priority
        or Priority.NORMAL,
        one_numa_node=annotations.get(ONE_NUMA_NODE) == "true",
    )


def _listed(annotations: Mapping[str, str], name: str) -> tuple[str, ...]:
    names = (one.strip() for one in annotations.get(name, "").split(","))
    return tuple(one for one in names if one)


def _values(kind: type[Kind]) -> dict[str, Kind]:
    return {one.value: one for one in kind}


def _one_of(known: Mapping[str, Kind], given: Mapping[str, str], name: str) -> Kind | None:
    value = given.get(name, "")
    if value and value not in known:
        raise RequestError(f"{name} is {value!r}: it is one of {', '.join(known)}.")
    return known.get(value)
