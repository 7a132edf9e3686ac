"""The MIG partitions that a GPU can be cut into, as devices: pure, from NVML's own tables.

A partition takes a run of memory slices, of which each is one counter; where a GPU can have fewer
of a profile than it has places for it, that is a counter too.
"""

from collections.abc import Iterable

from gpuslice_agent.mig import MigPlace, MigProfile
from gpuslice_agent.model import Gpu
from gpuslice_plugin.api import Object
from gpuslice_plugin.dra.cards import Card
from gpuslice_plugin.dra.names import DeviceName, Kind
from gpuslice_plugin.errors import ClaimError
from gpuslice_plugin.quantity import binary

ONE = {"value": "1"}
COMPUTE = "compute-slices"


def names(card: Card) -> Iterable[DeviceName]:
    """The smallest first, which the scheduler tries first where a claim leaves the choice."""
    for one in sorted(card.gpu.mig_profiles, key=lambda one: (one.slices, one.memory_bytes)):
        for start in one.starts:
            yield DeviceName(card.number, Kind.MIG, one.id, start)


def place(name: DeviceName, gpu: Gpu) -> MigPlace:
    """ClaimError: the GPU cannot have that."""
    for one in gpu.mig_profiles:
        for found in one.places:
            if (found.profile_id, found.start) == (name.profile_id, name.start):
                return found
    raise ClaimError(f"This node has no device {name}: its GPU has no such MIG partition.")


def profile(name: DeviceName, card: Card) -> MigProfile:
    return next(one for one in card.gpu.mig_profiles if one.id == name.profile_id)


def capacity(profile: MigProfile) -> Object:
    return {
        "memory": {"value": binary(profile.memory_bytes)},
        "multiprocessors": {"value": str(profile.multiprocessors)},
    }


def counters(card: Card) -> Object:
    """All that partitions can take of the GPU."""
    profiles = card.gpu.mig_profiles
    if not profiles:
        return {}
    slices = max(start + one.slices for one in profiles for start in one.starts)
    compute = max(one.compute_slices for one in profiles)
    return {
        **{_slice(number): ONE for number in range(slices)},
        COMPUTE: {"value": str(compute)},
        **{_count(one): {"value": str(one.most)} for one in profiles if _is_scarce(one)},
    }


def consumed(name: DeviceName, card: Card) -> Object:
    one = profile(name, card)
    return {
        **{_slice(number): ONE for number in range(name.start, name.start + one.slices)},
        COMPUTE: {"value": str(one.compute_slices)},
        **({_count(one): ONE} if _is_scarce(one) else {}),
    }


def is_cut(name: DeviceName, gpu: Gpu) -> bool:
    """Whether partitions of others stand in the way."""
    if name.kind is Kind.ADMIN:
        return False
    if name.kind is not Kind.MIG:
        return gpu.partitioned
    wanted = place(name, gpu)
    return any(wanted.overlaps(one.place) for one in gpu.foreign_partitions)


def _is_scarce(one: MigProfile) -> bool:
    return one.most < len(one.starts)


def _slice(number: int) -> str:
    return f"memory-slice-{number}"


def _count(one: MigProfile) -> str:
    return f"profile-{one.id}"
