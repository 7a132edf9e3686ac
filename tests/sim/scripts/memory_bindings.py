"""memory_paths.c through bindings: `memory_bindings.py KIND BYTES`, kinds and words as there."""

import json
import sys

from cuda.bindings import driver

MIB = 2**20
BLOCK = 2 * MIB
ROW = 8192
FLOAT4 = {"Format": driver.CUarray_format.CU_AD_FORMAT_FLOAT, "NumChannels": 4}


def check(result):
    assert result[0] == driver.CUresult.CUDA_SUCCESS, result
    return (*result[1:], None)[0] if len(result) < 3 else result[1:]


def made(structure, **fields):
    for name, value in fields.items():
        setattr(structure, name, value)
    return structure


def on_device():
    kind = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
    return made(driver.CUmemLocation(), type=kind, id=0)


def pinned(properties):
    kind = driver.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
    fields = {"allocType": kind} if hasattr(properties, "allocType") else {"type": kind}
    return made(properties, location=on_device(), **fields)


def shape(size, depth):
    fields = {"Width": ROW // 16, "Height": size // max(depth, 1) // ROW, "Depth": depth, **FLOAT4}
    return made(driver.CUDA_ARRAY3D_DESCRIPTOR(), **fields)


def array(size):
    flat = {"Width": ROW // 16, "Height": size // ROW, **FLOAT4}
    return driver.cuArrayCreate(made(driver.CUDA_ARRAY_DESCRIPTOR(), **flat))


def mipmap(size):
    return driver.cuMipmappedArrayCreate(shape(size // 64 * 45, 0), 4)


def graph(size):
    made_graph = check(driver.cuGraphCreate(0))
    parameters = made(
        driver.CUDA_MEM_ALLOC_NODE_PARAMS(),
        poolProps=pinned(driver.CUmemPoolProps()),
        bytesize=size,
    )
    error, _ = driver.cuGraphAddMemAllocNode(made_graph, None, 0, parameters)
    if not error:
        error, executable = driver.cuGraphInstantiate(made_graph, 0)
    if not error:
        (error,) = driver.cuGraphLaunch(executable, stream)
        check(driver.cuGraphExecDestroy(executable))
    check(driver.cuGraphDestroy(made_graph))
    return error, parameters.dptr


def give_graph(pointer):
    check(driver.cuMemFree(pointer))
    check(driver.cuDeviceGraphMemTrim(0))
    return (driver.CUresult.CUDA_SUCCESS,)


def physical(size):
    size = -(-size // BLOCK) * BLOCK
    return driver.cuMemCreate(size, pinned(driver.CUmemAllocationProp()), 0)


KINDS = {
    "cuMemAlloc": (driver.cuMemAlloc, driver.cuMemFree),
    "cuMemAllocPitch": (
        lambda size: driver.cuMemAllocPitch(4096, size // 4096, 16)[:2],
        driver.cuMemFree,
    ),
    "cuMemAllocManaged": (
        lambda size: driver.cuMemAllocManaged(
            size, driver.CUmemAttach_flags.CU_MEM_ATTACH_GLOBAL.value
        ),
        driver.cuMemFree,
    ),
    "cuMemAllocAsync": (
        lambda size: driver.cuMemAllocAsync(size, stream),
        lambda pointer: driver.cuMemFreeAsync(pointer, stream),
    ),
    "cuMemAllocFromPoolAsync": (
        lambda size: driver.cuMemAllocFromPoolAsync(size, pool, stream),
        lambda pointer: driver.cuMemFreeAsync(pointer, stream),
    ),
    "cuArrayCreate": (array, driver.cuArrayDestroy),
    "cuArray3DCreate": (lambda size: driver.cuArray3DCreate(shape(size, 4)), driver.cuArrayDestroy),
    "cuMipmappedArrayCreate": (mipmap, driver.cuMipmappedArrayDestroy),
    "cuMemCreate": (physical, driver.cuMemRelease),
    "cuGraphAddMemAllocNode": (graph, give_graph),
}


def say(when, **more):
    free, total = check(driver.cuMemGetInfo())
    print(json.dumps({"when": when, "free": free, "total": total, **more}), flush=True)
    sys.stdin.readline()


take, give = KINDS[sys.argv[1]]
check(driver.cuInit(0))
check(driver.cuCtxSetCurrent(check(driver.cuDevicePrimaryCtxRetain(check(driver.cuDeviceGet(0))))))
stream = check(driver.cuStreamCreate(driver.CUstream_flags.CU_STREAM_NON_BLOCKING))
pool = check(driver.cuMemPoolCreate(pinned(driver.CUmemPoolProps())))
say("ready")
pieces, allocated, size = [], 0, int(sys.argv[2])
while size >= BLOCK:
    error, piece = take(size)
    if error:
        size //= 2
    else:
        pieces.append(piece)
        allocated += size
say("full", refused=int(error), allocated=allocated)
for piece in pieces:
    check(give(piece))
check(driver.cuCtxSynchronize())
say("empty")
