"""MIG partitions that an administrator made, as resources of the device plugin."""

import asyncio
import json
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from gpuslice_agent.inventory import Inventory
from gpuslice_agent.mig import MigDevice, MigPlace
from gpuslice_agent.model import Gpu, GpuPath, Health, HealthState, Snapshot
from gpuslice_plugin.cdi import ShimFiles, Spec
from gpuslice_plugin.device_plugin.mig_plugins import MigPlugins
from gpuslice_plugin.errors import CdiError
from gpuslice_plugin.nvidia_spec import NvidiaSpecs
from gpuslice_proto.deviceplugin.v1beta1 import deviceplugin_pb2 as pb

from .kubelet import kubelet
from .test_endpoint import until

GIB = 1 << 30
MINORS = """\
config 1
gpu0/gi7/access 30
gpu0/gi7/ci0/access 31
gpu0/gi8/access 39
gpu0/gi8/ci0/access 40
"""


def partition(number: int, name: str = "1g.10gb") -> MigDevice:
    place = MigPlace(19, name, number, 1)
    return MigDevice(f"MIG-{number}", name, place, 10 * GIB, 0, 7 + number)


def gpu(*partitions: MigDevice, path: GpuPath = GpuPath.PLUGIN) -> Gpu:
    return Gpu(
        0,
        "GPU-0",
        "A100",
        "",
        80 * GIB,
        health=Health(HealthState.HEALTHY),
        path=path,
        numa_node=1,
        foreign_partitions=partitions,
        partitioned=True,
    )


@pytest.fixture
def nvidia(tmp_path: Path) -> NvidiaSpecs:
    edits = {"deviceNodes": [{"path": "/dev/nvidia0"}]}
    document = {
        "cdiVersion": "0.6.0",
        "kind": "nvidia.com/gpu",
        "devices": [{"name": "GPU-0", "containerEdits": edits}],
        "containerEdits": {"deviceNodes": [{"path": "/dev/nvidiactl"}]},
    }
    (tmp_path / "nvidia").mkdir()
    (tmp_path / "nvidia" / "nvidia.json").write_text(json.dumps(document))
    (tmp_path / "mig-minors").write_text(MINORS)
    (tmp_path / "devices").write_text("Character devices:\n  1 mem\n235 nvidia-caps\n")
    return NvidiaSpecs([tmp_path / "nvidia"], tmp_path / "mig-minors", tmp_path / "devices")


@pytest.fixture
def spec(tmp_path: Path, nvidia: NvidiaSpecs) -> Spec:
    shim = ShimFiles(Path("/shim.so"), Path("/preload"))
    return Spec(tmp_path / "cdi", nvidia, shim, lambda uuid: gpu())


def plugins(spec: Spec, directory: Path = Path("/nowhere")) -> MigPlugins:
    return MigPlugins(Inventory(), spec, directory, "nvidia.com")


def told(found: MigPlugins) -> Mapping[str, list[tuple[str, bool]]]:
    return {
        resource: [(device.id, device.healthy) for device in devices]
        for resource, devices in found.devices().items()
    }


def test_each_profile_is_a_resource_and_each_partition_a_device(spec: Spec) -> None:
    found = plugins(spec)
    media = partition(1, "1g.10gb+me")
    bare = replace(partition(2), uuid="")
    new = found.look(Snapshot(gpus=(gpu(partition(0), media, bare),)))
    assert new == ["nvidia.com/mig-1g.10gb", "nvidia.com/mig-1g.10gb.me"]
    assert told(found) == {
        "nvidia.com/mig-1g.10gb": [("MIG-0", True)],
        "nvidia.com/mig-1g.10gb.me": [("MIG-1", True)],
    }


def test_partitions_of_other_gpus_are_none_of_its_devices(spec: Spec) -> None:
    found = plugins(spec)
    assert found.look(Snapshot(gpus=(gpu(partition(0), path=GpuPath.DRA),))) == []


def test_a_partition_is_as_well_as_its_gpu_and_gone_when_it_was_removed(spec: Spec) -> None:
    found = plugins(spec)
    well = gpu(partition(0), partition(1))
    found.look(Snapshot(gpus=(well,)))
    found.look(Snapshot(gpus=(replace(well, health=Health(HealthState.UNHEALTHY)),)))
    assert told(found) == {"nvidia.com/mig-1g.10gb": [("MIG-0", False), ("MIG-1", False)]}
    found.look(Snapshot(gpus=()))
    assert told(found) == {"nvidia.com/mig-1g.10gb": [("MIG-0", False), ("MIG-1", False)]}
    assert found.look(Snapshot(gpus=(gpu(partition(1)),))) == []
    assert told(found) == {"nvidia.com/mig-1g.10gb": [("MIG-1", True)]}
    assert spec.present() == {"MIG-1"}


def test_its_cdi_file_opens_the_partition_and_no_other(tmp_path: Path, spec: Spec) -> None:
    plugins(spec).look(Snapshot(gpus=(gpu(partition(0)),)))
    path = tmp_path / "cdi" / "k8s.gpu.gpuslice.io-MIG-0.json"
    (device,) = json.loads(path.read_text())["devices"]
    assert device["name"] == "MIG-0"
    edits = device["containerEdits"]
    assert edits["env"] == ["NVIDIA_VISIBLE_DEVICES=void", "CUDA_VISIBLE_DEVICES=MIG-0"]
    assert [node["path"] for node in edits["deviceNodes"]] == [
        "/dev/nvidiactl",
        "/dev/nvidia0",
        "/dev/nvidia-caps/nvidia-cap30",
        "/dev/nvidia-caps/nvidia-cap31",
    ]
    assert edits["deviceNodes"][2]["major"] == 235 and edits["deviceNodes"][2]["minor"] == 30
    assert spec.agree([]) and spec.present() == {"MIG-0"}


def test_a_partition_that_the_driver_has_no_files_for_is_not_written(nvidia: NvidiaSpecs) -> None:
    with pytest.raises(CdiError, match="has no gpu0/gi9/access"):
        nvidia.of_partition(gpu(), partition(2))


def test_the_kubelet_is_given_the_partitions_that_it_chose(tmp_path: Path, spec: Spec) -> None:
    async def run(directory: Path) -> None:
        inventory = Inventory()
        inventory.replace(Snapshot(gpus=(gpu(partition(0), partition(1)),)))
        async with kubelet(directory) as other:
            made = MigPlugins(inventory, spec, directory / "device-plugins", "nvidia.com")
            task = asyncio.create_task(made.run())
            try:
                await until(lambda: other.known and other.known[0].lists)
                (known,) = other.known
                assert known.request.resource_name == "nvidia.com/mig-1g.10gb"
                assert not known.request.options.pre_start_required
                assert [one.ID for one in known.lists[0].devices] == ["MIG-0", "MIG-1"]
                asked = [pb.ContainerAllocateRequest(devices_ids=["MIG-1"])]
                answer = await known.stub.Allocate(pb.AllocateRequest(container_requests=asked))
                (response,) = answer.container_responses
                names = [one.name for one in response.cdi_devices]
                assert names == ["k8s.gpu.gpuslice.io/share=MIG-1"]
            finally:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    with tempfile.TemporaryDirectory() as short:
        asyncio.run(run(Path(short)))
