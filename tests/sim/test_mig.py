"""MIG on a simulated node: NVML cuts a GPU, CUDA programs see one device of it each."""

import os
from collections.abc import Iterator
from typing import Any

import pytest

from gpuslice_agent import simulation
from gpuslice_agent.simulation import SimNode

from .nvml_node import look, worker

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root cuts a GPU")

MIB = 2**20

# GPU 0 in MIG mode, with one instance of each profile named, whole compute instances in them.
CUT = """
import json, sys, pynvml as n
n.nvmlInit()
gpu = n.nvmlDeviceGetHandleByIndex(0)
assert n.nvmlDeviceSetMigMode(gpu, 1) == n.NVML_SUCCESS
profiles = {}
for kind in range(n.NVML_GPU_INSTANCE_PROFILE_COUNT):
    try:
        info = n.nvmlDeviceGetGpuInstanceProfileInfo(gpu, kind, version=2)
    except n.NVMLError_NotSupported:
        continue
    profiles[info.name.removeprefix("MIG ")] = info
whole = {1: 0, 2: 1, 3: 2, 4: 3, 7: 4}
for name in sys.argv[1:]:
    instance = n.nvmlDeviceCreateGpuInstance(gpu, profiles[name].id)
    n.nvmlGpuInstanceCreateComputeInstance(instance, whole[profiles[name].sliceCount])
"""

DEVICES = """
def devices(gpu):
    for index in range(n.nvmlDeviceGetMaxMigDeviceCount(gpu)):
        try:
            yield n.nvmlDeviceGetMigDeviceHandleByIndex(gpu, index)
        except n.NVMLError_NotFound:
            return
def seen(device):
    memory, attributes = n.nvmlDeviceGetMemoryInfo(device), n.nvmlDeviceGetAttributes(device)
    return {
        "name": n.nvmlDeviceGetName(device), "uuid": n.nvmlDeviceGetUUID(device),
        "index": n.nvmlDeviceGetIndex(device),
        "is_mig": n.nvmlDeviceIsMigDeviceHandle(device).value,
        "gi": n.nvmlDeviceGetGpuInstanceId(device), "ci": n.nvmlDeviceGetComputeInstanceId(device),
        "total": memory.total, "used": memory.used, "sms": attributes.multiprocessorCount,
        "slices": attributes.gpuInstanceSliceCount, "copy": attributes.sharedCopyEngineCount,
        "parent": n.nvmlDeviceGetIndex(n.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device)),
        "again": n.nvmlDeviceGetIndex(n.nvmlDeviceGetHandleByUUID(n.nvmlDeviceGetUUID(device))),
        "pids": [p.pid for p in n.nvmlDeviceGetComputeRunningProcesses(device)],
    }
"""

LOOK = f"""
import json, pynvml as n
n.nvmlInit()
gpu = n.nvmlDeviceGetHandleByIndex(0)
{DEVICES}
processes = n.nvmlDeviceGetComputeRunningProcesses(gpu)
try:
    n.nvmlDeviceGetUtilizationRates(gpu)
    told = True
except n.NVMLError_NotSupported:
    told = False
print(json.dumps({{
    "devices": [seen(device) for device in devices(gpu)],
    "mode": n.nvmlDeviceGetMigMode(gpu), "utilization": told,
    "processes": [[p.pid, p.gpuInstanceId, p.computeInstanceId] for p in processes],
}}))
"""

CLEAR = f"""
import json, pynvml as n
n.nvmlInit()
gpu = n.nvmlDeviceGetHandleByIndex(0)
{DEVICES}
for device in list(devices(gpu)):
    instance = n.nvmlDeviceGetGpuInstanceById(gpu, n.nvmlDeviceGetGpuInstanceId(device))
    ci = n.nvmlDeviceGetComputeInstanceId(device)
    n.nvmlComputeInstanceDestroy(n.nvmlGpuInstanceGetComputeInstanceById(instance, ci))
    n.nvmlGpuInstanceDestroy(instance)
print(json.dumps(n.nvmlDeviceSetMigMode(gpu, 0)))
"""

# What CUDA shows: names, UUIDs and memory of the devices, and whether 12 GiB can be had.
CUDA = """
import ctypes, json
driver = ctypes.CDLL("libcuda.so.1")
count, size = ctypes.c_int(), ctypes.c_size_t()
name, uuid = ctypes.create_string_buffer(128), ctypes.create_string_buffer(16)
context, pointer = ctypes.c_void_p(), ctypes.c_void_p()
init = driver.cuInit(0)
driver.cuDeviceGetCount(ctypes.byref(count))
devices = []
for device in range(count.value):
    driver.cuDeviceGetName(name, 128, device)
    driver.cuDeviceGetUuid_v2(uuid, device)
    driver.cuDeviceTotalMem_v2(ctypes.byref(size), device)
    driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)
    driver.cuCtxSetCurrent(context)
    had = driver.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(12 * 2**30)) == 0
    devices.append([name.value.decode(), uuid.raw.hex(), size.value, had])
print(json.dumps({"init": init, "devices": devices}))
"""


