"""Puts the parts of the DRA driver together: what runs while the agent does."""

import asyncio
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from gpuslice_agent.enforcement import Wall
from gpuslice_agent.inventory import Inventory
from gpuslice_agent.model import GpuPath, Health, Policy, Reading, Snapshot
from gpuslice_agent.shares import Shares
from gpuslice_plugin.api import ApiServer, Informer
from gpuslice_plugin.cdi import Spec
from gpuslice_plugin.dra.card_record import CardRecord
from gpuslice_plugin.dra.cards import Card, numbered
from gpuslice_plugin.dra.front import Front
from gpuslice_plugin.dra.layout import Features, PublishedSlice, Rules, layout, names
from gpuslice_plugin.dra.names import DRIVER, SLICES, DeviceName
from gpuslice_plugin.dra.pcie import pcie_root
from gpuslice_plugin.dra.prepare import Claims
from gpuslice_plugin.dra.reporter import Reporter
from gpuslice_plugin.dra.slices import Slices
from gpuslice_plugin.dra.sweeper import keep_sweeping

log = logging.getLogger(__name__)

TIDY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Settings:
    """From the configuration."""

    node: str
    state_dir: Path
    slots: int
    overcommit_ratio: float
    policy: Policy
    mig: bool = False
    sysfs: Path = Path("/sys")


class Driver:
    def __init__(
        self,
        server: ApiServer,
        shares: Shares,
        wall: Wall,
        cdi: Spec,
        inventory: Inventory,
        front: Front,
        settings: Settings,
    ) -> None:
        node = settings.node
        self._settings = settings
        self._rules = Rules(node, settings.slots, settings.overcommit_ratio, settings.mig)
        self._server = server
        self._inventory = inventory
        self._front = front
        self._record = CardRecord(settings.state_dir)
        self._cards = self._record.read()
        self._facts: object = None
        self._claims = Claims(server, shares, wall, cdi, node, self._by_number, settings.policy)
        self._reporter = Reporter(server, self._claims, node, self._by_number)
        selector = f"spec.driver={DRIVER},spec.nodeName={node}"
        informer = Informer(server, SLICES, field_selector=selector)
        self._slices = Slices(server, informer, node, self._wanted)

    async def run(self) -> None:
        self._look(self._inventory.snapshot)
        async with AsyncExitStack() as stack:
            stack.callback(self._claims.close)
            stack.push_async_callback(self._front.close)
            await self._serve()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow())
                group.create_task(self._keep_tidy())
                group.create_task(self._slices.run())
                group.create_task(self._reporter.run())
                group.create_task(keep_sweeping(self._server, self._claims))

    async def _serve(self) -> None:
        self._front.service.begin(self._claims, self._reporter.report)
        self._front.health.begin(self._now, self._names)
        await self._front.open()

    async def _keep_tidy(self) -> None:
        """The kubelet goes on asking an instance that was killed before it could take over, as
        long as its sockets are there."""
        while True:
            self._front.remove_dead()
            await asyncio.sleep(TIDY_SECONDS)

    async def _follow(self) -> None:
        async for snapshot in self._inventory.changes(watching=False):
            self._look(snapshot)

    def _look(self, snapshot: Snapshot) -> None:
        before, facts = self._cards, self._facts
        gpus = [gpu for gpu in snapshot.gpus if gpu.path is GpuPath.DRA]
        held = {share.gpu_uuid for share in snapshot.shares}
        self._cards = {card.gpu.uuid: card for card in numbered(gpus, before, held)}
        self._record.write(self._cards.values())
        self._facts = (_steady(self._cards), snapshot.driver_version, snapshot.enforcement)
        if self._facts != facts:
            self._slices.look()
        if _healths(self._cards) != _healths(before):
            self._front.health.changed()
            self._reporter.report_all()

    def _by_number(self) -> Mapping[int, Card]:
        return {card.number: card for card in self._cards.values()}

    def _names(self, card: Card) -> Iterable[DeviceName]:
        return names(card, self._rules)

    def _now(self) -> tuple[float, Collection[Card]]:
        return self._inventory.snapshot.taken_at, self._cards.values()

    def _wanted(self, features: Features) -> Sequence[PublishedSlice]:
        settings = self._settings
        cards = sorted(self._cards.values(), key=lambda card: card.number)
        roots = {card.gpu.uuid: pcie_root(card.gpu.pci_bus_id, settings.sysfs) for card in cards}
        return layout(cards, self._inventory.snapshot, self._rules, features, roots)


def _steady(cards: Mapping[str, Card]) -> list[Card]:
    """Without what changes by the second."""
    return [
        replace(card, gpu=replace(card.gpu, reading=Reading(), strangers=()))
        for card in cards.values()
    ]


def _healths(cards: Mapping[str, Card]) -> dict[str, Health]:
    return {uuid: card.gpu.health for uuid, card in cards.items()}
