"""A pod as the parts that give it GPUs see it: a value read from the API server's object."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

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
    containers: tuple[Container, ...] = ()  # init containers first, in the order they run

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
        containers=(*first, *main),
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


class _Spec(msgspec.Struct, rename="camel"):
    containers: list[_Container]
    init_containers: list[_Container] | None = None


class _Status(msgspec.Struct):
    phase: str = ""


class _Pod(msgspec.Struct):
    """What we need of the API's object; it may have more."""

    metadata: _Metadata
    spec: _Spec
    status: _Status = msgspec.field(default_factory=_Status)


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
