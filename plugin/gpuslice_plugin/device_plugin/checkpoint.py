"""Reads the kubelet's own record of which container was given which ids.

It is the only place that has the pod's UID, init containers and what Allocate answered
(kubelet 1.36.3: `kubelet_internal_checkpoint` in the device plugins' directory).
"""

from dataclasses import dataclass
from pathlib import Path

import msgspec
from google.protobuf.message import DecodeError

from gpuslice_plugin.errors import CheckpointError
from gpuslice_proto.deviceplugin.v1beta1 import deviceplugin_pb2 as pb

FILE = "kubelet_internal_checkpoint"


@dataclass(frozen=True, slots=True)
class Entry:
    """What one container was given of one resource."""

    pod_uid: str
    container: str
    resource: str
    ids: frozenset[str]
    cdi_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    entries: tuple[Entry, ...] = ()
    registered: tuple[tuple[str, frozenset[str]], ...] = ()  # resource, the ids it was served with

    def holders(self, resource: str, ids: frozenset[str]) -> tuple[str, ...]:
        """The UIDs of the pods that have exactly this set, each once."""
        found = [
            entry.pod_uid
            for entry in self.entries
            if entry.resource == resource and entry.ids == ids
        ]
        return tuple(dict.fromkeys(found))

    def of_pod(self, pod_uid: str) -> tuple[Entry, ...]:
        return tuple(entry for entry in self.entries if entry.pod_uid == pod_uid)


def read(directory: Path) -> Checkpoint:
    """An empty one where the kubelet has written none yet.

    CheckpointError: it is there and cannot be understood; the next write may be whole again.
    """
    path = directory / FILE
    try:
        return decode(path.read_bytes())
    except FileNotFoundError:
        return Checkpoint()
    except OSError as error:
        raise CheckpointError(
            f"The kubelet's checkpoint {path} cannot be read: {error.strerror}."
        ) from error
    except ValueError as error:
        raise CheckpointError(
            f"The kubelet's checkpoint {path} cannot be understood ({error}): containers that are "
            "bound go on, others wait until the kubelet writes it again."
        ) from error


def decode(text: bytes) -> Checkpoint:
    """ValueError: not a checkpoint. An entry that makes no sense is left out, the others count."""
    data = msgspec.json.decode(text, type=_Document).data
    entries = [_entry(one) for one in data.entries or ()]
    return Checkpoint(
        entries=tuple(one for one in entries if one is not None),
        registered=tuple(
            (resource, frozenset(ids or ())) for resource, ids in (data.registered or {}).items()
        ),
    )


class _Data(msgspec.Struct):
    entries: list[object] | None = msgspec.field(name="PodDeviceEntries", default=None)
    registered: dict[str, list[str] | None] | None = msgspec.field(
        name="RegisteredDevices", default=None
    )


class _Document(msgspec.Struct):
    data: _Data = msgspec.field(name="Data")


class _Entry(msgspec.Struct):
    pod_uid: str = msgspec.field(name="PodUID")
    container: str = msgspec.field(name="ContainerName")
    resource: str = msgspec.field(name="ResourceName")
    # By NUMA node; kubelets before 1.20 wrote a plain list.
    ids: dict[str, list[str] | None] | list[str] = msgspec.field(name="DeviceIDs")
    answer: bytes | None = msgspec.field(name="AllocResp", default=None)


def _entry(found: object) -> Entry | None:
    try:
        one = msgspec.convert(found, _Entry)
        answer = pb.ContainerAllocateResponse.FromString(one.answer or b"")
    except (msgspec.ValidationError, DecodeError):
        return None
    lists = [one.ids] if isinstance(one.ids, list) else one.ids.values()
    ids = frozenset(text for ids in lists for text in ids or ())
    names = tuple(device.name for device in answer.cdi_devices)
    return Entry(one.pod_uid, one.container, one.resource, ids, names) if ids else None
