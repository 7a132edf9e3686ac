"""A pod as the parts that give it GPUs see it: a value read from the API server's object."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from gpuslice_plugin.api import ApiServer, Informer
from gpuslice_plugin.quantity import parse as quantity

# The kubelet knows a static pod by this hash, the API server its mirror by a UID of its own.
MIRROR = "kubernetes.io/config.mirror"
TERMINAL = ("Succeeded", "Failed")


class Role(StrEnum):
    INIT = "init"  # runs to its end before the next begins
    SIDECAR = "sidecar"  # an init container that goes on until the pod ends
    MAIN = "main"


@dataclass(frozen=True, slots=True)
class Container:
    name: str
    role: Role
    limits: tuple[tuple[str, int], ...] = ()  # extended resources: they are whole numbers
    environment: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Pod:
    uid: str  # as the kubelet knows it
    namespace: str
    name: str
    created_at: str  # RFC 3339, so that it sorts
    terminal: bool = False
    annotations: tuple[tuple[str, str], ...] = ()
    claims: tuple[str, ...] = ()  # names of the ResourceClaims it uses
    containers: tuple[Container, ...] = ()  # init containers first, in the order they run
    ends_at: float | None = None  # once it is deleted: when its grace is over, since the epoch

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


def read(document: Mapping[str, Any]) -> Pod:
    pod = msgspec.convert(document, _Pod)
    annotations = pod.metadata.annotations or {}
    first = [_container(one, _init_role(one)) for one in pod.spec.init_containers or ()]
    main = [_container(one, Role.MAIN) for one in pod.spec.containers]
    return Pod(
        uid=annotations.get(MIRROR) or pod.metadata.uid,
        namespace=pod.metadata.namespace,
        name=pod.metadata.name,
        created_at=pod.metadata.creation_timestamp,
        terminal=pod.status.phase in TERMINAL,
        annotations=tuple(sorted(annotations.items())),
        claims=_claims(pod),
        containers=(*first, *main),
        ends_at=_time(pod.metadata.deletion_timestamp),
    )


def moments(pod: Pod) -> dict[str, tuple[int, ...]]:
    """When each container runs: a moment for each init container, and the last for the main ones.

    Init containers run one after another, so what they hold is never summed. A sidecar is there
    from its turn on.
    """
    last = sum(container.role is Role.INIT for container in pod.containers)
    running: dict[str, tuple[int, ...]] = {}
    now = 0
    for container in pod.containers:
        if container.role is Role.INIT:
            running[container.name] = (now,)
            now += 1
        else:
            running[container.name] = tuple(range(now, last + 1))
    return running


def at_once(pod: Pod, resource: str) -> int:
    """The most of a resource that a pod asks for at any moment, as the scheduler counts it."""
    asked: dict[int, int] = {}
    for container in pod.containers:
        amount = dict(container.limits).get(resource, 0)
        for moment in moments(pod)[container.name]:
            asked[moment] = asked.get(moment, 0) + amount
    return max(asked.values(), default=0)


class _Env(msgspec.Struct):
    name: str
    value: str | None = None


class _Resources(msgspec.Struct):
    limits: dict[str, str | int] | None = None


class _Container(msgspec.Struct, rename="camel"):
    name: str
    resources: _Resources | None = None
    env: list[_Env] | None = None
    restart_policy: str | None = None


class _Metadata(msgspec.Struct, rename="camel"):
    namespace: str
    name: str
    uid: str
    creation_timestamp: str = ""
    annotations: dict[str, str] | None = None
    deletion_timestamp: str | None = None


class _ResourceClaim(msgspec.Struct, rename="camel"):
    resource_claim_name: str | None = None  # in the spec; in the status, of one from a template


class _Spec(msgspec.Struct, rename="camel"):
    containers: list[_Container]
    init_containers: list[_Container] | None = None
    resource_claims: list[_ResourceClaim] | None = None


class _Status(msgspec.Struct, rename="camel"):
    phase: str = ""
    resource_claim_statuses: list[_ResourceClaim] | None = None


class _Pod(msgspec.Struct):
    """What we need of the API's object; it may have more."""

    metadata: _Metadata
    spec: _Spec
    status: _Status = msgspec.field(default_factory=_Status)


def _claims(pod: _Pod) -> tuple[str, ...]:
    named = (*(pod.spec.resource_claims or ()), *(pod.status.resource_claim_statuses or ()))
    return tuple({one.resource_claim_name: None for one in named if one.resource_claim_name})


def _time(text: str | None) -> float | None:
    return datetime.fromisoformat(text).timestamp() if text else None


def _init_role(container: _Container) -> Role:
    return Role.SIDECAR if container.restart_policy == "Always" else Role.INIT


def _container(container: _Container, role: Role) -> Container:
    limits = (container.resources and container.resources.limits) or {}
    return Container(
        name=container.name,
        role=role,
        # Names with a slash are extended resources; memory and CPU are none of our business.
        limits=tuple((name, quantity(value)) for name, value in limits.items() if "/" in name),
        environment=tuple(
            (one.name, one.value) for one in container.env or () if one.value is not None
        ),
    )


class NodePods:
    """The pods of this node as the API server last told; those that ended stay until deleted."""

    def __init__(self, informer: Informer) -> None:
        self._informer = informer
        self._read: dict[str, tuple[str, Pod]] = {}

    @classmethod
    def of_node(cls, server: ApiServer, node_name: str) -> "NodePods":
        selector = f"spec.nodeName={node_name}"
        return cls(Informer(server, "/api/v1/pods", field_selector=selector))

    @property
    def is_synced(self) -> bool:
        return self._informer.is_synced

    def all(self) -> tuple[Pod, ...]:
        objects = self._informer.objects
        self._read = {uid: one for uid, one in self._read.items() if uid in objects}
        return tuple(self._pod(uid, document) for uid, document in objects.items())

    def get(self, uid: str) -> Pod | None:
        """By the UID that the kubelet uses."""
        return next((pod for pod in self.all() if pod.uid == uid), None)

    async def changes(self) -> AsyncGenerator[tuple[Pod, ...]]:
        async for _ in self._informer.changes():
            yield self.all()

    async def appears(self, uid: str, seconds: float) -> Pod | None:
        """The kubelet may hear of a pod before we do."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds), aclosing(self.changes()) as changes:
                async for _ in changes:
                    if (pod := self.get(uid)) is not None:
                        return pod
        return None

    async def run(self) -> None:
        await self._informer.run()

    def _pod(self, uid: str, document: Mapping[str, Any]) -> Pod:
        version = document["metadata"]["resourceVersion"]
        known = self._read.get(uid)
        if known is None or known[0] != version:
            known = (version, read(document))
            self._read[uid] = known
        return known[1]
