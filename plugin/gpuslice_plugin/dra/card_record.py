"""The numbers of the GPUs on disk: a device name must mean the same GPU after a restart."""

import logging
import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from gpuslice_agent.model import Gpu, Reading
from gpuslice_plugin.dra.cards import Card

log = logging.getLogger(__name__)


class CardRecord:
    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "cards.json"
        self._written: bytes = b""

    def read(self) -> dict[str, Card]:
        """By UUID. Lost or damaged, GPUs get their index as number again."""
        try:
            cards = msgspec.json.decode(self._path.read_bytes(), type=tuple[Card, ...])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError) as error:
            log.error("record of GPU numbers not read path=%s reason=%s", self._path, error)
            return {}
        return {card.gpu.uuid: card for card in cards}

    def write(self, cards: Iterable[Card]) -> None:
        """Before a name is published; without what changes by the second."""
        text = msgspec.json.encode(tuple(_lasting(card) for card in cards))
        if text == self._written:
            return
        beside = self._path.with_suffix(".new")
        with beside.open("wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._path)
        self._written = text


def _lasting(card: Card) -> Card:
    gpu = card.gpu
    lasting = Gpu(
        gpu.index,
        gpu.uuid,
        gpu.name,
        gpu.pci_bus_id,
        gpu.memory_bytes,
        gpu.compute_capability,
        gpu.numa_node,
        reading=Reading(),
        mig_profiles=gpu.mig_profiles,
    )
    return Card(card.number, lasting, card.absent)
