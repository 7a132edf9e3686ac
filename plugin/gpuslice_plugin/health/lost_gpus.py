"""Ends the pods on a lost GPU, where that is wanted, so that they start again elsewhere.

Those of the device plugin only: Kubernetes itself ends those with claims, by the devices' taints.
"""

import time
from collections.abc import Callable, Mapping

from gpuslice_agent.entities import Effect, EntityKind
from gpuslice_agent.inventory import Inventory
from gpuslice_agent.model import OwnerKind, Snapshot
from gpuslice_plugin.eviction import Eviction
from gpuslice_plugin.pod_events import PodEvents
from gpuslice_plugin.pods import NodePods

REASON = "GpuLost"
# Nobody is ended for what is over in a moment.
CERTAIN_SECONDS = 5.0
PAUSE_SECONDS = 10.0  # after an eviction that failed
STUCK_SECONDS = 60.0  # past its grace
STUCK = (
    "It should have ended a minute ago: a program of it is stuck in the driver, which no signal "
    "ends. Restart the node; or delete the pod by force, if nothing depends on its having ended."
)


def lost(snapshot: Snapshot) -> dict[str, str]:
    """The UIDs of GPUs on which nothing may go on, and why."""
    told = {
        one.uuid: " ".join(one.reasons)
        for one in snapshot.health.entities
        if one.entity.kind is EntityKind.GPU and one.uuid and one.effect is Effect.NO_EXECUTE
    }
    seen = {
        gpu.uuid: gpu.health.reason
        for gpu in snapshot.gpus
        if gpu.health.effect is Effect.NO_EXECUTE
    }
    return told | seen


def victims(snapshot: Snapshot, gpus: Mapping[str, str]) -> dict[str, str]:
    """The UIDs of the pods that have a share of one of these GPUs, and why they have to go."""
    return {
        share.owner.pod_uid: f"GPU {share.gpu_uuid} is lost: {gpus[share.gpu_uuid]}"
        for share in snapshot.shares
        if share.owner.kind is OwnerKind.CONTAINER and share.gpu_uuid in gpus
    }


class LostGpus:
    def __init__(
        self,
        eviction: Eviction,
        events: PodEvents,
        inventory: Inventory,
        pods: NodePods,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._eviction = eviction
        self._events = events
        self._inventory = inventory
        self._pods = pods
        self._clock = clock
        self._since: dict[str, float] = {}  # when each GPU was first seen to be lost
        self._evicted: set[str] = set()
        self._stuck: set[str] = set()
        self._not_before = 0.0

    async def run(self) -> None:
        async for snapshot in self._inventory.changes(watching=False):
            await self.look(snapshot)

    async def look(self, snapshot: Snapshot) -> None:
        now, gpus = self._clock(), lost(snapshot)
        self._since = {uuid: self._since.get(uuid, now) for uuid in gpus}
        certain = {
            uuid: why for uuid, why in gpus.items() if now - self._since[uuid] >= CERTAIN_SECONDS
        }
        pods = victims(snapshot, certain)
        self._evicted &= pods.keys()
        self._stuck &= self._evicted
        for uid in pods.keys() - self._evicted:
            await self._evict(uid, pods[uid])
        for uid in self._evicted - self._stuck:
            await self._look_at_deleted(uid)

    async def _evict(self, uid: str, why: str) -> None:
        pod = self._pods.get(uid)
        if pod is None or pod.terminal or self._clock() < self._not_before:
            return
        if await self._eviction.evict(pod, why, REASON):
            self._evicted.add(uid)
        else:
            self._not_before = self._clock() + PAUSE_SECONDS

    async def _look_at_deleted(self, uid: str) -> None:
        pod = self._pods.get(uid)
        if pod and pod.ends_at is not None and time.time() > pod.ends_at + STUCK_SECONDS:
            self._stuck.add(uid)
            await self._events.warn(pod, "GpuPodStuck", STUCK)
