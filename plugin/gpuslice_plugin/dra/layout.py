"""Which ResourceSlices say what the node has: pure.

First the counters, then a slice for each GPU, so that a change of one GPU touches one slice. The
devices of a GPU draw on one counter set: in use whole, it cannot be shared, and the other way
round; the MIG partitions that a claim may have made draw on their memory slices alone.
Limits of the API: 8 counter sets a slice, 32 counters a set, 64 devices a slice.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gpuslice_agent.entities import Effect
from gpuslice_agent.model import HealthState, Snapshot
from gpuslice_plugin.api import Object
from gpuslice_plugin.dra import mig
from gpuslice_plugin.dra.attributes import attributes
from gpuslice_plugin.dra.cards import Card
from gpuslice_plugin.dra.names import (
    ABSENT_TAINT,
    ADMIN_TAINT,
    ALREADY_CUT_TAINT,
    CORES,
    DRIVER,
    MEMORY,
    SLOTS,
    UNHEALTHY_TAINT,
    DeviceName,
    Kind,
)
from gpuslice_plugin.quantity import binary

MIB = 1 << 20
SETS_A_SLICE = 8
MOST_NAME = 253
DEVICES_A_SLICE = 64
COUNTER = "memory"


@dataclass(frozen=True, slots=True)
class Features:
    """What this API server keeps of a slice; older ones drop fields without a word."""

    sharing: bool = True  # counters, several allocations of a device, requests of capacity
    taints: bool = True


@dataclass(frozen=True, slots=True)
class Rules:
    """From the configuration."""

    node: str
    slots: int
    overcommit_ratio: float
    mig: bool = False  # GPUs may be cut


@dataclass(frozen=True, slots=True)
class PublishedSlice:
    """A slice without its pool's generation and count, which the controller knows."""

    name: str
    content: Object


def layout(
    cards: Sequence[Card],
    node: Snapshot,
    rules: Rules,
    features: Features,
    pcie_roots: Mapping[str, str],
) -> tuple[PublishedSlice, ...]:
    """Without a GPU one empty slice: the driver is here, and there is nothing to have."""
    if not features.taints:
        cards = [card for card in cards if card.gpu.health.state is not HealthState.UNHEALTHY]
    contents: list[Object] = []
    if features.sharing:
        contents += _counter_slices(cards, rules)
    for card in cards:
        devices = list(_devices(card, node, rules, features, pcie_roots))
        contents += [
            {"devices": devices[start : start + DEVICES_A_SLICE]}
            for start in range(0, len(devices), DEVICES_A_SLICE)
        ]
    return tuple(
        PublishedSlice(slice_name(position, rules.node), content)
        for position, content in enumerate(contents or [{}])
    )


def slice_name(position: int, node: str) -> str:
    """The scheduler tries slices in the order of their names."""
    name = f"{position:05x}-{DRIVER}-{node}"
    if len(name) <= MOST_NAME:
        return name
    return f"{position:05x}-{DRIVER}-{hashlib.sha256(node.encode()).hexdigest()[:32]}"


def names(card: Card, rules: Rules) -> Iterable[DeviceName]:
    """Of all devices of the GPU, where the API server keeps what we publish."""
    for kind in (Kind.SHARE, Kind.WHOLE, Kind.ADMIN):
        yield DeviceName(card.number, kind)
    if rules.mig:
        yield from mig.names(card)


def _counter_slices(cards: Sequence[Card], rules: Rules) -> Iterable[Object]:
    for start in range(0, len(cards), SETS_A_SLICE):
        yield {
            "sharedCounters": [
                {"name": f"gpu-{card.number}", "counters": _counters(card, rules)}
                for card in cards[start : start + SETS_A_SLICE]
            ]
        }


def _devices(
    card: Card, node: Snapshot, rules: Rules, features: Features, pcie_roots: Mapping[str, str]
) -> Iterable[Object]:
    root = pcie_roots.get(card.gpu.uuid, "")
    for name in names(card, rules):
        kind = name.kind
        if not _is_offered(name, card, features):
            continue
        device: Object = {
            "name": str(name),
            "attributes": attributes(kind, card.gpu, node, root),
        }
        counters = _counters(card, rules)
        if kind is Kind.SHARE:
            device["allowMultipleAllocations"] = True
            device["capacity"] = _shared_capacity(card, rules)
        elif kind is Kind.WHOLE:
            device["capacity"] = {"memory": _memory(card)}
        elif kind is Kind.MIG:
            profile = mig.profile(name, card)
            device["attributes"]["profile"] = {"string": profile.name}
            device["capacity"] = mig.capacity(profile)
            counters = mig.consumed(name, card)
        if features.sharing and kind is not Kind.ADMIN:
            device["consumesCounters"] = [
                {"counterSet": f"gpu-{card.number}", "counters": counters}
            ]
        if features.taints and (taints := list(_taints(name, card))):
            device["taints"] = taints
        yield device


def _is_offered(name: DeviceName, card: Card, features: Features) -> bool:
    """Administrators need a device of their own: the scheduler of 1.36 asks counters of them too,
    and those of a GPU in use are consumed. A taint keeps everybody else away from it.
    """
    if not features.taints and (name.kind is Kind.ADMIN or mig.is_cut(name, card.gpu)):
        return False
    return features.sharing or name.kind is Kind.WHOLE


def _counters(card: Card, rules: Rules) -> Object:
    """What whole and shared GPUs consume: all that there is."""
    return {COUNTER: _memory(card), **(mig.counters(card) if rules.mig else {})}


def _shared_capacity(card: Card, rules: Rules) -> Object:
    """A default is what a claim gets that does not say: the most, so that nobody gets too little.

    More memory than the card has is published where memory is overcommitted; one share still gets
    no more than the card.
    """
    whole = binary(_bytes(card))
    published = binary(int(_bytes(card) * rules.overcommit_ratio) // MIB * MIB)
    cores = {"min": "0", "max": "100", "step": "1"}
    memory = {"min": "1Mi", "max": whole, "step": "1Mi"}
    return {
        CORES: {"value": "100", "requestPolicy": {"default": "100", "validRange": cores}},
        MEMORY: {"value": published, "requestPolicy": {"default": whole, "validRange": memory}},
        SLOTS: {
            "value": str(rules.slots),
            "requestPolicy": {"default": "1", "validValues": ["1"]},
        },
    }


def _taints(name: DeviceName, card: Card) -> Iterable[Object]:
    if name.kind is Kind.ADMIN:
        yield {"key": ADMIN_TAINT, "effect": "NoSchedule"}
    if mig.is_cut(name, card.gpu):
        yield {"key": ALREADY_CUT_TAINT, "effect": "NoSchedule"}
    health = card.gpu.health
    effect = (health.effect or Effect.NO_SCHEDULE).value
    if card.absent:
        yield {"key": ABSENT_TAINT, "effect": effect}
    elif health.state is HealthState.UNHEALTHY:
        yield {"key": UNHEALTHY_TAINT, "effect": effect}


def _memory(card: Card) -> Object:
    return {"value": binary(_bytes(card))}


def _bytes(card: Card) -> int:
    """In whole MiB, as requests are: a step has to divide the range."""
    return card.gpu.memory_bytes // MIB * MIB
