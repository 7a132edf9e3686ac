"""Programs that look at a simulated node through NVML, and one that keeps a GPU of it busy."""

import json
import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gpuslice_agent.simulation import SimNode

KERNELS = Path(__file__).parents[1] / "kernels" / "gpuslice.ptx"

# Holds a context on a GPU and keeps it busy with one kernel that outlasts any test, so that a slow
# host leaves no gap; says when it begins, and ends with its input.
WORKER = """
import ctypes, sys
driver = ctypes.CDLL("libcuda.so.1")
def call(name, *arguments):
    assert getattr(driver, name)(*arguments) == 0, name
context, pointer = ctypes.c_void_p(), ctypes.c_void_p()
module, spin = ctypes.c_void_p(), ctypes.c_void_p()
gpu, held, kernels = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3].encode()
call("cuInit", 0)
call("cuDevicePrimaryCtxRetain", ctypes.byref(context), gpu)
call("cuCtxSetCurrent", context)
call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(held))
call("cuModuleLoad", ctypes.byref(module), kernels)
call("cuModuleGetFunction", ctypes.byref(spin), module, b"gpuslice_spin")
ns, steps_per_us = ctypes.c_uint64(600_000_000_000), ctypes.c_uint32(1000)
parameters = (ctypes.c_void_p * 2)(ctypes.addressof(ns), ctypes.addressof(steps_per_us))
call("cuLaunchKernel", spin, 1, 1, 1, 1, 1, 1, 0, None, parameters, None)
print("ready", flush=True)
sys.stdin.read()
"""


def look(node: SimNode, program: str, *arguments: str, prefix: tuple[str, ...] = ()) -> Any:
    """What a Python program prints as JSON on this node."""
    done = subprocess.run(
        [*prefix, sys.executable, "-c", program, *arguments],
        env=node.environment(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@contextmanager
def worker(
    node: SimNode, gpu: int, held_bytes: int, prefix: tuple[str, ...] = ()
) -> Generator[int]:
    """The pid of a process that keeps this GPU busy, or of what `prefix` runs it with."""
    process = subprocess.Popen(
        [*prefix, sys.executable, "-c", WORKER, str(gpu), str(held_bytes), str(KERNELS)],
        env=node.environment(os.environ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        yield process.pid
        process.communicate(timeout=30)
    assert process.returncode == 0
