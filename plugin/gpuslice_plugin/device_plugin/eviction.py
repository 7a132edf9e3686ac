"""Deletes pods that cannot run here, so that their controllers make them again elsewhere.

Not by the eviction subresource: an admission policy sees only the Eviction there, and could not
bind us to our own node.
"""

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime

from gpuslice_plugin.api import ApiServer, PatchKind
from gpuslice_plugin.device_plugin.unfit import UnfitPods, Waiting
from gpuslice_plugin.errors import ApiError
from gpuslice_plugin.pods import NodePods, Pod

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
LONGEST_MESSAGE = 1024


class Eviction:
    def __init__(self, server: ApiServer) -> None:
        self._server = server

    async def evict(self, pod: Pod, reason: str) -> bool:
        """Whether it is deleted, or was gone."""
        path = f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}"
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "UnfitForGpus",
            "message": reason[:LONGEST_MESSAGE],
            "lastTransitionTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        # The UID: a pod that came after this one under its name is not meant.
        body = {"metadata": {"uid": pod.uid}, "status": {"conditions": [condition]}}
        try:
            await self._server.patch(f"{path}/status", body, PatchKind.STRATEGIC)
            await self._server.delete(path, {"uid": pod.uid})
        except ApiError as error:
            if error.is_absent or error.is_conflict:
                return True
            log.warning("pod not evicted pod=%s reason=%s", pod.key, error)
            return False
        log.warning("pod evicted pod=%s uid=%s reason=%s", pod.key, pod.uid, reason)
        return True


class UnfitEviction:
    """Pods that found no room for a while; with `unfit: wait` they are only counted."""

    def __init__(
        self, eviction: Eviction, unfit: UnfitPods, pods: NodePods, after_seconds: float | None
    ) -> None:
        self._eviction = eviction
        self._unfit = unfit
        self._pods = pods
        self._after_seconds = after_seconds

    async def run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self._unfit.is_empty:
                continue
            self._unfit.keep(pod.uid for pod in self._pods.all() if not pod.terminal)
            if self._after_seconds is not None:
                await self._evict(self._unfit.longer_than(self._after_seconds))

    async def _evict(self, unfit: Sequence[Waiting]) -> None:
        for waiting in unfit:
            if await self._eviction.evict(waiting.pod, waiting.reason):
                self._unfit.discard(waiting.pod.uid)
                self._unfit.evicted += 1
