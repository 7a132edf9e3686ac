"""What on a node can be ill, and how ill it is: immutable values, no I/O.

A PCI address is written as the kernel writes it where it speaks of a GPU: `0000:3b:00`, in lower
case, without the function. Times are seconds since the epoch.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import TypeVar


class EntityKind(StrEnum):
    NODE = "node"
    NVSWITCH = "nvswitch"
    GPU = "gpu"
    GPU_INSTANCE = "gpu-instance"
    COMPUTE_INSTANCE = "compute-instance"


@dataclass(frozen=True, slots=True, order=True)
class Entity:
    """One thing that has a health of its own."""

    kind: EntityKind
    pci: str = ""  # of the GPU or the NVSwitch; empty for the node
    gi: int | None = None  # GPU instance
    ci: int | None = None  # compute instance within it

    def __str__(self) -> str:
        parts = (self.kind.value, self.pci, *(str(i) for i in (self.gi, self.ci) if i is not None))
        return "/".join(part for part in parts if part)


NODE = Entity(EntityKind.NODE)


def gpu_entity(pci: str, gi: int | None = None, ci: int | None = None) -> Entity:
    """The GPU, or the smallest of its instances that is named."""
    if gi is None:
        return Entity(EntityKind.GPU, pci)
    if ci is None:
        return Entity(EntityKind.GPU_INSTANCE, pci, gi)
    return Entity(EntityKind.COMPUTE_INSTANCE, pci, gi, ci)


@lru_cache(maxsize=1024)
def pci_address(text: str) -> str:
    """NVML's `00000000:3B:00.0`, the kernel's `0000:3b:00.0` and `3b:00` as `0000:3b:00`."""
    parts = text.strip().lower().partition(".")[0].split(":")
    domain, bus, device = (["0"] * 3 + parts)[-3:]
    return f"{domain.lstrip('0'):0>4}:{bus:0>2}:{device:0>2}"


class _Ordered(StrEnum):
    """Each weighs more than those before it."""

    @property
    def weight(self) -> int:
        return list(type(self)).index(self)


class EntityState(_Ordered):
    """From well to ill."""

    HEALTHY = "healthy"
    RECOVERING = "recovering"  # the fault is gone; being watched before it counts as well again
    SUSPECT = "suspect"  # something was said; nothing is taken away for it
    DEGRADED = "degraded"  # what runs goes on
    UNHEALTHY = "unhealthy"  # what runs is lost, or will be


class Effect(_Ordered):
    """What it means for scheduling, in Kubernetes' words; from none to the strongest."""

    NONE = ""
    NO_SCHEDULE = "NoSchedule"
    NO_EXECUTE = "NoExecute"


class Action(_Ordered):
    """What somebody has to do, from nothing to the heaviest. NVIDIA's words where it has some."""

    NONE = "NONE"
    IGNORE = "IGNORE"
    RESTART_APP = "RESTART_APP"
    FOLLOW_DRIVER = "FOLLOW_DRIVER"  # what the driver's recovery action says; else nothing
    CHECK_UVM = "CHECK_UVM"
    UPDATE_SWFW = "UPDATE_SWFW"
    CHECK_MECHANICALS = "CHECK_MECHANICALS"
    CONTACT_SUPPORT = "CONTACT_SUPPORT"
    DRAIN_P2P = "DRAIN_P2P"
    RECOVER_IMEX = "RECOVER_IMEX"
    RESET_GPU = "RESET_GPU"
    DRAIN_AND_RESET = "DRAIN_AND_RESET"
    BUS_RESET = "BUS_RESET"
    RESTART_VM = "RESTART_VM"
    RESTART_BM = "RESTART_BM"  # bare metal: the machine


Ordered = TypeVar("Ordered", bound=_Ordered)


def heaviest(values: Iterable[Ordered], least: Ordered) -> Ordered:
    return max((least, *values), key=lambda one: one.weight)


@dataclass(frozen=True, slots=True)
class EntityHealth:
    """How one entity is, for everybody who shows it or acts on it."""

    entity: Entity
    uuid: str = ""  # of the GPU; empty where it is not known, and for node and NVSwitch
    state: EntityState = EntityState.HEALTHY
    effect: Effect = Effect.NONE
    action: Action = Action.NONE
    since: float = 0.0  # when the state began
    reasons: tuple[str, ...] = ()  # sentences, the gravest first
    evidence: tuple[str, ...] = ()  # what the kernel or the driver said, word for word


@dataclass(frozen=True, slots=True)
class XidCount:
    """How often an entity had an Xid (or, an NVSwitch, an SXid)."""

    entity: Entity
    code: int
    count: int
    last_at: float
    uuid: str = ""


@dataclass(frozen=True, slots=True)
class Incident:
    """A fault that the programs of one tenant caused, or have to be started anew for."""

    at: float
    code: int
    entity: Entity
    action: Action
    blamed: bool  # False: the tenant is hit, not to blame
    meaning: str
    pid: int
    process: str
    share: str
    owner: str  # Owner.key, or its name where it has none
    count: int = 1
    pods: tuple[str, ...] = ()  # UIDs: that of the program, or of all that hold the share


@dataclass(frozen=True, slots=True)
class NodeHealth:
    """What is known of the node's health. Entities that never had a fault are not listed."""

    entities: tuple[EntityHealth, ...] = ()
    counts: tuple[XidCount, ...] = ()
    incidents: tuple[Incident, ...] = ()  # the last ones, oldest first
    sources: tuple[tuple[str, str], ...] = ()  # name, and why it says nothing; empty: it does
    kernel_log_gaps: int = 0  # times that the kernel's log ran over before it was read

    def of(self, entity: Entity) -> EntityHealth:
        return next((one for one in self.entities if one.entity == entity), EntityHealth(entity))

    def of_gpu(self, pci: str) -> EntityHealth:
        """The GPU itself, and what it takes from node and NVSwitches that are unhealthy.

        A fatal fault of an NVSwitch ends the traffic of all GPUs on it, and only the Fabric Manager
        knows which those are. What one GPU instance has is not the whole GPU's.
        """
        own = self.of(gpu_entity(pci))
        around = tuple(
            one
            for one in self.entities
            if one.entity.kind in (EntityKind.NODE, EntityKind.NVSWITCH)
            and one.effect is not Effect.NONE
        )
        if not around:
            return own
        return EntityHealth(
            own.entity,
            own.uuid,
            heaviest((one.state for one in around), own.state),
            heaviest((one.effect for one in around), own.effect),
            heaviest((one.action for one in around), own.action),
            max((own.since, *(one.since for one in around))),
            own.reasons + tuple(f"{one.entity}: {text}" for one in around for text in one.reasons),
            own.evidence + tuple(text for one in around for text in one.evidence),
        )


NOTHING_KNOWN = NodeHealth()
