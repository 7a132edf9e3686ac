"""NVML of the simulated node, through the programs that people look at GPUs with."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpuslice_agent import native_files, simulation
from gpuslice_agent.simulation import SimNode

from .nvml_node import look, worker

MIB = 2**20
HELD = 512 * MIB
ROOT = Path(__file__).parents[2]

PYNVML = """
import json, os, pynvml as n
n.nvmlInit()
handles = [n.nvmlDeviceGetHandleByIndex(i) for i in range(n.nvmlDeviceGetCount())]
def seen(h):
    memory = n.nvmlDeviceGetMemoryInfo(h, version=n.nvmlMemory_v2)
    utilization = n.nvmlDeviceGetUtilizationRates(h)
    try:
        samples = n.nvmlDeviceGetProcessUtilization(h, 0)
    except n.NVMLError_NotFound:
        samples = []
    return {
        "name": n.nvmlDeviceGetName(h), "uuid": n.nvmlDeviceGetUUID(h),
        "bus": n.nvmlDeviceGetPciInfo(h).busId, "numa": n.nvmlDeviceGetNumaNodeId(h),
        "total": memory.total, "used": memory.used, "free": memory.free,
        "reserved": memory.reserved, "old_used": n.nvmlDeviceGetMemoryInfo(h).used,
        "gpu": utilization.gpu, "power": n.nvmlDeviceGetPowerUsage(h),
        "power_limit": n.nvmlDeviceGetEnforcedPowerLimit(h),
        "temperature": n.nvmlDeviceGetTemperatureV(h, n.NVML_TEMPERATURE_GPU),
        "processes": [[p.pid, p.usedGpuMemory] for p in n.nvmlDeviceGetComputeRunningProcesses(h)],
        "graphics": len(n.nvmlDeviceGetGraphicsRunningProcesses(h)),
        "sm": {s.pid: s.smUtil for s in samples},
        "mig": n.nvmlDeviceGetMaxMigDeviceCount(h),
    }
print(json.dumps([seen(h) for h in handles]))
"""

HANDLES = """
import json, pynvml as n
n.nvmlInit()
h = n.nvmlDeviceGetHandleByIndex(5)
same = [
    n.nvmlDeviceGetHandleByUUID(n.nvmlDeviceGetUUID(h)),
    n.nvmlDeviceGetHandleBySerial(n.nvmlDeviceGetSerial(h)),
    n.nvmlDeviceGetHandleByPciBusId(n.nvmlDeviceGetPciInfo(h).busId),
    n.nvmlDeviceGetHandleByPciBusId(n.nvmlDeviceGetPciInfo(h).busId[4:].lower()),
]
print(json.dumps([n.nvmlDeviceGetIndex(one) for one in same]))
"""

LINKS = """
import json, pynvml as n
n.nvmlInit()
a, b = n.nvmlDeviceGetHandleByIndex(0), n.nvmlDeviceGetHandleByIndex(1)
fields = n.nvmlDeviceGetFieldValues(a, [n.NVML_FI_DEV_NVLINK_LINK_COUNT, n.NVML_FI_DEV_ECC_CURRENT,
                                        n.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION, 9999])
print(json.dumps({
    "switch": n.nvmlDeviceGetNvLinkRemoteDeviceType(a, 0) == n.NVML_NVLINK_DEVICE_TYPE_SWITCH,
    "remote": n.nvmlDeviceGetNvLinkRemotePciInfo(a, 0).busId,
    "ancestor": n.nvmlDeviceGetTopologyCommonAncestor(a, b),
    "p2p": n.nvmlDeviceGetP2PStatus(a, b, n.NVML_P2P_CAPS_INDEX_NVLINK),
    "fields": [[f.nvmlReturn, f.value.uiVal] for f in fields],
}))
"""

ERRORS = """
import json, pynvml as n
def error(call, *arguments):
    try:
        call(*arguments)
    except n.NVMLError as refused:
        return refused.value
