"""Stories of contexts, pools and mappings, told one at a time: `memory_stories.py STORY`.

Prints a line wherever the account must be right, and waits for one.
"""

import os
import sys

from cuda.bindings import driver

MIB = 2**20
OUT_OF_MEMORY = driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY


def check(result):
    assert result[0] == driver.CUresult.CUDA_SUCCESS, result
    return result[1] if len(result) == 2 else result[1:]


def look(what: str) -> int:
    """Free memory, as the program sees it when there is a context."""
    _, current = driver.cuCtxGetCurrent()
    free_bytes = check(driver.cuMemGetInfo())[0] if int(current) else -1
    print(what, free_bytes, flush=True)
    input()
    return free_bytes


def primary():
    context = check(driver.cuDevicePrimaryCtxRetain(0))
    check(driver.cuCtxSetCurrent(context))
    return context


def own_context():
    return check(driver.cuCtxCreate(None, 0, 0))


def on_device(device: int = 0) -> driver.CUmemAllocationProp:
    properties = driver.CUmemAllocationProp()
    properties.type = driver.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
    properties.location.type = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
    properties.location.id = device
    return properties


def destroyed_context() -> None:
    keep = primary()
    before = look("primary")
    context = own_context()
    for size in (1000, 64 * 1024, 3 * MIB, 100 * MIB):
        check(driver.cuMemAlloc(size))
    check(driver.cuMemAllocManaged(5 * MIB, 1))
    look("filled")
    check(driver.cuCtxDestroy(context))
    check(driver.cuCtxSetCurrent(keep))
    assert look("destroyed") == before


def reset_primary_context() -> None:
    primary()
    before = look("primary")
    check(driver.cuMemAlloc(300 * MIB))
    check(driver.cuMemAlloc(300))
    look("filled")
    check(driver.cuDevicePrimaryCtxReset(0))
    check(driver.cuCtxSetCurrent(None))
    look("reset")
    primary()
    assert look("again") == before
    check(driver.cuDevicePrimaryCtxRelease(0))
    check(driver.cuCtxSetCurrent(None))
    look("released")


def second_context() -> None:
    primary()
    error, _ = driver.cuMemAlloc(500 * MIB)
    look("filled")
    error, _ = driver.cuCtxCreate(None, 0, 0)
    assert error == OUT_OF_MEMORY
    look("refused")


def destroyed_pool() -> None:
    primary()
    before = look("primary")
    properties = driver.CUmemPoolProps()
    properties.allocType = driver.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
    properties.location.type = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
    pool = check(driver.cuMemPoolCreate(properties))
    pointers = [check(driver.cuMemAllocFromPoolAsync(32 * MIB, pool, 0)) for _ in range(3)]
    look("filled")
    check(driver.cuMemPoolDestroy(pool))
    assert look("destroyed") == before - 96 * MIB
    for pointer in pointers:
        check(driver.cuMemFreeAsync(pointer, 0))
    check(driver.cuCtxSynchronize())
    assert look("freed") == before


def released_while_mapped() -> None:
    primary()
    before = look("primary")
    handle = check(driver.cuMemCreate(100 * MIB, on_device(), 0))
    first = check(driver.cuMemAddressReserve(200 * MIB, 0, 0, 0))
    check(driver.cuMemMap(first, 100 * MIB, 0, handle, 0))
    check(driver.cuMemMap(int(first) + 100 * MIB, 100 * MIB, 0, handle, 0))
    check(driver.cuMemRelease(handle))
    assert look("released") == before - 100 * MIB
    check(driver.cuMemUnmap(first, 200 * MIB))
    assert look("unmapped") == before


