"""Eight threads call cuInit at the same moment, before anybody else has, and allocate 2 MiB."""

import ctypes
import json
import sys
import threading

THREADS = 8
cuda = ctypes.CDLL("libcuda.so.1")
together = threading.Barrier(THREADS)
results: list[list[int]] = []


def first() -> None:
    context, pointer, total = ctypes.c_void_p(), ctypes.c_uint64(), ctypes.c_size_t()
    together.wait()
    started = cuda.cuInit(0)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(total), 0)
    cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0)
    cuda.cuCtxSetCurrent(context)
    allocated = cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(2 << 20))
    results.append([started, allocated, total.value])


threads = [threading.Thread(target=first) for _ in range(THREADS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps({"results": results}), flush=True)
sys.stdin.readline()
