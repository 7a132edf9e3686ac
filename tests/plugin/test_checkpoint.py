"""The kubelet's device checkpoint, whole, partial and broken."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from gpuslice_plugin.device_plugin.checkpoint import FILE, Checkpoint, Entry, read
from gpuslice_plugin.errors import CheckpointError
from gpuslice_proto.deviceplugin.v1beta1 import deviceplugin_pb2 as pb

CORES = "nvidia.com/gpucores"


def entry(pod: str = "p", container: str = "main", **more: object) -> dict[str, Any]:
    answer = pb.ContainerAllocateResponse(cdi_devices=[pb.CDIDevice(name="kind=one")])
    return {
        "PodUID": pod,
        "ContainerName": container,
        "ResourceName": CORES,
        "DeviceIDs": {"0": ["core-0-1"], "1": ["core-1-7"]},
        "AllocResp": base64.b64encode(answer.SerializeToString()).decode(),
        **more,
    }


def written(directory: Path, *entries: object, **data: object) -> Checkpoint:
    document = {"Data": {"PodDeviceEntries": list(entries), **data}, "Checksum": 1}
    (directory / FILE).write_text(json.dumps(document))
    return read(directory)


def test_an_entry_tells_pod_container_ids_and_cdi_names(tmp_path: Path) -> None:
    checkpoint = written(tmp_path, entry())
    ids = frozenset({"core-0-1", "core-1-7"})
    assert checkpoint.entries == (Entry("p", "main", CORES, ids, ("kind=one",)),)
    assert checkpoint.holders(CORES, ids) == ("p",)
    assert checkpoint.holders(CORES, frozenset({"core-0-1"})) == (), "a part is another set"
    assert checkpoint.holders("nvidia.com/gpu", ids) == ()


def test_an_init_container_and_the_next_with_the_same_ids_are_one_pod(tmp_path: Path) -> None:
    checkpoint = written(tmp_path, entry(container="init"), entry(container="main"))
    assert checkpoint.holders(CORES, checkpoint.entries[0].ids) == ("p",)
    assert len(checkpoint.of_pod("p")) == 2


def test_registered_devices_say_who_served_a_resource(tmp_path: Path) -> None:
    checkpoint = written(tmp_path, RegisteredDevices={"nvidia.com/gpu": ["GPU-1"], "none": None})
    assert dict(checkpoint.registered) == {
        "nvidia.com/gpu": frozenset({"GPU-1"}),
        "none": frozenset(),
    }


def test_what_makes_no_sense_is_left_out_and_the_rest_counts(tmp_path: Path) -> None:
    odd = [
        7,
        entry(PodUID=None),
        entry(DeviceIDs=None),
        entry(DeviceIDs={"0": None}),
        entry(AllocResp="no base64!", ContainerName="main"),
    ]
    checkpoint = written(tmp_path, *odd, entry())
    assert [one.cdi_names for one in checkpoint.entries] == [("kind=one",)]


def test_no_checkpoint_yet_is_an_empty_one(tmp_path: Path) -> None:
    assert read(tmp_path) == Checkpoint()
    assert written(tmp_path, PodDeviceEntries=None) == Checkpoint()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"Data": 7}', '{"Data": {"PodDev'])
def test_a_broken_checkpoint_is_an_error_that_says_so(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(CheckpointError, match="cannot be understood"):
        read(tmp_path)
