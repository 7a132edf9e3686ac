"""Events on pods: what the owner of a pod sees with `kubectl describe pod`."""

import logging
import secrets

from gpuslice_plugin.api import ApiServer
from gpuslice_plugin.errors import ApiError
from gpuslice_plugin.events import Event, Events, Subject
from gpuslice_plugin.pods import Pod

log = logging.getLogger(__name__)


def subject(pod: Pod) -> Subject:
    return Subject("Pod", pod.name, pod.uid, pod.namespace)


class PodEvents:
    def __init__(self, server: ApiServer, node_name: str) -> None:
        self._events = Events(server, node_name)

    async def warn(self, pod: Pod, reason: str, message: str) -> None:
        """`reason` is one word in CamelCase. An event that cannot be written is only logged."""
        name = f"{pod.name}.{secrets.token_hex(8)}"
        try:
            await self._events.create(Event(name, subject(pod), reason, message))
        except ApiError as error:
            log.warning("event not written pod=%s event=%s reason=%s", pod.key, reason, error)
