"""NVML shows a tenant its share: pynvml, nvitop and gpustat are the programs that look."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gpuslice_agent import simulation

from .c_programs import KERNELS
from .share_on_node import MIB, Share, show

LIMIT = 2048 * MIB
HELD = 512 * MIB

# Holds memory, keeps the GPU busy when asked to, and ends when its input does.
TENANT = """
import ctypes, select, sys
driver = ctypes.CDLL("libcuda.so.1")
def call(name, *arguments):
    assert getattr(driver, name)(*arguments) == 0, name
context, pointer = ctypes.c_void_p(), ctypes.c_void_p()
module, spin = ctypes.c_void_p(), ctypes.c_void_p()
call("cuInit", 0)
call("cuDevicePrimaryCtxRetain", ctypes.byref(context), 0)
call("cuCtxSetCurrent", context)
call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(int(sys.argv[1])))
call("cuModuleLoad", ctypes.byref(module), sys.argv[2].encode())
call("cuModuleGetFunction", ctypes.byref(spin), module, b"gpuslice_spin")
ns, steps_per_us = ctypes.c_uint64(2_000_000), ctypes.c_uint32(1000)
parameters = (ctypes.c_void_p * 2)(ctypes.addressof(ns), ctypes.addressof(steps_per_us))
def launch():
    call("cuLaunchKernel", spin, 1, 1, 1, 1, 1, 1, 0, None, parameters, None)
busy = sys.argv[3] == "busy"
if busy:
    launch()
    call("cuCtxSynchronize")
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0 if busy else 60)[0]:
    launch()
    call("cuCtxSynchronize")
"""

LOOK = """
import json, sys, pynvml
pynvml.nvmlInit()
def text(value):
    return value.decode() if isinstance(value, bytes) else value
def look(index):
    gpu = pynvml.nvmlDeviceGetHandleByIndex(index)
    one = pynvml.nvmlDeviceGetMemoryInfo(gpu)
    two = pynvml.nvmlDeviceGetMemoryInfo(gpu, version=pynvml.nvmlMemory_v2)
    rates = pynvml.nvmlDeviceGetUtilizationRates(gpu)
    try:
        samples = [[s.pid, s.smUtil] for s in pynvml.nvmlDeviceGetProcessUtilization(gpu, 0)]
    except pynvml.NVMLError_NotFound:
        samples = []
    lists = (
        pynvml.nvmlDeviceGetComputeRunningProcesses,
        pynvml.nvmlDeviceGetGraphicsRunningProcesses,
        pynvml.nvmlDeviceGetMPSComputeRunningProcesses,
    )
    return {
        "uuid": text(pynvml.nvmlDeviceGetUUID(gpu)), "index": pynvml.nvmlDeviceGetIndex(gpu),
        "memory": [[one.total, one.used, one.free], [two.total, two.used, two.free]],
        "processes": [[[p.pid, p.usedGpuMemory] for p in listed(gpu)] for listed in lists],
        "utilization": rates.gpu, "samples": samples,
    }
print(json.dumps([look(index) for index in range(pynvml.nvmlDeviceGetCount())]))
"""


@pytest.fixture
def node() -> Iterator[simulation.SimNode]:
    with simulation.temporary("2xa100-80g", None) as node:
        yield node


@pytest.fixture
def make_share(node: simulation.SimNode, tmp_path: Path) -> Iterator[Callable[[], Share]]:
    """Shares of the second GPU."""
    shares: list[Share] = []

    def make() -> Share:
        shares.append(Share(node, tmp_path / str(len(shares)), LIMIT, gpu=1))
        return shares[-1]

    yield make
    for share in shares:
        share.close()


@contextmanager
def tenant(share: Share, what: str) -> Generator[int]:
    """A process in the share, by its pid."""
    command = [sys.executable, "-c", TENANT, str(HELD), str(KERNELS), what]
    with subprocess.Popen(
        command, env=share.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        yield process.pid
        process.communicate(timeout=30)
        assert process.returncode == 0


def python(share: Share, code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=share.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def look(share: Share) -> list[dict[str, Any]]:
    return list(json.loads(python(share, LOOK)))


def test_only_the_gpu_of_the_share_is_there_and_counts_from_0(
    make_share: Callable[[], Share], node: simulation.SimNode
) -> None:
    (gpu,) = look(make_share())
    assert gpu["index"] == 0
    assert gpu["uuid"] == show(node)["gpus"][1]["uuid"]


HANDLES = """
import sys, pynvml
pynvml.nvmlInit()
for find, what in zip((pynvml.nvmlDeviceGetHandleByUUID, pynvml.nvmlDeviceGetHandleByIndex),
                      (sys.argv[1], 1)):
    try:
        find(what)
        print("found")
    except (pynvml.NVMLError_NotFound, pynvml.NVMLError_InvalidArgument):
        print("hidden")
