"""Fills a share through cuda-bindings; says what it sees and waits for a line after each."""

import json

from cuda.bindings import driver

MIB = 2**20


def say(**seen: int) -> None:
    print(json.dumps(seen), flush=True)
    input()


def check(result: tuple[object, ...]) -> object:
    assert result[0] == driver.CUresult.CUDA_SUCCESS, result
    return result[1] if len(result) == 2 else result[1:]


check(driver.cuInit(0))
device = check(driver.cuDeviceGet(0))
context = check(driver.cuDevicePrimaryCtxRetain(device))
check(driver.cuCtxSetCurrent(context))
free_bytes, total_bytes = check(driver.cuMemGetInfo())
say(free=free_bytes)
pointers = []
while True:
    error, pointer = driver.cuMemAlloc(8 * MIB)
    if error:
        break
    pointers.append(pointer)
assert error == driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY
while True:
    error, pointer = driver.cuMemAlloc(2 * MIB)
    if error:
        break
    pointers.append(pointer)
sizes = [check(driver.cuMemGetAddressRange(pointer))[1] for pointer in pointers]
say(allocated=sum(sizes))
for pointer in pointers:
    check(driver.cuMemFree(pointer))
say(free=check(driver.cuMemGetInfo())[0])
