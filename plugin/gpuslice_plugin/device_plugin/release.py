"""Ends the shares of pods that are over: the device plugin's API knows no release."""

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

from gpuslice_agent.model import OwnerKind, Share, ShareState
from gpuslice_agent.shares import Shares
from gpuslice_plugin.cdi import Spec
from gpuslice_plugin.device_plugin import checkpoint as checkpoints
from gpuslice_plugin.errors import KubeletError, OldKubeletError
from gpuslice_plugin.pod_resources import PodResources
from gpuslice_plugin.pods import NodePods

log = logging.getLogger(__name__)

# For pods that are gone while the kubelet still ends their containers; nothing tells us when.
AGAIN_SECONDS = 2.0


class Release:
    def __init__(
        self,
        shares: Shares,
        pods: NodePods,
        pod_resources: PodResources,
        spec: Spec,
        directory: Path,
    ) -> None:
        self._shares = shares
        self._pods = pods
        self._pod_resources = pod_resources
        self._spec = spec
        self._directory = directory

    async def run(self) -> None:
        changes = self._pods.changes()
        change = asyncio.ensure_future(anext(changes))
        await asyncio.wait([change])  # before the pods are known, none is gone
        try:
            while True:
                if change.done():
                    change.result()
                    change = asyncio.ensure_future(anext(changes))
                await self.look()
                await asyncio.wait([change], timeout=AGAIN_SECONDS)
        finally:
            change.cancel()

    async def look(self) -> None:
        for pod_uid, shares in self._held().items():
            if await self._is_over(pod_uid, shares):
                self._spec.remove(pod_uid)
                self._shares.release(share.id for share in shares)
                log.info("pod released uid=%s pod=%s", pod_uid, shares[0].owner.name)

    def _held(self) -> dict[str, list[Share]]:
        held: dict[str, list[Share]] = {}
        for share in self._shares.all():
            owner = share.owner
            if owner.kind is OwnerKind.CONTAINER and share.state is not ShareState.ENDING:
                held.setdefault(owner.pod_uid, []).append(share)
        return held

    async def _is_over(self, pod_uid: str, shares: Sequence[Share]) -> bool:
        pod = self._pods.get(pod_uid)
        if pod is not None:
            return pod.terminal
        owner = shares[0].owner
        try:
            held = await self._pod_resources.get(owner.namespace, owner.pod)
            ours = checkpoints.read(self._directory).of_pod(pod_uid)
        except OldKubeletError:
            return True
        except KubeletError as error:
            log.debug("pod not released yet uid=%s reason=%s", pod_uid, error)
            return False
        # Another pod may have come under the same name.
        known = {(entry.container, entry.resource, entry.ids) for entry in ours}
        return not any((one.container, one.resource, one.ids) in known for one in held or ())
