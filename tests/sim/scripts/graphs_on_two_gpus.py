"""Graphs with allocation nodes and kernels on two GPUs, more of both on the second.

Prints a line wherever the accounts must be right, and waits for one.
"""

import ctypes
import sys

from cuda.bindings import driver

from gpuslice_agent import native_files

MIB = 2**20


def check(result):
    assert result[0] == driver.CUresult.CUDA_SUCCESS, result
    return result[1] if len(result) == 2 else result[1:]


def look(what: str) -> None:
    for context in contexts:
        check(driver.cuCtxSetCurrent(context))
        check(driver.cuCtxSynchronize())
        check(driver.cuMemGetInfo())
    print(what, flush=True)
    sys.stdin.readline()


def spin():
    module = check(driver.cuModuleLoadData(native_files.kernels().read_bytes() + b"\0"))
    return check(driver.cuModuleGetFunction(module, b"gpuslice_spin"))


def captured(device: int):
    """20 ms of kernels and 64 MiB on the first GPU, 40 ms and 128 MiB on the second."""
    check(driver.cuCtxSetCurrent(contexts[device]))
    function, stream = spin(), check(driver.cuStreamCreate(1))
    streams.append(stream)
    mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
    check(driver.cuStreamBeginCapture(stream, mode))
    pointer = check(driver.cuMemAllocAsync(64 * MIB * (device + 1), stream))
    arguments = ((2_000_000, 1000), (ctypes.c_uint64, ctypes.c_uint32))
    for _ in range(10 * (device + 1)):
        launch = (*(1, 1, 1), *(32, 1, 1), 0, stream, arguments, 0)
        check(driver.cuLaunchKernel(function, *launch))
    check(driver.cuMemFreeAsync(pointer, stream))
    return check(driver.cuGraphInstantiate(check(driver.cuStreamEndCapture(stream)), 0))


check(driver.cuInit(0))
contexts = [check(driver.cuDevicePrimaryCtxRetain(device)) for device in (0, 1)]
streams: list = []
graphs = [captured(device) for device in (0, 1)]
look("instantiated")
for turn in range(3):
    for device in (1, 0):
        check(driver.cuCtxSetCurrent(contexts[turn % 2]))  # a graph knows its own GPU
        check(driver.cuGraphLaunch(graphs[device], streams[device]))
    look(f"launched {turn}")
for graph in graphs:
    check(driver.cuGraphExecDestroy(graph))
for device in (0, 1):
    check(driver.cuDeviceGraphMemTrim(device))
look("trimmed")
