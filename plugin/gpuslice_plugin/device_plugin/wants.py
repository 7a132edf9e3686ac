"""Puts together what one container is to get: its ask, its wishes, when it runs and near what."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gpuslice_agent.allocation import Defaults, limits_on
from gpuslice_agent.errors import RequestError
from gpuslice_agent.model import Gpu, Limits, ShareRequest
from gpuslice_plugin.device_plugin import asks, ids, wishes
from gpuslice_plugin.device_plugin.asks import Ask
from gpuslice_plugin.device_plugin.checkpoint import Entry
from gpuslice_plugin.device_plugin.wishes import Wishes
from gpuslice_plugin.pods import Container, Pod, moments

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Want:
    container: str
    ask: Ask
    moments: tuple[int, ...]
    wishes: Wishes
    homes: frozenset[int] = frozenset()  # NUMA nodes; empty: any will do
    cdi_devices: tuple[str, ...] = ()  # what Allocate named, for each resource of the container

    @property
    def hardness(self) -> tuple[bool, int, int, int]:
        """To place what is hardest to place first."""
        ask = self.ask
        return ask.whole, ask.count, ask.cores, ask.memory_mib or ask.memory_percent or 0

    def limits_on(self, gpu: Gpu, defaults: Defaults) -> Limits:
        ask = self.ask
        request = ShareRequest(
            cores=None if ask.whole else ask.cores,
            memory_bytes=None if ask.memory_mib is None else ask.memory_mib * MIB,
            memory_percent=ask.memory_percent,
            whole=ask.whole,
            policy=self.wishes.policy,
            priority=self.wishes.priority,
        )
        return limits_on(gpu, request, defaults)


def of_pod(pod: Pod, entries: Sequence[Entry], prefix: str) -> tuple[Want, ...]:
    """RequestError: what a container asks for can never be."""
    when = moments(pod)
    found: list[Want] = []
    for container in pod.containers:
        ask = _ask(pod, container, prefix)
        if ask is None:
            continue
        given = [entry for entry in entries if entry.container == container.name]
        if not given:
            raise RequestError(
                f"Container {container.name} asks for {prefix}/gpumem alone, of which the kubelet "
                f"tells nobody: add {prefix}/gpu: 1."
            )
        found.append(
            Want(
                container.name,
                ask,
                when[container.name],
                wishes.of_container(pod, container),
                _homes(one for entry in given for one in entry.ids),
                cdi_names(given, container.name),
            )
        )
    return tuple(found)


def cdi_names(entries: Iterable[Entry], container: str) -> tuple[str, ...]:
    """What Allocate named, for all resources of the container."""
    return tuple(
        name for entry in entries if entry.container == container for name in entry.cdi_names
    )


def _ask(pod: Pod, container: Container, prefix: str) -> Ask | None:
    written = asks.words(dict(container.limits), prefix)
    annotation = dict(pod.annotations).get(asks.ANNOTATION + container.name)
    try:
        return asks.ask(written, annotation)
    except RequestError as error:
        raise RequestError(
            f"Container {container.name} cannot have what it asks: {error}"
        ) from error


def _homes(given: Iterable[str]) -> frozenset[int]:
    parsed = [ids.parse(one) for one in given]
    homes = frozenset(one.numa_node for one in parsed if one is not None)
    return frozenset() if ids.NO_NUMA in homes else homes
