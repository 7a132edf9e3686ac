"""Fills a share through numba-cuda; says what it sees and waits for a line after each."""

import json

import numpy
from numba import cuda
from numba.cuda.cudadrv.driver import CudaAPIError

MIB = 2**20


def say(**seen: int) -> None:
    print(json.dumps(seen), flush=True)
    input()


def fill() -> list[object]:
    arrays = []
    for size in (8 * MIB, 2 * MIB):
        try:
            while True:
                arrays.append(cuda.device_array(size, dtype=numpy.uint8))
        except CudaAPIError as error:
            assert "CUDA_ERROR_OUT_OF_MEMORY" in str(error)
    return arrays


context = cuda.current_context()
say(free=context.get_memory_info().free)
arrays = fill()
say(allocated=sum(array.size for array in arrays))
arrays.clear()
context.memory_manager.deallocations.clear()
say(free=context.get_memory_info().free)
