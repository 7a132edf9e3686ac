"""Keeps the lists that the kubelet is told up to date with the GPUs and their health."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gpuslice_agent.inventory import Inventory
from gpuslice_agent.model import Gpu, GpuPath, Snapshot
from gpuslice_agent.shares import Shares
from gpuslice_plugin.device_plugin import checkpoint as checkpoints
from gpuslice_plugin.device_plugin import ids
from gpuslice_plugin.device_plugin.checkpoint import Checkpoint
from gpuslice_plugin.device_plugin.preferred import preferred
from gpuslice_plugin.device_plugin.resources import Resource, devices, is_sick, sick_ids
from gpuslice_plugin.device_plugin.service import DeviceList
from gpuslice_plugin.errors import CheckpointError

log = logging.getLogger(__name__)


class Advertising:
    def __init__(
        self,
        inventory: Inventory,
        shares: Shares,
        directory: Path,
        lists: Sequence[tuple[Resource, DeviceList]],
    ) -> None:
        self._inventory = inventory
        self._shares = shares
        self._directory = directory
        self._lists = lists
        # A GPU that falls off the bus is still what some ids stand for.
        self._gpus: dict[str, Gpu] = {}
        self._left_out: dict[str, int] = {}

    async def run(self) -> None:
        async for _ in self._inventory.changes(watching=False):
            self.look()

    def look(self) -> None:
        snapshot = self._now()
        ours = {gpu.uuid: gpu for gpu in snapshot.gpus if gpu.path is GpuPath.PLUGIN}
        self._gpus |= ours
        for uuid, gpu in ours.items():
            if gpu.partitioned:  # its partitions are resources of their own
                del self._gpus[uuid]
        gpus = sorted(self._gpus.values(), key=lambda gpu: gpu.index)
        sick = any(is_sick(gpu, snapshot) for gpu in gpus)
        checkpoint = self._checkpoint() if sick else Checkpoint()
        for resource, known in self._lists:
            counted = ids.count(resource.kind, gpus, resource.per_gpu)
            self._say_left_out(resource, counted.left_out)
            unhealthy = sick_ids(resource, counted.ids, gpus, snapshot, checkpoint.entries)
            known.replace(devices(counted.ids, unhealthy))

    def preferred(
        self, resource: Resource, available: Sequence[str], must: Sequence[str], size: int
    ) -> Sequence[str]:
        return preferred(resource, available, must, size, self._now())

    def _now(self) -> Snapshot:
        return replace(self._inventory.snapshot, shares=self._shares.all())

    def _checkpoint(self) -> Checkpoint:
        try:
            return checkpoints.read(self._directory)
        except CheckpointError as error:
            log.warning("ids of sick GPUs are not known reason=%s", error)
            return Checkpoint()

    def _say_left_out(self, resource: Resource, count: int) -> None:
        if count and self._left_out.get(resource.name) != count:
            log.warning(
                "more devices than the kubelet reads: some left out resource=%s left_out=%d",
                resource.name,
                count,
            )
        self._left_out[resource.name] = count
