"""Writes the Events of the node's health, at a pace that no storm of faults changes."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from gpuslice_agent.entities import NodeHealth
from gpuslice_agent.inventory import Inventory
from gpuslice_plugin.errors import ApiError
from gpuslice_plugin.events import Event, Events
from gpuslice_plugin.health import news
from gpuslice_plugin.pods import NodePods

log = logging.getLogger(__name__)

RECOUNT_SECONDS = 30.0
# What is older at the start was told before it, or is no news any more.
NEWS_SECONDS = 600.0
PAUSE_SECONDS = 10.0  # after a request that failed
# For the node, and for all pods together; what finds no room waits for it.
MOST_AT_ONCE = 25
SECONDS_FOR_EACH = 6.0


class Budget:
    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._left = float(MOST_AT_ONCE)
        self._at = clock()

    def take(self) -> bool:
        now = self._clock()
        self._left = min(MOST_AT_ONCE, self._left + (now - self._at) / SECONDS_FOR_EACH)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


@dataclass(frozen=True, slots=True)
class Told:
    count: int
    at: float


class Reporter:
    def __init__(
        self,
        events: Events,
        node_name: str,
        inventory: Inventory,
        pods: NodePods,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._events = events
        self._node_name = node_name
        self._inventory = inventory
        self._pods = pods
        self._clock = clock
        self._told: dict[str, Told] = {}
        self._since = time.time() - NEWS_SECONDS
        self._not_before = 0.0
        self._of_node = Budget(clock)
        self._of_pods = Budget(clock)

    async def run(self) -> None:
        # The agent looks every few seconds: what had to wait is told then.
        async for snapshot in self._inventory.changes(watching=False):
            await self.look(snapshot.health)

    async def look(self, health: NodeHealth) -> None:
        of_node = list(news.of_node(health, self._node_name, self._since))
        of_pods = list(news.of_pods(health.incidents, self._pods.get)) if health.incidents else []
        names = {event.name for event in (*of_node, *of_pods)}
        self._told = {name: told for name, told in self._told.items() if name in names}
        for events, budget in ((of_node, self._of_node), (of_pods, self._of_pods)):
            for event in events:
                if self._is_due(event) and budget.take():
                    await self._tell(event)

    def _is_due(self, event: Event) -> bool:
        now, told = self._clock(), self._told.get(event.name)
        if now < self._not_before:
            return False
        return told is None or (event.count > told.count and now - told.at >= RECOUNT_SECONDS)

    async def _tell(self, event: Event) -> None:
        try:
            await self._write(event)
        except ApiError as error:
            log.warning("event not written event=%s reason=%s", event.reason, error)
            if error.is_transient:
                self._not_before = self._clock() + max(PAUSE_SECONDS, error.retry_after)
                return
        self._told[event.name] = Told(event.count, self._clock())

    async def _write(self, event: Event) -> None:
        if event.name in self._told:
            try:
                return await self._events.recount(event)
            except ApiError as error:
                if not error.is_absent:  # the API server keeps them for an hour
                    raise
        try:
            await self._events.create(event)
        except ApiError as error:
            if not error.is_conflict:  # told before the agent started anew
                raise
