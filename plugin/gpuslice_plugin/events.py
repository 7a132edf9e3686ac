"""Events of Kubernetes: what people see with `kubectl describe` and `kubectl get events`."""

from dataclasses import dataclass
from datetime import UTC, datetime

from gpuslice_plugin.api import ApiServer

REPORTER = "gpuslice.io/agent"
LONGEST_MESSAGE = 1024  # the API server refuses longer ones
CLUSTER_NAMESPACE = "default"  # where the API server wants Events of what is in no namespace


@dataclass(frozen=True, slots=True)
class Subject:
    """What an Event is about."""

    kind: str
    name: str
    uid: str
    namespace: str = ""  # of a node: none

    @property
    def path(self) -> str:
        """Of its Events."""
        return f"/api/v1/namespaces/{self.namespace or CLUSTER_NAMESPACE}/events"


def node(name: str) -> Subject:
    """`kubectl describe node` looks for the name in place of the UID, as the kubelet writes it."""
    return Subject("Node", name, name)


@dataclass(frozen=True, slots=True)
class Event:
    """The same name is the same Event: told again it has a greater count."""

    name: str
    subject: Subject
    reason: str  # one word in CamelCase
    message: str
    count: int = 1
    warning: bool = True


class Events:
    """Raises ApiError."""

    def __init__(self, server: ApiServer, node_name: str) -> None:
        self._server = server
        self._node_name = node_name

    async def create(self, event: Event) -> None:
        subject, now = event.subject, _now()
        body = {
            "metadata": {
                "name": event.name,
                "namespace": subject.namespace or CLUSTER_NAMESPACE,
            },
            "involvedObject": {
                "apiVersion": "v1",
                "kind": subject.kind,
                "namespace": subject.namespace,
                "name": subject.name,
                "uid": subject.uid,
            },
            "type": "Warning" if event.warning else "Normal",
            "reason": event.reason,
            "message": event.message[:LONGEST_MESSAGE],
            "source": {"component": REPORTER, "host": self._node_name},
            "reportingComponent": REPORTER,
            "reportingInstance": self._node_name,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": event.count,
        }
        await self._server.create(subject.path, body)

    async def recount(self, event: Event) -> None:
        changed = {
            "count": event.count,
            "message": event.message[:LONGEST_MESSAGE],
            "lastTimestamp": _now(),
        }
        await self._server.patch(f"{event.subject.path}/{event.name}", changed)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
