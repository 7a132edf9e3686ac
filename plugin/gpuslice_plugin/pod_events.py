"""Events on pods: what the owner of a pod sees with `kubectl describe pod`."""

import logging
import secrets
from datetime import UTC, datetime

from gpuslice_plugin.api import ApiServer
from gpuslice_plugin.errors import ApiError
from gpuslice_plugin.pods import Pod

log = logging.getLogger(__name__)

REPORTER = "gpuslice.io/agent"
LONGEST_MESSAGE = 1024  # the API server refuses longer ones


class PodEvents:
    def __init__(self, server: ApiServer, node_name: str) -> None:
        self._server = server
        self._node_name = node_name

    async def warn(self, pod: Pod, reason: str, message: str) -> None:
        """`reason` is one word in CamelCase. An event that cannot be written is only logged."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        event = {
            "metadata": {"name": f"{pod.name}.{secrets.token_hex(8)}", "namespace": pod.namespace},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Pod",
                "namespace": pod.namespace,
                "name": pod.name,
                "uid": pod.uid,
            },
            "type": "Warning",
            "reason": reason,
            "message": message[:LONGEST_MESSAGE],
            "source": {"component": REPORTER, "host": self._node_name},
            "reportingComponent": REPORTER,
            "reportingInstance": self._node_name,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        try:
            await self._server.create(f"/api/v1/namespaces/{pod.namespace}/events", event)
        except ApiError as error:
            log.warning("event not written pod=%s event=%s reason=%s", pod.key, reason, error)
