"""Which GPU has which number in device names, also after a reboot, a repair or a loss."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from gpuslice_agent.model import Gpu, Health, HealthState

ABSENT = Health(HealthState.UNHEALTHY, "it is not to be seen any more")


@dataclass(frozen=True, slots=True)
class Card:
    """A GPU under the number that device names have."""

    number: int
    gpu: Gpu
    absent: bool = False


def numbered(
    gpus: Sequence[Gpu], before: Mapping[str, Card], held: Collection[str]
) -> tuple[Card, ...]:
    """A GPU keeps its number. One that is gone stays while shares of it are held, marked absent:
    taken out of the slice, the scheduler would forget that it is in use. A new one gets its index
    where that number is free, else the lowest free one.
    """
    present = {gpu.uuid: gpu for gpu in gpus}
    cards = [
        replace(card, gpu=present[uuid], absent=False)
        if uuid in present
        else Card(card.number, replace(card.gpu, health=ABSENT), absent=True)
        for uuid, card in before.items()
        if uuid in present or uuid in held
    ]
    taken = {card.number for card in cards}
    for gpu in sorted(gpus, key=lambda gpu: gpu.index):
        if gpu.uuid in before:
            continue
        number = gpu.index
        if number in taken:
            number = next(free for free in range(len(taken) + 1) if free not in taken)
        taken.add(number)
        cards.append(Card(number, gpu))
    return tuple(sorted(cards, key=lambda card: card.number))
