"""Keeps the condition of the node: written when it is another, and at no other time."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from gpuslice_agent.inventory import Inventory
from gpuslice_plugin.api import ApiServer, Informer, PatchKind
from gpuslice_plugin.errors import ApiError
from gpuslice_plugin.health.condition import TYPE, Condition, condition

log = logging.getLogger(__name__)

SETTLE_SECONDS = 0.2  # a fault often takes several GPUs
# The same fault again and again changes its count, in the message: that has time.
LEAST_SECONDS_BETWEEN_MESSAGES = 10.0
LONGEST_DELAY_SECONDS = 30.0


class _Present(msgspec.Struct, rename="camel"):
    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: str | None = None


class _Status(msgspec.Struct):
    conditions: list[_Present] | None = None


class NodeCondition:
    def __init__(self, server: ApiServer, node_name: str, inventory: Inventory) -> None:
        self._server = server
        self._path = f"/api/v1/nodes/{node_name}"
        self._node = Informer(server, "/api/v1/nodes", field_selector=f"metadata.name={node_name}")
        self._inventory = inventory
        self._changed = asyncio.Event()
        self._written_at = float("-inf")  # of the monotonic clock

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._node.run())
            for changes in (self._node.changes(), self._inventory.changes(watching=False)):
                group.create_task(self._hear(changes))
            group.create_task(self._keep())

    async def _hear(self, changes: AsyncGenerator[object]) -> None:
        async for _ in changes:
            self._changed.set()

    async def _keep(self) -> None:
        delay = SETTLE_SECONDS
        again: float | None = None
        while True:
            await _set_within(self._changed, again)
            await asyncio.sleep(delay)
            self._changed.clear()
            try:
                again = await self._look()
                delay = SETTLE_SECONDS
            except ApiError as error:
                log.warning("condition of the node not written reason=%s", error)
                self._changed.set()
                delay = min(max(2 * delay, 1.0), LONGEST_DELAY_SECONDS)

    async def _look(self) -> float | None:
        """Seconds until the next look is due also when nothing changes."""
        wanted = condition(self._inventory.snapshot)
        if wanted is None:
            return None
        for node in tuple(self._node.objects.values()):
            present = _of_node(node)
            if present is not None and _says(present, wanted):
                if present.message == wanted.message:
                    continue
                due = self._written_at + LEAST_SECONDS_BETWEEN_MESSAGES - time.monotonic()
                if due > 0:
                    return due
            await self._write(wanted, present)
        return None

    async def _write(self, wanted: Condition, present: _Present | None) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        same = present is not None and present.status == wanted.status
        one = {
            "type": TYPE,
            "status": wanted.status,
            "reason": wanted.reason,
            "message": wanted.message,
            "lastHeartbeatTime": now,
            "lastTransitionTime": (present.last_transition_time if present and same else now),
        }
        body = {"status": {"conditions": [one]}}
        answer = await self._server.patch(f"{self._path}/status", body, PatchKind.STRATEGIC)
        self._written_at = time.monotonic()
        self._node.remember(answer)
        log.info("condition of the node written status=%s reason=%s", wanted.status, wanted.reason)


def _says(present: _Present, wanted: Condition) -> bool:
    return (present.status, present.reason) == (wanted.status, wanted.reason)


def _of_node(node: Mapping[str, Any]) -> _Present | None:
    status = msgspec.convert(node.get("status") or {}, _Status)
    return next((one for one in status.conditions or () if one.type == TYPE), None)


async def _set_within(event: asyncio.Event, seconds: float | None) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
