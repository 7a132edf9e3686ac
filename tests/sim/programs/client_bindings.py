"""cuda-bindings: the driver API as Python sees it, old and new."""

import ctypes
import sys
from pathlib import Path

from cuda.bindings import driver, nvrtc


def check(answer):
    error, *values = answer
    assert int(error) == 0, error
    return values[0] if len(values) == 1 else values


check(driver.cuInit(0))
assert check(driver.cuDriverGetVersion()) >= 13000
device = check(driver.cuDeviceGet(0))
assert check(driver.cuDeviceGetName(100, device)).split(b"\0")[0].endswith(b"(simulated)")
for attribute in driver.CUdevice_attribute:
    if attribute.name.endswith("_MAX") and "ATTRIBUTE_MAX" in attribute.name:
        continue
    check(driver.cuDeviceGetAttribute(attribute, device))
context = check(driver.cuDevicePrimaryCtxRetain(device))
check(driver.cuCtxSetCurrent(context))

image = Path(sys.argv[1]).read_bytes() + b"\0"
module = check(driver.cuModuleLoadData(image))
add = check(driver.cuModuleGetFunction(module, b"gpuslice_add"))
count = 1000
size = 4 * count
a, b, total = (check(driver.cuMemAlloc(size)) for _ in range(3))
left = (ctypes.c_float * count)(*range(count))
right = (ctypes.c_float * count)(*(2 * i for i in range(count)))
result = (ctypes.c_float * count)()
stream = check(driver.cuStreamCreate(driver.CUstream_flags.CU_STREAM_NON_BLOCKING))
check(driver.cuMemcpyHtoDAsync(a, ctypes.addressof(left), size, stream))
check(driver.cuMemcpyHtoDAsync(b, ctypes.addressof(right), size, stream))
arguments = ((a, b, total, count), (None, None, None, ctypes.c_uint64))
check(driver.cuLaunchKernel(add, 4, 1, 1, 256, 1, 1, 0, stream, arguments, 0))
check(driver.cuMemcpyDtoHAsync(ctypes.addressof(result), total, size, stream))
check(driver.cuStreamSynchronize(stream))
assert list(result) == [3.0 * i for i in range(count)]

check(driver.cuStreamBeginCapture(stream, driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_GLOBAL))
check(
    driver.cuLaunchKernel(
        add, 4, 1, 1, 256, 1, 1, 0, stream, ((a, total, total, count), arguments[1]), 0
    )
)
graph = check(driver.cuStreamEndCapture(stream))
executable = check(driver.cuGraphInstantiate(graph, 0))
for _ in range(3):
    check(driver.cuGraphLaunch(executable, stream))
check(driver.cuMemcpyDtoHAsync(ctypes.addressof(result), total, size, stream))
check(driver.cuStreamSynchronize(stream))
assert list(result) == [6.0 * i for i in range(count)]

source = b'extern "C" __global__ void twice(float *x, int n) { x[0] = 2 * n; }'
program = check(nvrtc.nvrtcCreateProgram(source, b"twice.cu", 0, [], []))
check(nvrtc.nvrtcCompileProgram(program, 1, [b"--gpu-architecture=sm_80"]))
cubin = b" " * check(nvrtc.nvrtcGetCUBINSize(program))
check(nvrtc.nvrtcGetCUBIN(program, cubin))
library = check(driver.cuLibraryLoadData(cubin, [], [], 0, [], [], 0))
kernel = check(driver.cuLibraryGetKernel(library, b"twice"))
assert check(driver.cuKernelGetParamInfo(kernel, 1)) == [8, 4]
twice = check(driver.cuKernelGetFunction(kernel))
check(driver.cuLaunchKernel(twice, 1, 1, 1, 1, 1, 1, 0, stream, ((a, 4), (None, ctypes.c_int)), 0))
check(driver.cuCtxSynchronize())
free, total_bytes = check(driver.cuMemGetInfo())
assert 0 < free < total_bytes
print("done")