n.nvmlInit()
n.nvmlShutdown()
early = error(n.nvmlDeviceGetCount)
n.nvmlInit()
h = n.nvmlDeviceGetHandleByIndex(0)
events = n.nvmlEventSetCreate()
n.nvmlDeviceRegisterEvents(h, n.nvmlEventTypeXidCriticalError, events)
print(json.dumps({
    "early": early,
    "index": error(n.nvmlDeviceGetHandleByIndex, 99),
    "uuid": error(n.nvmlDeviceGetHandleByUUID, "GPU-0"),
    "fan": error(n.nvmlDeviceGetFanSpeed, h),
    "wait": error(n.nvmlEventSetWait_v2, events, 10),
    "unmodelled": error(n.nvmlDeviceGetBridgeChipInfo, h),
    "string": str(n.NVMLError(n.NVML_ERROR_NOT_SUPPORTED)),
}))
"""

ACCOUNTING = """
import json, sys, pynvml as n
n.nvmlInit()
h = n.nvmlDeviceGetHandleByIndex(0)
n.nvmlDeviceSetAccountingMode(h, n.NVML_FEATURE_ENABLED)
pid = int(sys.argv[1])
stats = n.nvmlDeviceGetAccountingStats(h, pid)
print(json.dumps([pid in n.nvmlDeviceGetAccountingPids(h), stats.maxMemoryUsage, stats.isRunning]))
"""

FORK = """
import json, os, pynvml as n
n.nvmlInit()
h = n.nvmlDeviceGetHandleByIndex(1)
if os.fork() == 0:
    print(json.dumps(n.nvmlDeviceGetMemoryInfo(h, version=n.nvmlMemory_v2).used))
else:
    os.wait()
"""

# The first version of a process has 16 bytes, the later ones 24; a byte beyond is somebody else's.
SIZES = """
import ctypes, json
nvml = ctypes.CDLL("libnvidia-ml.so.1")
device = ctypes.c_void_p()
assert nvml.nvmlInit_v2() == 0
assert nvml.nvmlDeviceGetHandleByIndex_v2(1, ctypes.byref(device)) == 0
def listed(suffix, size):
    buffer, count = ctypes.create_string_buffer(b"#" * 96), ctypes.c_uint(1)
    call = getattr(nvml, "nvmlDeviceGetComputeRunningProcesses" + suffix)
    assert call(device, ctypes.byref(count), buffer) == 0
    assert buffer.raw[size:96] == b"#" * (96 - size)
    return int.from_bytes(buffer.raw[:4], "little"), int.from_bytes(buffer.raw[8:16], "little")
