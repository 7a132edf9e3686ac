"""What the node's condition says of its GPUs: a sentence for each that is not well. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gpuslice_agent.entities import Action, Effect, EntityHealth, EntityState, NodeHealth
from gpuslice_agent.model import Snapshot

TYPE = "GpusliceGPUsHealthy"
MESSAGE_BYTES = 1024
SENTENCE_BYTES = 240  # so that several GPUs have room
SICK = (EntityState.DEGRADED, EntityState.UNHEALTHY)


@dataclass(frozen=True, slots=True)
class Condition:
    status: str  # "True", "False" or "Unknown"
    reason: str
    message: str


def condition(snapshot: Snapshot) -> Condition | None:
    """None while nothing is known. A node whose faults cannot be heard is well for all we know."""
    health = snapshot.health
    if not health.sources:
        return None
    present = _gravest_first(health)
    sentences = [*(sentence(one) for one in present), *_silent(health)]
    if any(is_sick(one) for one in present):
        return Condition("False", "GPUsUnhealthy", _message(sentences))
    if snapshot.problem:
        return Condition("Unknown", "NoGPUSeen", _message([snapshot.problem, *sentences]))
    if any(why for _, why in health.sources):
        return Condition("Unknown", "FaultsNotHeard", _message(sentences))
    if present:
        return Condition("True", "SomeSuspect", _message(sentences))
    return Condition("True", "AllHealthy", "Every GPU works, and every source of faults is heard.")


def is_sick(one: EntityHealth) -> bool:
    return one.effect is not Effect.NONE or one.state in SICK


def sentence(one: EntityHealth) -> str:
    name = " ".join(filter(None, (str(one.entity), one.uuid)))
    todo = "" if one.action in (Action.NONE, Action.IGNORE) else f", to do: {one.action}"
    why = f": {one.reasons[0]}" if one.reasons else "."
    return cut(f"{name} is {one.state}{todo}{why}", SENTENCE_BYTES)


def cut(text: str, size: int) -> str:
    """At most `size` bytes."""
    encoded = text.encode()
    if len(encoded) <= size:
        return text
    return encoded[: size - 3].decode(errors="ignore") + "..."


def _gravest_first(health: NodeHealth) -> list[EntityHealth]:
    present = [one for one in health.entities if one.state is not EntityState.HEALTHY]
    return sorted(present, key=lambda one: (-one.effect.weight, -one.state.weight, one.entity))


def _silent(health: NodeHealth) -> Iterable[str]:
    return (
        cut(f"The {name} says nothing: {why}.", SENTENCE_BYTES)
        for name, why in health.sources
        if why
    )


def _message(sentences: Sequence[str]) -> str:
    """The first ones whole, as many as there is room for."""
    for count in range(len(sentences), 0, -1):
        left = len(sentences) - count
        text = " ".join((*sentences[:count], *([f"And {left} more."] if left else ())))
        if len(text.encode()) <= MESSAGE_BYTES:
            return text
    return cut(sentences[0], MESSAGE_BYTES)
