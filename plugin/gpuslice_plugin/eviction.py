"""Deletes pods that cannot run here, so that their controllers make them again elsewhere.

Not by the eviction subresource: an admission policy sees only the Eviction there, and could not
bind us to our own node.
"""

import logging
from datetime import UTC, datetime

from gpuslice_plugin.api import ApiServer, PatchKind
from gpuslice_plugin.errors import ApiError
from gpuslice_plugin.pods import Pod

log = logging.getLogger(__name__)

LONGEST_MESSAGE = 1024
UNFIT = "UnfitForGpus"


class Eviction:
    def __init__(self, server: ApiServer) -> None:
        self._server = server

    async def evict(self, pod: Pod, reason: str, word: str = UNFIT) -> bool:
        """Whether it is deleted, or was gone. `word` is the reason in CamelCase."""
        path = f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}"
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": word,
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
