"""Keeps the node's GPU memory in its status, where the scheduler counts it.

It is a resource without a plugin: a device for each MiB would be more than the kubelet reads.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from math import ceil

import msgspec

from gpuslice_agent.inventory import Inventory
from gpuslice_agent.model import (
    Gpu,
    GpuPath,
    HealthState,
    MemoryResource,
    Share,
    Snapshot,
    promise,
)
from gpuslice_plugin.api import ApiServer, Informer, PatchKind
from gpuslice_plugin.errors import ApiError
from gpuslice_plugin.pods import NodePods, Pod, at_once
from gpuslice_plugin.quantity import parse as quantity

log = logging.getLogger(__name__)

MIB = 1 << 20
SETTLE_SECONDS = 0.2  # pods come and go in bursts
LONGEST_DELAY_SECONDS = 30.0


class _NodeStatus(msgspec.Struct):
    capacity: dict[str, str] | None = None
    allocatable: dict[str, str] | None = None


def memory(
    resource: MemoryResource, name: str, snapshot: Snapshot, pods: Sequence[Pod], ratio: float
) -> int:
    """How much of the resource the node has to say it has.

    What is held without being asked for by this name (whole GPUs, shares that got their memory by
    their cores, `gpuslice run`) is left out, for the scheduler does not know of it. But never
    less than what pods were admitted with: the kubelet would end them at its next start.
    """
    total = sum(_size(resource, gpu, snapshot, ratio) for gpu in _ours(snapshot))
    asked = {pod.uid: at_once(pod, name) for pod in pods if not pod.terminal}
    held = _held(resource, snapshot)
    unasked = sum(max(0, size - asked.get(uid, 0)) for uid, size in held.items())
    return max(total - unasked, sum(asked.values()))


def _ours(snapshot: Snapshot) -> list[Gpu]:
    return [g for g in snapshot.gpus if g.path is GpuPath.PLUGIN and not g.partitioned]


def _size(resource: MemoryResource, gpu: Gpu, snapshot: Snapshot, ratio: float) -> int:
    if gpu.health.state is HealthState.UNHEALTHY:
        # What pods hold on it they hold; there is no more.
        return _units(resource, gpu, snapshot.promised(gpu.uuid).memory_bytes)
    if resource is MemoryResource.PERCENTAGE:
        return int(100 * ratio)
    return int(gpu.memory_bytes * ratio) // MIB


def _held(resource: MemoryResource, snapshot: Snapshot) -> dict[str, int]:
    """By the UID of the pod; "" for all that is in no pod."""
    held: dict[str, int] = {}
    for gpu in _ours(snapshot):
        of_pod: dict[str, list[Share]] = {}
        for share in snapshot.shares:
            if share.gpu_uuid == gpu.uuid:
                of_pod.setdefault(share.owner.pod_uid, []).append(share)
        for uid, shares in of_pod.items():
            size = _units(resource, gpu, promise(shares).memory_bytes)
            held[uid] = held.get(uid, 0) + size
    return held


def _units(resource: MemoryResource, gpu: Gpu, size: int) -> int:
    if resource is MemoryResource.PERCENTAGE:
        return ceil(100 * size / gpu.memory_bytes)
    return ceil(size / MIB)


class NodeResources:
    def __init__(
        self,
        server: ApiServer,
        node_name: str,
        pods: NodePods,
        inventory: Inventory,
        resource: MemoryResource,
        prefix: str,
        ratio: float,
    ) -> None:
        self._server = server
        self._path = f"/api/v1/nodes/{node_name}"
        self._node = Informer(server, "/api/v1/nodes", field_selector=f"metadata.name={node_name}")
        self._pods = pods
        self._inventory = inventory
        self._resource = resource
        self._prefix = prefix
        self._ratio = ratio
        self._changed = asyncio.Event()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._node.run())
            for changes in (
                self._node.changes(),
                self._pods.changes(),
                self._inventory.changes(watching=False),
            ):
                group.create_task(self._hear(changes))
            group.create_task(self._keep())

    async def _hear(self, changes: AsyncGenerator[object]) -> None:
        async for _ in changes:
            self._changed.set()

    async def _keep(self) -> None:
        delay = SETTLE_SECONDS
        while True:
            await self._changed.wait()
            await asyncio.sleep(delay)
            self._changed.clear()
            try:
                await self._write()
                delay = SETTLE_SECONDS
            except ApiError as error:
                log.warning("node status not written reason=%s", error)
                self._changed.set()
                delay = min(max(2 * delay, 1.0), LONGEST_DELAY_SECONDS)

    async def _write(self) -> None:
        # Before the pods are known, what they hold is not: too little would end them.
        if not self._pods.is_synced or not self._inventory.snapshot.taken_at:
            return
        wanted = self._wanted()
        for node in self._node.objects.values():
            status = msgspec.convert(node.get("status") or {}, _NodeStatus)
            places = {"capacity": status.capacity, "allocatable": status.allocatable}
            missing = {
                place: changed
                for place, values in places.items()
                if (changed := _difference(values or {}, wanted))
            }
            if missing:
                body = {"status": missing}
                await self._server.patch(f"{self._path}/status", body, PatchKind.STRATEGIC)
                log.info("node status written %s", missing)

    def _wanted(self) -> dict[str, int | None]:
        """None: not of this node. A name that pods still hold stays until they are gone."""
        snapshot, pods = self._inventory.snapshot, self._pods.all()
        wanted: dict[str, int | None] = {}
        for resource in (MemoryResource.MIB, MemoryResource.PERCENTAGE):
            name = f"{self._prefix}/{resource}"
            if resource is self._resource:
                wanted[name] = memory(resource, name, snapshot, pods, self._ratio)
            else:
                held = sum(at_once(pod, name) for pod in pods if not pod.terminal)
                wanted[name] = held or None
        return wanted


def _difference(
    values: Mapping[str, str], wanted: Mapping[str, int | None]
) -> dict[str, str | None]:
    """What a merge has to change, with None for what has to go."""
    now = {name: quantity(values[name]) if name in values else None for name in wanted}
    return {
        name: None if size is None else str(size)
        for name, size in wanted.items()
        if size != now[name]
    }
