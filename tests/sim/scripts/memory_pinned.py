"""Pins host memory in every way; prints after each step how many bytes are pinned, and waits."""

import ctypes
import json
import mmap
import sys

MIB = 2**20
cuda = ctypes.CDLL("libcuda.so.1")


def check(result: int) -> None:
    assert result == 0, result


def look(pinned: int) -> None:
    print(json.dumps({"pinned": pinned}), flush=True)
    sys.stdin.readline()


def context() -> ctypes.c_void_p:
    handle = ctypes.c_void_p()
    check(cuda.cuCtxCreate_v2(ctypes.byref(handle), 0, 0))
    return handle


def allocated(symbol: str, size: int, *rest: int) -> ctypes.c_void_p:
    pointer = ctypes.c_void_p()
    bytes_ = ctypes.c_uint(size) if symbol == "cuMemAllocHost" else ctypes.c_size_t(size)
    check(getattr(cuda, symbol)(ctypes.byref(pointer), bytes_, *rest))
    return pointer


def pins() -> None:
    check(cuda.cuInit(0))
    keep = context()
    look(0)
    pointers = [allocated("cuMemHostAlloc", 8192, 0)]
    look(8192)
    pointers += [allocated("cuMemAllocHost_v2", MIB), allocated("cuMemAllocHost", MIB)]
    look(8192 + 2 * MIB)
    areas = [mmap.mmap(-1, 4 * MIB) for _ in range(2)]
    for area, symbol in zip(areas, ("cuMemHostRegister", "cuMemHostRegister_v2"), strict=True):
        address = ctypes.c_void_p(ctypes.addressof(ctypes.c_char.from_buffer(area)))
        check(getattr(cuda, symbol)(address, ctypes.c_size_t(4 * MIB), 0))
        assert getattr(cuda, symbol)(address, ctypes.c_size_t(4 * MIB), 0) != 0
        assert cuda.cuMemFreeHost(address) != 0
        look(8192 + 6 * MIB)
        check(cuda.cuMemHostUnregister(address))
        look(8192 + 2 * MIB)
    for pointer, left in zip(pointers, (2 * MIB, MIB, 0), strict=True):
        check(cuda.cuMemFreeHost(pointer))
        look(left)
    other = context()
    allocated("cuMemHostAlloc", 3 * MIB, 0)
    look(3 * MIB)
    check(cuda.cuCtxDestroy_v2(other))
    check(cuda.cuCtxSetCurrent(keep))
    look(0)


pins()