few = ctypes.c_uint(0)
short = nvml.nvmlDeviceGetComputeRunningProcesses_v3(device, ctypes.byref(few), None)
print(json.dumps([listed("", 16), listed("_v2", 24), listed("_v3", 24), [short, few.value]]))
"""

NVITOP = """
import json, sys
from nvitop import Device
device = Device(1)
process = device.processes()[int(sys.argv[1])]
print(json.dumps({
    "name": device.name(), "used": device.memory_used(), "gpu": device.gpu_utilization(),
    "held": process.gpu_memory(), "sm": process.gpu_sm_utilization(), "type": process.type,
    "power": device.power_usage(), "fan": str(device.fan_speed()),
    "driver": Device.driver_version(), "cuda": Device.cuda_driver_version(),
}))
"""

GPUSTAT = """
import json
import gpustat
print(json.dumps(gpustat.new_query().jsonify()["gpus"], default=str))
"""


@pytest.fixture(scope="module")
def node() -> Iterator[SimNode]:
    with simulation.temporary("2xa100-80g", None) as node:
        yield node


@pytest.fixture(scope="module")
def dgx() -> Iterator[SimNode]:
    with simulation.temporary("dgx-h100", None) as node:
        yield node


@pytest.fixture
def busy(node: SimNode) -> Iterator[int]:
    with worker(node, gpu=1, held_bytes=HELD) as pid:
        time.sleep(1.5)  # utilisation is of the last second
        yield pid


def test_every_symbol_of_the_header_is_exported() -> None:
    library = native_files.simulation() / "libnvidia-ml.so.1"
    shown = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True, text=True)
    exported = {line.split()[-1] for line in shown.stdout.splitlines()}
    assert exported == set((ROOT / "native/symbols/nvml.txt").read_text().split())


def test_the_list_of_symbols_and_the_table_in_docs_are_fresh() -> None:
    generator = ROOT / "native/symbols/generate_nvml.py"
    done = subprocess.run([sys.executable, generator, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_node_says_in_every_name_that_it_is_simulated(dgx: SimNode) -> None:
    gpus: list[dict[str, Any]] = look(dgx, PYNVML)
    assert len(gpus) == 8
    assert all(gpu["name"].endswith("(simulated)") for gpu in gpus)
    assert len({gpu["uuid"] for gpu in gpus}) == len({gpu["bus"] for gpu in gpus}) == 8
    uuid = r"GPU-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
    assert all(re.fullmatch(uuid, gpu["uuid"]) for gpu in gpus)
    assert [gpu["numa"] for gpu in gpus] == [0, 0, 0, 0, 1, 1, 1, 1]


def test_a_handle_is_found_by_uuid_serial_and_bus_id(dgx: SimNode) -> None:
    assert look(dgx, HANDLES) == [5, 5, 5, 5]


def test_links_fields_and_distances_are_those_of_the_machine(dgx: SimNode) -> None:
    seen = look(dgx, LINKS)
    assert seen["switch"]
    assert seen["remote"].endswith(":00.0")
    assert seen["ancestor"] == 40  # the same NUMA node
    assert seen["p2p"] == 0
    assert seen["fields"] == [[0, 18], [0, 1], [0, 0], [3, 0]]


def test_errors_are_those_of_nvml(node: SimNode) -> None:
    assert look(node, ERRORS) == {
        "early": 1,  # uninitialised
        "index": 2,  # invalid argument
        "uuid": 6,  # not found
        "fan": 3,  # not supported
        "wait": 10,  # timeout
        "unmodelled": 3,
        "string": "Not Supported",
    }


def test_memory_of_an_idle_gpu_is_free(node: SimNode) -> None:
    gpu = look(node, PYNVML)[0]
    assert gpu["used"] == 0
    assert gpu["free"] + gpu["reserved"] == gpu["total"]
    assert gpu["old_used"] == gpu["reserved"]
    assert gpu["gpu"] == 0
    assert gpu["processes"] == []


def test_pynvml_sees_a_process_and_what_it_uses(node: SimNode, busy: int) -> None:
    idle, gpu = look(node, PYNVML)
    ((pid, held),) = gpu["processes"]
    assert pid == busy
    assert held == gpu["used"] > HELD
    assert gpu["gpu"] == 100
    assert gpu["sm"][str(busy)] == 100
    assert idle["power"] < gpu["power"] < gpu["power_limit"]
    assert idle["temperature"] < gpu["temperature"]
    assert gpu["graphics"] == 0


def test_process_lists_have_the_size_of_their_version(node: SimNode, busy: int) -> None:
    first, second, third, refused = look(node, SIZES)
    assert first == second == third
    assert first[0] == busy
    assert first[1] > HELD
    assert refused == [7, 1]  # insufficient size, and how many there are


def test_nvitop_runs_unchanged(node: SimNode, busy: int) -> None:
    seen = look(node, NVITOP, str(busy))
    assert seen["name"] == "NVIDIA A100-SXM4-80GB (simulated)"
    assert seen["held"] == seen["used"] > HELD
    assert seen["gpu"] == 100
    assert seen["sm"] == 100
    assert seen["type"] == "C"
    assert seen["fan"] == "N/A"
    assert seen["cuda"] == "13.5"


def test_gpustat_runs_unchanged(node: SimNode, busy: int) -> None:
    _, gpu = look(node, GPUSTAT)
    (process,) = gpu["processes"]
    assert process["pid"] == busy
    assert process["gpu_memory_usage"] == gpu["memory.used"] > HELD // MIB
    assert gpu["utilization.gpu"] == 100


def test_a_killed_process_is_gone_from_the_list_at_once(node: SimNode) -> None:
    with pytest.raises(AssertionError), worker(node, gpu=0, held_bytes=HELD) as pid:
        assert [process[0] for process in look(node, PYNVML)[0]["processes"]] == [pid]
        subprocess.run(["kill", f"-{signal.SIGKILL}", str(pid)], check=True)
        while Path(f"/proc/{pid}/mem").exists() and state(pid) != "Z":
            time.sleep(0.01)
        seen = look(node, PYNVML)[0]
        assert seen["processes"] == []
        assert seen["used"] == 0


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.skipif("os.geteuid() != 0", reason="NVML lets only root set the accounting mode")
def test_accounting_remembers_a_process_that_ended(node: SimNode) -> None:
    with worker(node, gpu=0, held_bytes=HELD) as pid:
        known, most, running = look(node, ACCOUNTING, str(pid))
        assert known
        assert most > HELD
        assert running == 1
    assert look(node, ACCOUNTING, str(pid)) == [True, most, 0]


def test_a_forked_child_may_go_on_asking(node: SimNode) -> None:
    assert look(node, FORK) == 0


@pytest.mark.skipif("os.geteuid() != 0", reason="only root may make a pid namespace here")
def test_a_process_in_another_pid_namespace_has_the_pid_we_see(node: SimNode) -> None:
    with worker(node, gpu=0, held_bytes=HELD, prefix=("unshare", "-pf", "--mount-proc")) as pid:
        ((seen, _),) = look(node, PYNVML)[0]["processes"]
        assert parent_of(seen) == pid


@pytest.mark.skipif("os.geteuid() != 0", reason="only root may make a pid namespace here")
def test_a_process_of_a_sibling_namespace_has_no_pid_and_is_not_listed(node: SimNode) -> None:
    namespace = ("unshare", "-pf", "--mount-proc")
    with worker(node, gpu=0, held_bytes=HELD, prefix=namespace):
        seen = look(node, PYNVML, prefix=namespace)[0]
        assert seen["processes"] == []
        assert seen["used"] > HELD


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