@pytest.fixture
def node() -> Iterator[SimNode]:
    with simulation.temporary("2xa100-80g", None) as node:
        yield node


def cut(node: SimNode, *profiles: str) -> list[dict[str, Any]]:
    look(node, CUT + "print(json.dumps(None))", *profiles)
    devices: list[dict[str, Any]] = look(node, LOOK)["devices"]
    return devices


def in_view_of(node: SimNode, visible: str, program: str) -> Any:
    return look(node, program, prefix=("env", f"CUDA_VISIBLE_DEVICES={visible}"))


def test_a_gpu_is_cut_and_its_devices_are_found_by_index_and_uuid(node: SimNode) -> None:
    devices = cut(node, "1g.10gb", "2g.20gb", "4g.40gb")
    assert [device["name"].split("MIG ")[1] for device in devices] == [
        "4g.40gb (simulated)",
        "2g.20gb (simulated)",
        "1g.10gb (simulated)",
    ]
    assert [(device["gi"], device["ci"]) for device in devices] == [(1, 0), (5, 0), (13, 0)]
    assert [device["sms"] for device in devices] == [56, 28, 14]
    assert [device["total"] // MIB for device in devices] == [40192, 19968, 9728]
    for index, device in enumerate(devices):
        assert device["index"] == device["again"] == index
        assert device["is_mig"] == 1
        assert device["parent"] == 0
        assert device["uuid"].startswith("MIG-")
        assert len(device["uuid"]) == 40


def test_cuda_shows_the_mig_device_that_is_named_and_nothing_else(node: SimNode) -> None:
    devices = cut(node, "1g.10gb", "2g.20gb")
    for device, fits in (devices[0], True), (devices[1], False):
        seen = in_view_of(node, device["uuid"], CUDA)["devices"]
        name, uuid, size, had = seen[0]
        assert len(seen) == 1
        assert name == device["name"]
        assert uuid == device["uuid"].removeprefix("MIG-").replace("-", "")
        assert (size, had) == (device["total"], fits)


def test_cuda_shows_the_first_mig_device_where_none_is_named(node: SimNode) -> None:
    devices = cut(node, "1g.10gb", "2g.20gb")
    assert [d[0] for d in look(node, CUDA)["devices"]] == [devices[0]["name"]]
    assert [d[0] for d in in_view_of(node, "0", CUDA)["devices"]] == [devices[0]["name"]]
    whole = [d[0] for d in in_view_of(node, "1", CUDA)["devices"]]
    assert whole == ["NVIDIA A100-SXM4-80GB (simulated)"]


def test_a_gpu_in_mig_mode_without_instances_is_not_shown(node: SimNode) -> None:
    cut(node)
    assert len(look(node, CUDA)["devices"]) == 1
    assert in_view_of(node, "0", CUDA)["init"] == 100  # CUDA_ERROR_NO_DEVICE


def test_a_process_is_listed_with_its_instances_and_keeps_them_in_use(node: SimNode) -> None:
    devices = cut(node, "2g.20gb", "2g.20gb")
    prefix = ("env", f"CUDA_VISIBLE_DEVICES={devices[1]['uuid']}")
    with worker(node, 0, 512 * MIB, prefix) as pid:
        seen = look(node, LOOK)
        assert seen["processes"] == [[pid, devices[1]["gi"], 0]]
        assert [device["pids"] for device in seen["devices"]] == [[], [pid]]
        assert seen["devices"][0]["used"] == 0
        assert seen["devices"][1]["used"] >= 512 * MIB
        assert seen["utilization"] is False
        with pytest.raises(AssertionError, match="InUse"):
            look(node, CLEAR)
    assert look(node, CLEAR) == 0
    assert look(node, LOOK)["mode"] == [0, 0]


def test_the_mode_waits_for_a_reset_while_a_program_uses_the_gpu(node: SimNode) -> None:
    with worker(node, 0, 512 * MIB):
        with pytest.raises(AssertionError, match="AssertionError"):
            look(node, CUT)
        assert look(node, LOOK)["mode"] == [0, 1]


@pytest.mark.parametrize(
    ("profile", "smallest", "largest"),
    [
        ("2xa100-40g", "1g.5gb", "7g.40gb"),
        ("2xa100-80g", "1g.10gb", "7g.80gb"),
        ("dgx-h100", "1g.10gb", "7g.80gb"),
        ("h200", "1g.18gb", "7g.141gb"),
        ("dgx-b200", "1g.23gb", "7g.180gb"),
    ],
)
def test_every_model_is_cut_into_seven_or_left_whole(
    profile: str, smallest: str, largest: str
) -> None:
    with simulation.temporary(profile, 1) as node:
        assert len(cut(node, *[smallest] * 7)) == 7
        assert look(node, CLEAR) == 0
        [whole] = cut(node, largest)
        assert whole["slices"] == 7


def test_a_gpu_without_mig_says_so() -> None:
    with (
        simulation.temporary("t4", None) as node,
        pytest.raises(AssertionError, match="NotSupported"),
    ):
        look(node, CUT)
