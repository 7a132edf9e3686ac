"""What has to be written so that the cluster has the slices that it should have: pure.

The generation of the pool rises when slices come or go: until all of them carry it, the scheduler
takes the pool for incomplete and allocates nothing. A change inside a slice stands for itself and
leaves the generation as it is.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gpuslice_plugin.api import Object, parts
from gpuslice_plugin.dra.layout import PublishedSlice
from gpuslice_plugin.dra.names import DRIVER


@dataclass(frozen=True, slots=True)
class Plan:
    delete: tuple[Object, ...] = ()
    update: tuple[Object, ...] = ()
    create: tuple[Object, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.delete or self.update or self.create)


def plan(
    wanted: Sequence[PublishedSlice], there: Iterable[Object], node: str, node_uid: str = ""
) -> Plan:
    """`there`: the driver's slices of this node, as the server has them."""
    by_name = {one["metadata"]["name"]: one for one in there}
    names = {one.name for one in wanted}
    pools = [one["spec"]["pool"] for one in by_name.values() if one["metadata"]["name"] in names]
    newest = max((one["spec"]["pool"]["generation"] for one in by_name.values()), default=0)
    right = {"name": node, "generation": newest, "resourceSliceCount": len(wanted)}
    if by_name.keys() != names or any(pool != right for pool in pools):
        right = {**right, "generation": newest + 1}
    update: list[Object] = []
    create: list[Object] = []
    for one in wanted:
        spec = {"driver": DRIVER, "nodeName": node, "pool": right, **one.content}
        old = by_name.get(one.name)
        if old is None:
            create.append(_new(one.name, spec, node_uid))
        elif differs(old["spec"], spec):
            update.append({**old, "spec": _with_times(spec, old["spec"])})
    gone = tuple(old for name, old in by_name.items() if name not in names)
    return Plan(gone, tuple(update), tuple(create))


def differs(there: Object, wanted: Object) -> bool:
    return _without_times(there) != _without_times(wanted)


def _new(name: str, spec: Object, node_uid: str) -> Object:
    owner = {
        "apiVersion": "v1",
        "kind": "Node",
        "name": spec["nodeName"],
        "uid": node_uid,
        "controller": True,
    }
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceSlice",
        "metadata": {"name": name, "ownerReferences": [owner]},
        "spec": spec,
    }


def _without_times(spec: Object) -> Object:
    """The server writes when a taint was added."""
    if not spec.get("devices"):
        return spec
    return {**spec, "devices": [_device_without_times(one) for one in parts(spec, "devices")]}


def _device_without_times(device: Object) -> Object:
    if not device.get("taints"):
        return device
    taints = [
        {name: value for name, value in taint.items() if name != "timeAdded"}
        for taint in parts(device, "taints")
    ]
    return {**device, "taints": taints}


def _with_times(spec: Object, old: Object) -> Object:
    """A taint that stays keeps its time: tolerations count from it."""
    if not spec.get("devices"):
        return spec
    times: Mapping[Any, str] = {
        (device["name"], taint["key"], taint["effect"]): taint["timeAdded"]
        for device in parts(old, "devices")
        for taint in parts(device, "taints")
        if "timeAdded" in taint
    }

    def timed(device: Object) -> Object:
        if not device.get("taints"):
            return device
        taints = [
            {**taint, "timeAdded": times[place]}
            if (place := (device["name"], taint["key"], taint["effect"])) in times
            else taint
            for taint in parts(device, "taints")
        ]
        return {**device, "taints": taints}

    return {**spec, "devices": [timed(device) for device in parts(spec, "devices")]}