def pool_makes_room() -> None:
    """What a pool only keeps does not stand in the way of another kind of allocation."""
    primary()
    free_bytes = look("primary")
    pool = check(driver.cuDeviceGetDefaultMemPool(0))
    threshold = driver.CUmemPool_attribute.CU_MEMPOOL_ATTR_RELEASE_THRESHOLD
    check(driver.cuMemPoolSetAttribute(pool, threshold, driver.cuuint64_t(2**63)))
    spare = 32 * MIB + free_bytes % (32 * MIB)  # pools grow by that much
    pointer = check(driver.cuMemAllocAsync(free_bytes - spare, 0))
    check(driver.cuMemFreeAsync(pointer, 0))
    check(driver.cuCtxSynchronize())
    assert look("kept") == spare
    pointer = check(driver.cuMemAlloc(free_bytes - 2 * spare))
    assert look("taken") == 2 * spare
    check(driver.cuMemFree(pointer))
    stream = check(driver.cuStreamCreate(0))
    for _ in range(20):  # never waited for: the pool hands the same memory out again
        pointer = check(driver.cuMemAllocAsync(free_bytes - 4 * spare, stream))
        check(driver.cuMemFreeAsync(pointer, stream))
    check(driver.cuStreamSynchronize(stream))
    look("again")


def free_in_stream_order() -> None:
    primary()
    before = look("primary")
    stream = check(driver.cuStreamCreate(0))
    linear = check(driver.cuMemAlloc(50 * MIB))
    check(driver.cuMemFreeAsync(linear, stream))
    ordered = check(driver.cuMemAllocAsync(50 * MIB, stream))
    check(driver.cuStreamSynchronize(stream))
    check(driver.cuMemFree(ordered))
    assert look("freed") == before
    linear = check(driver.cuMemAlloc(50 * MIB))
    check(driver.cuMemFreeAsync(linear, stream))
    check(driver.cuStreamDestroy(stream))
    check(driver.cuCtxSynchronize())
    assert look("destroyed") == before


def queued_frees_of_what_is_destroyed() -> None:
    """Nobody can ask a stream any more that was destroyed, or whose context was."""
    keep = primary()
    before = look("primary")
    stream = check(driver.cuStreamCreate(0))
    check(driver.cuMemFreeAsync(check(driver.cuMemAlloc(50 * MIB)), stream))
    check(driver.cuStreamDestroy(stream))
    assert look("stream destroyed") == before
    context = own_context()
    stream = check(driver.cuStreamCreate(0))
    check(driver.cuMemFreeAsync(check(driver.cuMemAlloc(50 * MIB)), stream))
    check(driver.cuCtxDestroy(context))
    check(driver.cuCtxSetCurrent(keep))
    assert look("context destroyed") == before
    stream = check(driver.cuStreamCreate(0))
    check(driver.cuMemFreeAsync(check(driver.cuMemAlloc(50 * MIB)), stream))
    check(driver.cuDevicePrimaryCtxReset(0))
    check(driver.cuCtxSetCurrent(None))
    primary()
    assert look("reset") == before


def exported_neighbours_unmapped_at_once() -> None:
    primary()
    before = look("primary")
    properties = on_device()
    kind = driver.CUmemAllocationHandleType.CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR
    properties.requestedHandleTypes = kind
    first = int(check(driver.cuMemAddressReserve(40 * MIB, 0, 0, 0)))
    for address in (first, first + 20 * MIB):
        handle = check(driver.cuMemCreate(20 * MIB, properties, 0))
        os.close(int(check(driver.cuMemExportToShareableHandle(handle, kind, 0))))
        check(driver.cuMemMap(address, 20 * MIB, 0, handle, 0))
        check(driver.cuMemRelease(handle))
    assert look("mapped") == before - 40 * MIB
    check(driver.cuMemUnmap(first, 40 * MIB))
    assert look("unmapped") == before


