/* Linear and managed device memory. */
#include <stdlib.h>

#include "graph.h"
#include "pool.h"
#include "sim.h"

#define PITCH_ALIGNMENT 512u

static CUresult allocate(uint64_t bytes, enum allocation_kind kind, CUdeviceptr *ret_address) {
    struct context *context;
    CUresult result = current_context_outside_capture(&context);
    if (result)
        return result;
    if (!ret_address || !bytes)
        return CUDA_ERROR_INVALID_VALUE;
    uint64_t base;
    result = allocation_make(context, bytes, kind, &base);
    if (!result)
        *ret_address = base;
    return result;
}

CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t bytes) {
    return allocate(bytes, ALLOCATION_LINEAR, address);
}

CUresult cuMemAllocPitch_v2(CUdeviceptr *address, size_t *pitch, size_t width, size_t height, unsigned element_bytes) {
    CUresult result = require_init();
    if (result)
        return result;
    if (!pitch || !width || !height || (element_bytes != 4 && element_bytes != 8 && element_bytes != 16))
        return CUDA_ERROR_INVALID_VALUE;
    size_t aligned = (width + PITCH_ALIGNMENT - 1) / PITCH_ALIGNMENT * PITCH_ALIGNMENT;
    result = allocate(aligned * height, ALLOCATION_LINEAR, address);
    if (!result)
        *pitch = aligned;
    return result;
}

CUresult cuMemAllocManaged(CUdeviceptr *address, size_t bytes, unsigned flags) {
    CUresult result = require_init();
    if (result)
        return result;
    if (flags != CU_MEM_ATTACH_GLOBAL && flags != CU_MEM_ATTACH_HOST)
        return CUDA_ERROR_INVALID_VALUE;
    return allocate(bytes, ALLOCATION_MANAGED, address);
}

CUresult cuMemFree_v2(CUdeviceptr address) {
    CUresult result = capture_forbids();
    if (result)
        return result;
    if (!address)
        return CUDA_SUCCESS;
    lock_driver();
    struct allocation *allocation = allocation_find(address);
    struct allocation found = {0};
    if (allocation && allocation->base == address)
        found = *allocation;
    unlock_driver();
    if (!found.base)
        return CUDA_ERROR_INVALID_VALUE;
    if (found.kind == ALLOCATION_GRAPH) {
        engine_gpu_wait(found.gpu, false);
        return graph_memory_free(NULL, address);
    }
    if (found.kind == ALLOCATION_IPC)
        return CUDA_ERROR_INVALID_VALUE;
    /* What still runs may use it: freeing waits for the device. */
    engine_gpu_wait(found.gpu, false);
    if (found.kind == ALLOCATION_POOL)
        return pool_free_now(address);
    return allocation_unmake(address, found.kind);
}

CUresult cuMemGetInfo_v2(size_t *free_bytes, size_t *total) {
    struct context *context;
    CUresult result = current_context(&context);
    if (result)
        return result;
    if (!free_bytes || !total)
        return CUDA_ERROR_INVALID_VALUE;
    uint64_t now_free, all;
    result = from_errno(engine_memory_info(context->gpu, &now_free, &all));
    if (result)
        return result;
    *free_bytes = now_free;
    *total = all;
    return CUDA_SUCCESS;
}

CUresult cuMemGetAddressRange_v2(CUdeviceptr *base, size_t *bytes, CUdeviceptr address) {
    CUresult result = require_init();
    if (result)
        return result;
    lock_driver();
    struct allocation *allocation = allocation_find(address);
    uint64_t found = allocation ? allocation->base : 0, size = allocation ? allocation->bytes : 0;
    unlock_driver();
    struct engine_range range;
    if (!found) {
        if (engine_memory_find(address, &range) || range.kind == ENGINE_RANGE_RESERVED)
            return CUDA_ERROR_NOT_FOUND;
        found = range.base;
        size = range.bytes;
    }
    if (base)
        *base = found;
    if (bytes)
        *bytes = size;
    return CUDA_SUCCESS;
}
