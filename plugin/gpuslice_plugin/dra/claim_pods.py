"""Which pods use which claim: the kubelet prepares a claim for the first of them alone."""

import logging
from collections.abc import Iterable
from dataclasses import replace

from gpuslice_agent.enforcement import Wall
from gpuslice_agent.errors import GpusliceError
from gpuslice_agent.model import OwnerKind, Share
from gpuslice_agent.shares import Shares
from gpuslice_plugin.pods import NodePods, Pod

log = logging.getLogger(__name__)


class ClaimPods:
    """Keeps the pods of a claim in the owners of its shares, and the kernel's wall behind them."""

    def __init__(self, shares: Shares, wall: Wall, pods: NodePods) -> None:
        self._shares = shares
        self._wall = wall
        self._pods = pods
        self._seen: frozenset[str] = frozenset()

    async def run(self) -> None:
        async for pods in self._pods.changes():
            await self.look(pods)

    async def look(self, pods: Iterable[Pod]) -> None:
        alive = {pod.uid: pod for pod in pods if not pod.terminal}
        gone = self._seen - alive.keys()
        for share in self._shares.all():
            if share.owner.kind is OwnerKind.CLAIM:
                await self._follow(share, alive.values(), gone)
        self._seen = frozenset(alive)

    async def _follow(self, share: Share, alive: Iterable[Pod], gone: frozenset[str]) -> None:
        owner = share.owner
        known = set(owner.pod_uids) - gone
        new = {
            pod.uid
            for pod in alive
            if pod.namespace == owner.namespace and owner.claim in pod.claims
        } - known
        uids = tuple(sorted(known | new))
        if set(uids) == set(owner.pod_uids):
            return
        try:
            self._shares.set_owner(share.id, replace(owner, pod_uids=uids))
        except GpusliceError as error:
            log.warning("pods of a claim not kept claim=%s reason=%s", owner.claim, error)
            return
        for uid in new:
            await self._wall.hold(uid)
