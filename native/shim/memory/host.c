/* Pinned host memory: it is shown in the account of the process, and counts towards no limit.
 *
 * A record goes before the call that frees, because another thread can get the address as soon as it is free. No
 * address is both the host's and the device's, so the records live among those of device memory, and end with their
 * context like them.
 */
#include "memory/memory.h"

static void pinned(const void *pointer, uint64_t bytes) {
    CUcontext context;
    struct memory_gpu *gpu = memory_current(&context);
    if (!gpu)
        return;
    struct memory_record record = {.key = (uint64_t)(uintptr_t)pointer,
                                   .bytes = bytes,
                                   .owner = context,
                                   .gpu = (uint16_t)gpu->device,
                                   .kind = GPUSLICE_MEMORY_PINNED};
    memory_charge(gpu, bytes, GPUSLICE_MEMORY_PINNED);
    if (!memory_allocation_remember(&record)) /* no host memory for the record: it works, and is not shown */
        memory_allocation_release(&record);
}

static CUresult unpin(void *pointer, CUresult (*free)(void *)) {
    struct memory_record record;
    if (!tenant_active() || !memory_table_take(&memory_allocations, (uint64_t)(uintptr_t)pointer, &record))
        return free(pointer);
    CUresult result = free(pointer);
    if (result == CUDA_SUCCESS)
        memory_allocation_release(&record);
    else
        memory_allocation_remember(&record);
    return result;
}

CUresult cuMemHostAlloc(void **pp, size_t bytesize, unsigned int Flags) {
    CUresult result = real.cuMemHostAlloc(pp, bytesize, Flags);
    if (result == CUDA_SUCCESS)
        pinned(*pp, bytesize);
    return result;
}

CUresult cuMemAllocHost_v2(void **pp, size_t bytesize) {
    CUresult result = real.cuMemAllocHost_v2(pp, bytesize);
    if (result == CUDA_SUCCESS)
        pinned(*pp, bytesize);
    return result;
}

CUresult cuMemAllocHost(void **pp, unsigned int bytesize) {
    CUresult result = real.cuMemAllocHost(pp, bytesize);
    if (result == CUDA_SUCCESS)
        pinned(*pp, bytesize);
    return result;
}

CUresult cuMemHostRegister_v2(void *p, size_t bytesize, unsigned int Flags) {
    CUresult result = real.cuMemHostRegister_v2(p, bytesize, Flags);
    if (result == CUDA_SUCCESS)
        pinned(p, bytesize);
    return result;
}

CUresult cuMemHostRegister(void *p, size_t bytesize, unsigned int Flags) {
    CUresult result = real.cuMemHostRegister(p, bytesize, Flags);
    if (result == CUDA_SUCCESS)
        pinned(p, bytesize);
    return result;
}

CUresult cuMemFreeHost(void *p) {
    return unpin(p, real.cuMemFreeHost);
}

CUresult cuMemHostUnregister(void *p) {
    return unpin(p, real.cuMemHostUnregister);
}
