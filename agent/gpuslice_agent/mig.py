"""GPUs cut into MIG partitions, in nouns: immutable values, no I/O. Sizes are bytes."""

from dataclasses import dataclass
from enum import StrEnum


class MigPolicy(StrEnum):
    """Whether we cut GPUs into MIG partitions."""

    OFF = "off"  # never; those that others made are left as they are
    ON_DEMAND = "on-demand"  # GPUs of claims: a partition lives as long as its claim


@dataclass(frozen=True, slots=True)
class MigPlace:
    """A part of a GPU that a MIG partition takes: a run of its memory slices."""

    profile_id: int  # NVML's number of the GPU instance profile
    profile: str  # its name: 1g.10gb
    start: int  # the first memory slice
    slices: int  # how many

    def overlaps(self, other: "MigPlace") -> bool:
        return self.start < other.start + other.slices and other.start < self.start + self.slices


@dataclass(frozen=True, slots=True)
class MigProfile:
    """A way to cut a partition out of a GPU, as NVML lists it for that GPU."""

    id: int
    name: str  # 1g.10gb, 1g.10gb+me
    memory_bytes: int
    compute_slices: int
    multiprocessors: int
    most: int  # how many of it one GPU can have
    slices: int  # memory slices
    starts: tuple[int, ...]  # the memory slices at which it may begin

    @property
    def places(self) -> tuple[MigPlace, ...]:
        return tuple(MigPlace(self.id, self.name, start, self.slices) for start in self.starts)


@dataclass(frozen=True, slots=True)
class MigDevice:
    """A MIG partition that is there: a compute instance in its GPU instance.

    Without UUID: a GPU instance that has no compute instance (yet), which no program can use.
    """

    uuid: str
    name: str  # the profile's; with the part before it where it is split: 1c.2g.20gb
    place: MigPlace
    memory_bytes: int
    gpu_minor: int  # of /dev/nvidia<N>, which is no index
    gpu_instance: int
    compute_instance: int = 0