"""


def test_a_gpu_without_a_share_is_not_to_be_found(
    make_share: Callable[[], Share], node: simulation.SimNode
) -> None:
    uuids = [gpu["uuid"] for gpu in show(node)["gpus"]]
    share = make_share()
    assert python(share, HANDLES, uuids[0]).split() == ["hidden", "hidden"]
    assert python(share, HANDLES, uuids[1]).split() == ["found", "hidden"]


def test_memory_is_the_limit_and_what_the_share_is_charged(
    make_share: Callable[[], Share],
) -> None:
    share = make_share()
    with tenant(share, "idle"):
        (gpu,) = look(share)
        used = share.charged()
        assert used >= HELD
        assert gpu["memory"] == [[LIMIT, used, LIMIT - used]] * 2
    (gpu,) = look(share)
    assert gpu["memory"] == [[LIMIT, 0, LIMIT]] * 2


def test_processes_are_those_of_the_share(make_share: Callable[[], Share]) -> None:
    mine, other = make_share(), make_share()
    with tenant(mine, "idle") as first, tenant(mine, "idle") as second, tenant(other, "idle"):
        (gpu,) = look(mine)
        compute, graphics, mps = gpu["processes"]
        assert sorted(pid for pid, _ in compute) == sorted([first, second])
        assert sum(used for _, used in compute) == mine.charged()
        assert graphics == mps == []


def test_utilisation_is_that_of_the_share(make_share: Callable[[], Share]) -> None:
    busy, idle = make_share(), make_share()
    with tenant(busy, "busy") as pid, tenant(idle, "idle"):
        (gpu,) = look(busy)
        assert gpu["utilization"] > 50
        assert [sample[0] for sample in gpu["samples"]] == [pid]
        assert gpu["samples"][0][1] > 50
        (gpu,) = look(idle)
        assert gpu["utilization"] == 0
        assert [sample[1] for sample in gpu["samples"]] == [0]


ACCOUNTING = """
import json, sys, pynvml
pynvml.nvmlInit()
gpu = pynvml.nvmlDeviceGetHandleByIndex(int(sys.argv[1]))
if sys.argv[2:] == ["enable"]:
    pynvml.nvmlDeviceSetAccountingMode(gpu, 1)
def answer(function, *arguments):
    try:
        return function(*arguments)
    except pynvml.NVMLError as error:
        return type(error).__name__
peaks = [answer(lambda: pynvml.nvmlDeviceGetAccountingStats(gpu, int(pid)).maxMemoryUsage)
         for pid in sys.argv[2:] if pid != "enable"]
print(json.dumps({
    "pids": pynvml.nvmlDeviceGetAccountingPids(gpu), "peaks": peaks,
    "mode": answer(pynvml.nvmlDeviceGetAccountingMode, gpu),
    "mig": [answer(pynvml.nvmlDeviceGetMigMode, gpu),
            answer(pynvml.nvmlDeviceGetMaxMigDeviceCount, gpu),
            answer(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, gpu, 0),
            answer(pynvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle, gpu)],
}))
"""


def test_accounting_is_that_of_the_share(
    make_share: Callable[[], Share], node: simulation.SimNode
) -> None:
    whole = node.environment(os.environ)
    enable = [sys.executable, "-c", ACCOUNTING, "1", "enable"]
    said = subprocess.run(enable, env=whole, capture_output=True, text=True, check=True)
    mig_of_the_gpu = json.loads(said.stdout)["mig"]
    mine, other = make_share(), make_share()
    with tenant(mine, "idle") as pid, tenant(other, "idle") as foreign:
        accounts = json.loads(python(mine, ACCOUNTING, "0", str(pid), str(foreign)))
        assert accounts["mode"] == 1
        assert accounts["pids"] == [pid]
        assert accounts["peaks"] == [mine.charged(), "NVMLError_NotFound"]
        assert accounts["mig"] == mig_of_the_gpu


def test_looking_claims_no_slot(make_share: Callable[[], Share]) -> None:
    share = make_share()
    code = "import pynvml, os; pynvml.nvmlInit(); os._exit(0)"
    python(share, code)
    usage = (share.files / "usage").read_bytes()
    assert not any(usage[256:])


def test_gpustat_and_nvitop_show_the_share(make_share: Callable[[], Share]) -> None:
    share = make_share()
    with tenant(share, "idle") as pid:
        used_mib = share.charged() // MIB
        said = json.loads(
            python(share, "import gpustat; gpustat.new_query().print_json(); print()")
        )
        (gpu,) = said["gpus"]
        assert (gpu["memory.total"], gpu["memory.used"]) == (LIMIT // MIB, used_mib)
        assert [process["pid"] for process in gpu["processes"]] == [pid]
        said_by_nvitop = python(
            share,
            "import nvitop; (gpu,) = nvitop.Device.all();"
            "print(gpu.memory_total(), gpu.memory_used(), *gpu.processes())",
        ).split()
        assert said_by_nvitop == [str(LIMIT), str(share.charged()), str(pid)]


def test_a_corrupt_share_fails_the_initialisation(make_share: Callable[[], Share]) -> None:
    share = make_share()
    (share.files / "usage").write_bytes(b"short")
    code = """
import pynvml
try:
    pynvml.nvmlInit()
except pynvml.NVMLError as error:
    print(error.value == pynvml.NVML_ERROR_OPERATING_SYSTEM)
"""
    assert python(share, code).strip() == "True"
