/* What is known of an address. */
#include <string.h>

#include "pool_chunk.h"
#include "sim.h"

struct fact {
    CUmemorytype type;
    uint64_t base, bytes;
    struct context *context;
    CUdevice device;
    unsigned long long id;
    bool managed, pool, sync_memops;
    CUmemoryPool pool_handle;
};

static bool from_allocation(uint64_t address, struct fact *fact) {
    lock_driver();
    struct allocation *allocation = allocation_find(address);
    if (allocation) {
        *fact = (struct fact){.type = CU_MEMORYTYPE_DEVICE,
                              .base = allocation->base,
                              .bytes = allocation->bytes,
                              .context = allocation->context,
                              .device = device_of_gpu(allocation->gpu),
                              .id = allocation->id,
                              .managed = allocation->kind == ALLOCATION_MANAGED,
                              .pool = allocation->kind == ALLOCATION_POOL,
                              .sync_memops = allocation->sync_memops};
        if (fact->pool)
            fact->pool_handle = (CUmemoryPool)((struct piece *)allocation->owner)->chunk->pool;
    }
    unlock_driver();
    return allocation;
}

static bool from_host(uint64_t address, struct fact *fact) {
    lock_driver();
    struct host_range *range = host_range_find((uintptr_t)address);
    if (range) {
        struct context *context = (struct context *)range->context;
        *fact = (struct fact){.type = CU_MEMORYTYPE_HOST,
                              .base = range->base,
                              .bytes = range->bytes,
                              .context = context,
                              .device = context ? context->device : 0,
                              .id = range->base};
    }
    unlock_driver();
    return range;
}

static bool find(uint64_t address, struct fact *fact) {
    if (from_allocation(address, fact) || from_host(address, fact))
        return true;
    struct engine_range range;
    if (engine_memory_find(address, &range) || range.kind == ENGINE_RANGE_RESERVED)
        return false;
    *fact = (struct fact){.type = CU_MEMORYTYPE_DEVICE,
                          .base = range.base,
                          .bytes = range.bytes,
                          .device = device_of_gpu(range.gpu),
                          .id = range.base};
    return true;
}

static CUresult answer(const struct fact *fact, CUpointer_attribute attribute, CUdeviceptr address, void *data) {
    switch (attribute) {
    case CU_POINTER_ATTRIBUTE_CONTEXT:
        if (!fact->context)
            return CUDA_ERROR_INVALID_VALUE; /* memory of pools and mappings has none */
        *(CUcontext *)data = (CUcontext)fact->context;
        break;
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
        *(unsigned *)data = fact->type;
        break;
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
        *(CUdeviceptr *)data = address;
        break;
    case CU_POINTER_ATTRIBUTE_HOST_POINTER:
        if (fact->type != CU_MEMORYTYPE_HOST && !fact->managed)
            return CUDA_ERROR_INVALID_VALUE;
        *(void **)data = (void *)address;
        break;
    case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
        *(unsigned *)data = fact->sync_memops;
        break;
    case CU_POINTER_ATTRIBUTE_BUFFER_ID:
    case CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID:
        *(unsigned long long *)data = fact->id;
        break;
    case CU_POINTER_ATTRIBUTE_IS_MANAGED:
        *(unsigned *)data = fact->managed;
        break;
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
        *(int *)data = fact->device;
        break;
    case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
        *(unsigned *)data = fact->type == CU_MEMORYTYPE_DEVICE && !fact->pool && !fact->managed && fact->context;
        break;
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
    case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
        *(CUdeviceptr *)data = fact->base;
        break;
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
    case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
        *(size_t *)data = fact->bytes;
        break;
    case CU_POINTER_ATTRIBUTE_MAPPED:
        *(unsigned *)data = 1;
        break;
    case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
        *(unsigned long long *)data = 0;
        break;
    case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
        *(unsigned *)data = 0;
        break;
    case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
        *(CUDA_POINTER_ATTRIBUTE_ACCESS_FLAGS *)data = CU_POINTER_ATTRIBUTE_ACCESS_FLAG_READWRITE;
        break;
    case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
        *(CUmemoryPool *)data = fact->pool_handle;
        break;
    case CU_POINTER_ATTRIBUTE_IS_HW_DECOMPRESS_CAPABLE:
        *(unsigned *)data = 0;
        break;
    default:
        return CUDA_ERROR_INVALID_VALUE;
    }
    return CUDA_SUCCESS;
}

CUresult cuPointerGetAttribute(void *data, CUpointer_attribute attribute, CUdeviceptr address) {
    CUresult result = require_init();
    if (result)
        return result;
    struct fact fact;
    if (!data || !find(address, &fact))
        return CUDA_ERROR_INVALID_VALUE;
    return answer(&fact, attribute, address, data);
}

/* Unlike the call for one attribute, an address that is not known is no error: the answers are zeros. */
CUresult cuPointerGetAttributes(unsigned count, CUpointer_attribute *attributes, void **data, CUdeviceptr address) {
    CUresult result = require_init();
    if (result)
        return result;
    if (!count || !attributes || !data)
        return CUDA_ERROR_INVALID_VALUE;
    struct fact fact = {0};
    bool known = find(address, &fact);
    for (unsigned i = 0; i < count; i++) {
        if (!data[i])
            return CUDA_ERROR_INVALID_VALUE;
        if (known && answer(&fact, attributes[i], address, data[i]) == CUDA_SUCCESS)
            continue;
        bool narrow = attributes[i] == CU_POINTER_ATTRIBUTE_MEMORY_TYPE ||
                      attributes[i] == CU_POINTER_ATTRIBUTE_IS_MANAGED ||
                      attributes[i] == CU_POINTER_ATTRIBUTE_MAPPED || attributes[i] == CU_POINTER_ATTRIBUTE_SYNC_MEMOPS;
        if (attributes[i] == CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL)
            *(int *)data[i] = -2; /* what the driver calls memory it does not know */
        else
            memset(data[i], 0, narrow ? sizeof(unsigned) : sizeof(void *));
    }
    return CUDA_SUCCESS;
}

CUresult cuPointerSetAttribute(const void *value, CUpointer_attribute attribute, CUdeviceptr address) {
    CUresult result = require_init();
    if (result)
        return result;
    if (!value || attribute != CU_POINTER_ATTRIBUTE_SYNC_MEMOPS)
        return CUDA_ERROR_INVALID_VALUE;
    lock_driver();
    struct allocation *allocation = allocation_find(address);
    if (allocation)
        allocation->sync_memops = *(const unsigned *)value != 0;
    else
        result = CUDA_ERROR_INVALID_VALUE;
    unlock_driver();
    return result;
}
