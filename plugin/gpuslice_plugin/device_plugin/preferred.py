"""Which ids the kubelet should give to a container: those of a NUMA node with room for it."""

from collections.abc import Sequence
from itertools import chain, zip_longest

from gpuslice_agent.model import GpuPath, Snapshot
from gpuslice_plugin.device_plugin import ids
from gpuslice_plugin.device_plugin.ids import DeviceId
from gpuslice_plugin.device_plugin.resources import Resource, is_sick

ALL = 100


def preferred(
    resource: Resource,
    available: Sequence[str],
    must_include: Sequence[str],
    size: int,
    snapshot: Snapshot,
) -> tuple[str, ...]:
    """From one NUMA node where there is room now, the one with the fewest ids left.

    Where none has room, from all nodes in turn: the pod may then go where room appears first.
    """
    known = [one for one in map(ids.parse, available) if one is not None]
    by_node: dict[int, list[DeviceId]] = {}
    for one in sorted(known, key=lambda one: one.number):
        by_node.setdefault(one.numa_node, []).append(one)
    fitting = [
        node
        for node, free in by_node.items()
        if len(free) >= size and _room(resource, node, snapshot) >= size
        if all(one.numa_node == node for one in map(ids.parse, must_include) if one is not None)
    ]
    chosen: Sequence[DeviceId]
    if fitting:
        chosen = by_node[min(fitting, key=lambda node: (len(by_node[node]), node))]
    else:
        in_turn = chain.from_iterable(zip_longest(*(by_node[node] for node in sorted(by_node))))
        chosen = [one for one in in_turn if one is not None]
    rest = [str(one) for one in chosen if str(one) not in must_include]
    return (*must_include, *rest)[:size]


def _room(resource: Resource, node: int, snapshot: Snapshot) -> int:
    """The largest number that can be bound on the GPUs of this node now."""
    gpus = [
        gpu
        for gpu in snapshot.gpus
        if gpu.path is GpuPath.PLUGIN and ids.home(gpu) == node and not is_sick(gpu, snapshot)
    ]
    promised = [snapshot.promised(gpu.uuid) for gpu in gpus]
    if resource.kind == "slot":
        return sum(one.cores < ALL for one in promised)
    empty = sum(one.cores == 0 and one.memory_bytes == 0 for one in promised)
    return empty * ALL or max((ALL - one.cores for one in promised), default=0)
