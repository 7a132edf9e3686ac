"""The CDI spec of a simulated node, read the way the agent reads a real one."""

import json
import os
import subprocess
import sys

import pytest

from gpuslice_agent import simulation
from gpuslice_agent.environment import cdi_directory
from gpuslice_plugin.errors import CdiError
from gpuslice_plugin.nvidia_spec import NvidiaSpecs

from .nodes import gpu

SEES = """
import ctypes, json
cuda, nvml = ctypes.CDLL("libcuda.so.1"), ctypes.CDLL("libnvidia-ml.so.1")
count, listed = ctypes.c_int(), ctypes.c_uint()
assert cuda.cuInit(0) == 0 and cuda.cuDeviceGetCount(ctypes.byref(count)) == 0
assert nvml.nvmlInit_v2() == 0 and nvml.nvmlDeviceGetCount_v2(ctypes.byref(listed)) == 0
device, uuid = ctypes.c_void_p(), ctypes.create_string_buffer(96)
assert nvml.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(device)) == 0
assert nvml.nvmlDeviceGetUUID(device, uuid, 96) == 0
index = ctypes.c_uint(9)
assert nvml.nvmlDeviceGetIndex(device, ctypes.byref(index)) == 0
raw = (ctypes.c_ubyte * 16)()
assert cuda.cuDeviceGetUuid_v2(raw, 0) == 0
print(json.dumps([count.value, listed.value, uuid.value.decode(), index.value, bytes(raw).hex()]))
"""


def test_a_container_sees_the_gpus_that_it_was_given_and_no_other() -> None:
    with simulation.temporary("2xa100-80g", None) as node:
        specs = NvidiaSpecs([cdi_directory(node.path)])
        document = json.loads((cdi_directory(node.path) / "nvidia.json").read_text())
        second = document["devices"][2]["name"]
        _, common, own = specs.of_device(second)
        environment = {
            **node.environment(os.environ),
            **dict(one.split("=", 1) for one in (*common["env"], *own["env"])),
        }
        done = subprocess.run(
            [sys.executable, "-c", SEES],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        count, listed, uuid, index, raw = json.loads(done.stdout)
    assert (count, listed, uuid, index) == (1, 1, second, 0)
    assert raw == second.removeprefix("GPU-").replace("-", "")


def test_every_file_that_the_spec_mounts_is_there() -> None:
    with simulation.temporary("2xa100-80g", None) as node:
        _, common, _ = NvidiaSpecs([cdi_directory(node.path)]).of_gpu(gpu(1))
        for mount in common["mounts"]:
            assert os.path.exists(mount["hostPath"]), mount
        with pytest.raises(CdiError, match="nvidia-ctk cdi generate"):
            NvidiaSpecs([cdi_directory(node.path)]).of_device("GPU-of-another-node")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_programs_of_any_user_and_pid_namespace_meet_on_the_node() -> None:
    holds = (
        "import ctypes, sys\n"
        "cuda = ctypes.CDLL('libcuda.so.1')\n"
        "context, pointer = ctypes.c_void_p(), ctypes.c_void_p()\n"
        "assert cuda.cuInit(0) == 0\n"
        "assert cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0\n"
        "assert cuda.cuCtxSetCurrent(context) == 0\n"
        "assert cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(64 << 20)) == 0\n"
        "free, total = ctypes.c_size_t(), ctypes.c_size_t()\n"
        "assert cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)) == 0\n"
        "print(total.value - free.value, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with simulation.temporary("2xa100-80g", 1) as node:
        command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", holds]
        stranger = ["setpriv", "--reuid=4711", "--regid=4711", "--clear-groups", *command[-3:]]
        with (
            subprocess.Popen(
                [*command[:4], *stranger],
                env=node.environment(os.environ),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            ) as one,
            subprocess.Popen(
                [sys.executable, "-c", holds],
                env=node.environment(os.environ),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            ) as other,
        ):
            assert one.stdout is not None and other.stdout is not None
            used = sorted(int(process.stdout.readline()) for process in (one, other))  # type: ignore[union-attr]
            assert used[1] >= used[0] + (64 << 20)
            one.kill()
            other.kill()
