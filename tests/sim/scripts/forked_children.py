"""Forks children while threads allocate and free.

A driver that was initialised before the fork refuses the child everything; the account of the
parent must not notice.
"""

import ctypes
import json
import os
import signal
import sys
import threading

MIB = 2**20
CHILDREN = 40
cuda = ctypes.CDLL("libcuda.so.1")
size_t = ctypes.c_size_t


def check(result: int) -> None:
    assert result == 0, result


def say(**words: object) -> None:
    print(json.dumps(words), flush=True)
    sys.stdin.readline()


def allocated(size: int) -> ctypes.c_uint64:
    pointer = ctypes.c_uint64()
    check(cuda.cuMemAlloc_v2(ctypes.byref(pointer), size_t(size)))
    return pointer


def calls_of_a_child(held: ctypes.c_uint64, pinned: ctypes.c_void_p) -> list[int]:
    new, host, free, total = ctypes.c_uint64(), ctypes.c_void_p(), size_t(), size_t()
    return [
        cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)),
        cuda.cuMemFree_v2(held),
        cuda.cuMemFreeHost(pinned),
        cuda.cuMemAlloc_v2(ctypes.byref(new), size_t(MIB)),
        cuda.cuMemAllocAsync(ctypes.byref(new), size_t(MIB), None),
        cuda.cuMemHostAlloc(ctypes.byref(host), size_t(MIB), 0),
        cuda.cuMemHostUnregister(pinned),
        cuda.cuCtxCreate_v2(ctypes.byref(host), 0, 0),
    ]


def end_of_child(held: ctypes.c_uint64, pinned: ctypes.c_void_p) -> str:
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        os._exit(sum(result == 0 for result in calls_of_a_child(held, pinned)))
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return "stuck"
    return "succeeded" if os.WEXITSTATUS(status) else "refused"


check(cuda.cuInit(0))
context, pinned = ctypes.c_void_p(), ctypes.c_void_p()
check(cuda.cuCtxCreate_v2(ctypes.byref(context), 0, 0))
held = allocated(100 * MIB)
check(cuda.cuMemHostAlloc(ctypes.byref(pinned), size_t(MIB), 0))
enough = threading.Event()


def allocate_and_free() -> None:
    check(cuda.cuCtxSetCurrent(context))
    while not enough.is_set():
        check(cuda.cuMemFree_v2(allocated(3 * MIB)))


def compare_with_nvml() -> None:
    """What this call takes only NVML knows, and while the shim asks it no memory call may begin."""
    check(cuda.cuCtxSetCurrent(context))
    while not enough.is_set():
        check(cuda.cuCtxSetLimit(0, size_t(1024)))


threads = [threading.Thread(target=one) for one in (allocate_and_free, compare_with_nvml)]
for thread in threads:
    thread.start()
ends = [end_of_child(held, pinned) for _ in range(CHILDREN)]
enough.set()
for thread in threads:
    thread.join()
say(children=CHILDREN, stuck=ends.count("stuck"), succeeded=ends.count("succeeded"))
say(freed=[cuda.cuMemFree_v2(held), cuda.cuMemFreeHost(pinned)])
