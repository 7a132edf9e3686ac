"""memory_paths.c through numba-cuda: `memory_numba.py KIND BYTES`, the kinds and words as there."""

import json
import sys

import numpy
from numba import cuda
from numba.cuda.cudadrv.driver import CudaAPIError

BLOCK = 2 * 2**20
OUT_OF_MEMORY = 2
TAKE = {"cuMemAlloc": cuda.device_array, "cuMemAllocManaged": cuda.managed_array}[sys.argv[1]]


def say(when, **more):
    free, total = cuda.current_context().get_memory_info()
    print(json.dumps({"when": when, "free": free, "total": total, **more}), flush=True)
    sys.stdin.readline()


def fill(size):
    arrays = []
    while size >= BLOCK:
        try:
            arrays.append(TAKE(size, dtype=numpy.uint8))
        except CudaAPIError as error:
            refused = error.code
            size //= 2
    return arrays, refused


context = cuda.current_context()
say("ready")
arrays, refused = fill(int(sys.argv[2]))
say("full", refused=refused, allocated=sum(array.size for array in arrays))
arrays.clear()
context.memory_manager.deallocations.clear()
say("empty")