def nothing_named() -> None:
    """A call that names no object is refused by the driver, and means nothing to the account."""
    primary()
    properties = driver.CUmemPoolProps()
    properties.allocType = driver.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
    properties.location.type = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
    before = look("primary")
    for _ in range(100):
        check(driver.cuMemPoolCreate(properties))
        handle = check(driver.cuMemCreate(2 * MIB, on_device(), 0))
        check(driver.cuMemRelease(handle))
        assert driver.cuMemRelease(0)[0] != driver.CUresult.CUDA_SUCCESS
        assert driver.cuMemPoolTrimTo(None, 0)[0] != driver.CUresult.CUDA_SUCCESS
    error, _ = driver.cuMemAllocFromPoolAsync(2 * MIB, None, 0)
    assert error != driver.CUresult.CUDA_SUCCESS
    assert look("refused") == before


def module() -> None:
    primary()
    before = look("primary")
    head = b".version 7.0\n.target sm_70\n.address_size 64\n"
    ptx = head + b".visible .global .align 4 .b8 variable[67108864];\n"  # 64 MiB
    loaded = check(driver.cuModuleLoadData(ptx))
    assert look("loaded") <= before - 64 * MIB
    check(driver.cuModuleUnload(loaded))
    assert look("unloaded") == before
    pointer = check(driver.cuMemAlloc(before - 10 * MIB))
    error, _ = driver.cuModuleLoadData(ptx)
    assert error == OUT_OF_MEMORY
    look("refused")
    check(driver.cuMemFree(pointer))
    assert look("freed") == before


def large_image() -> bytes:
    """Its kernel takes more than a block of the card."""
    head = b".version 7.0\n.target sm_70\n.address_size 64\n.visible .entry large()\n{ "
    return head + b" " * (5 * MIB) + b"ret; }\n"


def launch(function, stream=0) -> None:
    check(driver.cuLaunchKernel(function, *(1, 1, 1), *(32, 1, 1), 0, stream, 0, 0))


def code_loaded_at_the_first_launch() -> None:
    primary()
    loaded = check(driver.cuModuleLoadData(large_image()))
    function = check(driver.cuModuleGetFunction(loaded, b"large"))
    before = look("known")
    launch(function)
    assert look("launched") <= before - 4 * MIB
    check(driver.cuModuleUnload(loaded))
    assert look("unloaded") == before


def code_of_a_library_loaded_at_the_first_launch() -> None:
    primary()
    library = check(driver.cuLibraryLoadData(large_image(), None, None, 0, None, None, 0))
    kernel = check(driver.cuLibraryGetKernel(library, b"large"))
    before = look("known")
    launch(driver.CUfunction(int(kernel)))
    assert look("launched") <= before - 4 * MIB
    check(driver.cuLibraryUnload(library))
    assert look("unloaded") == before


def code_loaded_for_a_graph() -> None:
    primary()
    loaded = check(driver.cuModuleLoadData(large_image()))
    function = check(driver.cuModuleGetFunction(loaded, b"large"))
    stream = check(driver.cuStreamCreate(0))
    mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_GLOBAL
    check(driver.cuStreamBeginCapture(stream, mode))
    launch(function, stream)
    graph = check(driver.cuStreamEndCapture(stream))
    before = look("captured")
    check(driver.cuGraphInstantiate(graph, 0))
    assert look("instantiated") <= before - 4 * MIB


def host_memory() -> None:
    """Pinned memory is the host's: it is never charged."""
    primary()
    before = look("primary")
    pointer = check(driver.cuMemHostAlloc(64 * MIB, 0))
    assert look("pinned") == before
    check(driver.cuMemFreeHost(pointer))
    properties = on_device()
    properties.location.type = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_HOST
    handle = check(driver.cuMemCreate(64 * MIB, properties, 0))
    assert look("host handle") == before
    check(driver.cuMemRelease(handle))
    assert look("released") == before


def other_gpu() -> None:
    """Only the shared GPU is there at all."""
    assert check(driver.cuDeviceGetCount()) == 1
    primary()
    error, _ = driver.cuMemCreate(2 * MIB, on_device(1), 0)
    assert error != driver.CUresult.CUDA_SUCCESS
    look("refused")


check(driver.cuInit(0))
globals()[sys.argv[1]]()
