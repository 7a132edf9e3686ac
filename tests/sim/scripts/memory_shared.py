"""One half of a pair that shares memory by an IPC handle: `memory_shared.py exporter`, or
`memory_shared.py importer HANDLE`. Says what it did and waits for a line after each step.
"""

import ctypes
import json
import sys

from cuda.bindings import driver

MIB = 2**20
HANDLE_BYTES = 64


def check(result):
    assert result[0] == driver.CUresult.CUDA_SUCCESS, result
    return result[1] if len(result) == 2 else result[1:]


def say(did: str, handle: str = "") -> None:
    check(driver.cuMemGetInfo())
    print(json.dumps({"did": did, "handle": handle}), flush=True)
    input()


check(driver.cuInit(0))
check(driver.cuCtxSetCurrent(check(driver.cuDevicePrimaryCtxRetain(0))))
if sys.argv[1] == "exporter":
    pointer = check(driver.cuMemAlloc(100 * MIB))
    handle = check(driver.cuIpcGetMemHandle(pointer))
    say("exported", ctypes.string_at(handle.getPtr(), HANDLE_BYTES).hex())
    check(driver.cuMemFree(pointer))
    say("freed")
else:
    handle = driver.CUipcMemHandle()
    ctypes.memmove(handle.getPtr(), bytes.fromhex(sys.argv[2]), HANDLE_BYTES)
    lazily = driver.CUipcMem_flags.CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS
    pointer = check(driver.cuIpcOpenMemHandle(handle, lazily))
    say("imported")
    check(driver.cuIpcCloseMemHandle(pointer))
    say("closed")
