"""Gives a pod its GPUs when the first of its containers is about to start."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gpuslice_agent.enforcement import Wall
from gpuslice_agent.errors import AllocationError
from gpuslice_agent.inventory import Inventory
from gpuslice_agent.model import OwnerKind, Share, ShareState
from gpuslice_agent.shares import Shares
from gpuslice_plugin.cdi import Spec
from gpuslice_plugin.device_plugin import checkpoint as checkpoints
from gpuslice_plugin.device_plugin.checkpoint import Checkpoint, Entry
from gpuslice_plugin.device_plugin.planner import Rules, plan
from gpuslice_plugin.device_plugin.unfit import UnfitPods
from gpuslice_plugin.device_plugin.wants import cdi_names, of_pod
from gpuslice_plugin.errors import KubeletError, UnknownContainerError
from gpuslice_plugin.eviction import Eviction
from gpuslice_plugin.pod_resources import PodResources
from gpuslice_plugin.pods import NodePods, Pod

log = logging.getLogger(__name__)

# The kubelet waits 30 s for PreStartContainer.
APPEAR_SECONDS = 5.0
MOST_PLANS = 3


class Binding:
    """The kubelet tells ids only. Its checkpoint says whose they are, the API server what the pod
    wants; the first call of a pod gives all of it its places, the later ones find them taken."""

    def __init__(
        self,
        shares: Shares,
        wall: Wall,
        inventory: Inventory,
        pods: NodePods,
        pod_resources: PodResources,
        spec: Spec,
        eviction: Eviction,
        unfit: UnfitPods,
        directory: Path,
        prefix: str,
        rules: Rules,
    ) -> None:
        self._shares = shares
        self._wall = wall
        self._inventory = inventory
        self._pods = pods
        self._pod_resources = pod_resources
        self._spec = spec
        self._eviction = eviction
        self._unfit = unfit
        self._directory = directory
        self._prefix = prefix
        self._rules = rules
        self._one_at_a_time = asyncio.Lock()

    async def bind(self, resource: str, given: frozenset[str]) -> None:
        """Sees to it that the CDI devices of the pod that has these ids are there."""
        checkpoint = checkpoints.read(self._directory)
        pod_uid = await self._holder(checkpoint, resource, given)
        async with self._one_at_a_time:
            shares = of_uid(self._shares, pod_uid)
            entries = checkpoint.of_pod(pod_uid)
            if shares:
                shares = tuple(self._named(share, entries) for share in shares)
            else:
                shares = await self._place(pod_uid, entries)
            await self._wall.hold(pod_uid)
            self._spec.write(pod_uid, shares)

    async def _holder(self, checkpoint: Checkpoint, resource: str, given: frozenset[str]) -> str:
        """The UID of the pod with exactly this set of ids."""
        uids = checkpoint.holders(resource, given)
        if len(uids) > 1:
            uids = await self._only_living(uids)
        if not uids:
            raise UnknownContainerError(
                f"The kubelet's checkpoint names no pod that has these ids of {resource}; it will "
                "ask again."
            )
        return uids[0]

    async def _only_living(self, uids: tuple[str, ...]) -> tuple[str, ...]:
        """Two that live have one set: the kubelet forgot that it had given it away."""
        living = [pod for uid in uids if (pod := self._pods.get(uid)) and not pod.terminal]
        if len(living) < 2:
            return tuple(pod.uid for pod in living)
        first, *younger = sorted(living, key=lambda pod: (pod.created_at, pod.uid))
        for pod in younger:
            await self._eviction.evict(
                pod, f"The kubelet gave it devices that pod {first.key} already has."
            )
        raise UnknownContainerError(
            f"The kubelet gave the same ids to {' and '.join(pod.key for pod in living)}: the "
            f"younger is deleted, {first.key} goes on."
        )

    async def _place(self, pod_uid: str, entries: Sequence[Entry]) -> tuple[Share, ...]:
        pod = self._pods.get(pod_uid) or await self._pods.appears(pod_uid, APPEAR_SECONDS)
        if pod is None:
            raise UnknownContainerError(
                f"The API server has not told of the pod with the UID {pod_uid} yet."
            )
        await self._check(pod, entries)
        try:
            shares = await self._take(pod, entries)
        except AllocationError as error:
            self._unfit.add(pod, error)
            raise
        self._unfit.discard(pod.uid)
        log.info("pod bound pod=%s uid=%s shares=%d", pod.key, pod.uid, len(shares))
        return shares

    def _named(self, share: Share, entries: Sequence[Entry]) -> Share:
        """A kubelet that lost its checkpoint asks Allocate again: new names for the same share."""
        owner = share.owner
        names = cdi_names(entries, owner.container)
        if not names or set(names) == set(owner.cdi_devices):
            return share
        return self._shares.set_owner(share.id, replace(owner, cdi_devices=names))

    async def _take(self, pod: Pod, entries: Sequence[Entry]) -> tuple[Share, ...]:
        wants = of_pod(pod, entries, self._prefix)
        for attempt in range(MOST_PLANS):
            snapshot = replace(self._inventory.snapshot, shares=self._shares.all())
            places = plan(pod, wants, snapshot, self._rules)
            try:
                return await self._shares.take(places)
            except AllocationError:
                # A new GPU is measured first, and meanwhile others may take what was planned.
                if attempt + 1 == MOST_PLANS:
                    raise
        raise AssertionError("not reached")

    async def _check(self, pod: Pod, entries: Sequence[Entry]) -> None:
        """What the kubelet says of the pod now must be what its checkpoint says."""
        try:
            held = await self._pod_resources.get(pod.namespace, pod.name)
        except KubeletError as error:
            # Kubelets before 1.34 cannot be asked; the checkpoint stands alone there.
            log.debug("pod not checked pod=%s reason=%s", pod.key, error)
            return
        written = {(entry.container, entry.resource): entry.ids for entry in entries}
        for one in held or ():
            ours = one.resource.startswith(f"{self._prefix}/")
            if ours and written.get((one.container, one.resource), one.ids) != one.ids:
                raise UnknownContainerError(
                    f"The kubelet's checkpoint and its answer differ on what container "
                    f"{one.container} of {pod.key} holds; it will ask again."
                )


def of_uid(shares: Shares, pod_uid: str) -> tuple[Share, ...]:
    """The shares that a pod holds, not those that it has given up."""
    return tuple(
        share
        for share in shares.all()
        if share.owner.kind is OwnerKind.CONTAINER
        and share.owner.pod_uid == pod_uid
        and share.state is not ShareState.ENDING
    )
