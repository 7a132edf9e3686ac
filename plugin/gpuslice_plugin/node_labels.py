"""Keeps the labels of the node: written when something has changed, and at no other time."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gpuslice_agent.entities import EntityState, heaviest
from gpuslice_agent.errors import PublishError
from gpuslice_agent.inventory import Inventory
from gpuslice_agent.model import GpuPath, NodeLabels, Snapshot
from gpuslice_agent.topology import labels, nfd
from gpuslice_plugin.api import ApiServer
from gpuslice_plugin.errors import ApiError

log = logging.getLogger(__name__)

PAUSES = (1.0, 5.0, 15.0, 60.0)  # seconds, by failures in a row
MACHINE = "class/dmi/id/product_name"


@dataclass(frozen=True, slots=True)
class Settings:
    node_name: str
    by: NodeLabels  # API or NFD
    nfd_dir: Path
    sysfs_dir: Path
    slots_per_gpu: int


class Labels:
    def __init__(self, server: ApiServer, inventory: Inventory, settings: Settings) -> None:
        self._server = server
        self._inventory = inventory
        self._settings = settings
        self._written: Mapping[str, str] | None = None  # None: what the node has is not known

    async def run(self) -> None:
        async for _ in self._inventory.changes(watching=False):
            failures = 0
            while not await self._agreed():
                await asyncio.sleep(PAUSES[min(failures, len(PAUSES) - 1)])
                failures += 1

    async def _agreed(self) -> bool:
        """True where the node says what there is now, or nothing is known of it."""
        wanted = wanted_labels(self._inventory.snapshot, self._settings)
        if not wanted or wanted == self._written:
            return True  # without a driver the node keeps what it said: its GPUs are there still
        try:
            await self._write(wanted)
        except (ApiError, PublishError) as error:
            log.warning("labels not written node=%s reason=%s", self._settings.node_name, error)
            return False
        self._written = wanted
        return True

    async def _write(self, wanted: Mapping[str, str]) -> None:
        if self._settings.by is NodeLabels.NFD:
            nfd.write(self._settings.nfd_dir, wanted)
            return
        path = f"/api/v1/nodes/{self._settings.node_name}"
        node = await self._server.get(path)
        changes = difference(node["metadata"].get("labels") or {}, wanted)
        if changes:
            await self._server.patch(path, {"metadata": {"labels": changes}})
            log.info("labels written node=%s changes=%d", self._settings.node_name, len(changes))


def difference(present: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str | None]:
    """As a merge patch has it: None takes a label away."""
    changed: dict[str, str | None] = {
        name: value for name, value in wanted.items() if present.get(name) != value
    }
    return changed | dict.fromkeys(labels.stale(present, wanted))


def wanted_labels(snapshot: Snapshot, settings: Settings) -> dict[str, str]:
    served = any(gpu.path is GpuPath.PLUGIN for gpu in snapshot.gpus)
    node = labels.Node(
        driver_version=snapshot.driver_version,
        cuda_version=snapshot.cuda_version,
        machine=_machine(settings.sysfs_dir),
        shares_per_gpu=settings.slots_per_gpu if served else 1,
        enforcement=snapshot.enforcement,
        simulated=snapshot.simulated,
        health=heaviest((one.state for one in snapshot.health.entities), EntityState.HEALTHY),
    )
    return labels.node_labels(snapshot.topology, node)


def _machine(sysfs: Path) -> str:
    try:
        return (sysfs / MACHINE).read_text().strip()
    except OSError:
        return ""  # a virtual machine without DMI
