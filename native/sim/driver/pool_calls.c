/* Making, ending and looking at pools. */
#include "pool_chunk.h"
#include "sim.h"

static CUresult gpu_of(const CUmemLocation *location, CUdevice *ret_device) {
    if (!location || location->type != CU_MEM_LOCATION_TYPE_DEVICE)
        return CUDA_ERROR_NOT_SUPPORTED;
    if (device_gpu(location->id) < 0)
        return CUDA_ERROR_INVALID_DEVICE;
    *ret_device = location->id;
    return CUDA_SUCCESS;
}

CUresult cuMemPoolCreate(CUmemoryPool *handle, const CUmemPoolProps *properties) {
    CUresult result = require_init();
    if (result)
        return result;
    if (!handle || !properties || properties->allocType != CU_MEM_ALLOCATION_TYPE_PINNED)
        return CUDA_ERROR_INVALID_VALUE;
    if (properties->handleTypes != CU_MEM_HANDLE_TYPE_NONE)
        return CUDA_ERROR_NOT_SUPPORTED;
    CUdevice device;
    result = gpu_of(&properties->location, &device);
    if (result)
        return result;
    pthread_mutex_lock(&pool_lock);
    struct pool *pool = pool_new((unsigned)device_gpu(device), properties);
    pthread_mutex_unlock(&pool_lock);
    if (!pool)
        return CUDA_ERROR_OUT_OF_MEMORY;
    *handle = (CUmemoryPool)pool;
    return CUDA_SUCCESS;
}

static CUresult find(CUmemoryPool handle, struct pool **ret_pool) {
    CUresult result = require_init();
    if (result)
        return result;
    *ret_pool = pool_check(handle);
    return *ret_pool && !(*ret_pool)->dying ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuMemPoolDestroy(CUmemoryPool handle) {
    struct pool *pool;
    CUresult result = find(handle, &pool);
    if (result)
        return result;
    if (pool->is_default)
        return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&pool_lock);
    pool_destroy(pool);
    pthread_mutex_unlock(&pool_lock);
    return CUDA_SUCCESS;
}

CUresult cuMemPoolTrimTo(CUmemoryPool handle, size_t keep) {
    struct pool *pool;
    CUresult result = find(handle, &pool);
    if (result)
        return result;
    pthread_mutex_lock(&pool_lock);
    pool_trim(pool, keep);
    pthread_mutex_unlock(&pool_lock);
    return CUDA_SUCCESS;
}

CUresult cuMemPoolGetAttribute(CUmemoryPool handle, CUmemPool_attribute attribute, void *value) {
    struct pool *pool;
    CUresult result = find(handle, &pool);
    if (result)
        return result;
    if (!value)
        return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&pool_lock);
    switch (attribute) {
    case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
        *(int *)value = pool->reuse[attribute - 1];
        break;
    case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
        *(cuuint64_t *)value = pool->release_threshold;
        break;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT:
        *(cuuint64_t *)value = pool->reserved;
        break;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
        *(cuuint64_t *)value = pool->reserved_high;
        break;
    case CU_MEMPOOL_ATTR_USED_MEM_CURRENT:
        *(cuuint64_t *)value = pool->used;
        break;
    case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
        *(cuuint64_t *)value = pool->used_high;
        break;
    case CU_MEMPOOL_ATTR_ALLOCATION_TYPE:
        *(CUmemAllocationType *)value = pool->properties.allocType;
        break;
    case CU_MEMPOOL_ATTR_EXPORT_HANDLE_TYPES:
        *(CUmemAllocationHandleType *)value = CU_MEM_HANDLE_TYPE_NONE;
        break;
    case CU_MEMPOOL_ATTR_LOCATION_ID:
        *(int *)value = pool->properties.location.id;
        break;
    case CU_MEMPOOL_ATTR_LOCATION_TYPE:
        *(CUmemLocationType *)value = pool->properties.location.type;
        break;
    case CU_MEMPOOL_ATTR_MAX_POOL_SIZE:
        *(cuuint64_t *)value = pool->properties.maxSize;
        break;
    case CU_MEMPOOL_ATTR_HW_DECOMPRESS_ENABLED:
        *(int *)value = 0;
        break;
    default:
        result = CUDA_ERROR_INVALID_VALUE;
    }
    pthread_mutex_unlock(&pool_lock);
    return result;
}

CUresult cuMemPoolSetAttribute(CUmemoryPool handle, CUmemPool_attribute attribute, void *value) {
    struct pool *pool;
    CUresult result = find(handle, &pool);
    if (result)
        return result;
    if (!value)
        return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&pool_lock);
    switch (attribute) {
    case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
        pool->reuse[attribute - 1] = *(int *)value;
        break;
    case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
        pool->release_threshold = *(cuuint64_t *)value;
        break;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH: /* a high mark can only be reset */
        if (*(cuuint64_t *)value)
            result = CUDA_ERROR_INVALID_VALUE;
        else
            pool->reserved_high = pool->reserved;
        break;
    case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
        if (*(cuuint64_t *)value)
            result = CUDA_ERROR_INVALID_VALUE;
        else
            pool->used_high = pool->used;
        break;
    default:
        result = CUDA_ERROR_INVALID_VALUE;
    }
    pthread_mutex_unlock(&pool_lock);
    return result;
}

CUresult cuMemPoolSetAccess(CUmemoryPool handle, const CUmemAccessDesc *access, size_t count) {
    struct pool *pool;
    CUresult result = find(handle, &pool);
    if (result)
        return result;
    if (!access && count)
        return CUDA_ERROR_INVALID_VALUE;
    for (size_t i = 0; i < count; i++) {
        CUdevice device;
        result = gpu_of(&access[i].location, &device);
        if (result)
            return result;
        uint32_t bit = UINT32_C(1) << device_gpu(device);
        bool own = (unsigned)device_gpu(device) == pool->gpu;
        if (own && access[i].flags != CU_MEM_ACCESS_FLAGS_PROT_READWRITE)
            return CUDA_ERROR_INVALID_VALUE;
        pool->access = access[i].flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE ? pool->access | bit : pool->access & ~bit;
    }
    return CUDA_SUCCESS;
}

CUresult cuMemPoolGetAccess(CUmemAccess_flags *flags, CUmemoryPool handle, CUmemLocation *location) {
    struct pool *pool;
    CUresult result = find(handle, &pool);
    if (result)
        return result;
    CUdevice device;
    result = gpu_of(location, &device);
    if (result)
        return result;
    if (!flags)
        return CUDA_ERROR_INVALID_VALUE;
    unsigned gpu = (unsigned)device_gpu(device);
    bool may = gpu == pool->gpu || pool->access >> gpu & 1;
    *flags = may ? CU_MEM_ACCESS_FLAGS_PROT_READWRITE : CU_MEM_ACCESS_FLAGS_PROT_NONE;
    return CUDA_SUCCESS;
}

static CUresult answer(CUmemoryPool *handle, CUdevice device, bool current) {
    CUresult result = require_init();
    if (result)
        return result;
    if (device_gpu(device) < 0)
        return CUDA_ERROR_INVALID_DEVICE;
    if (!handle)
        return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&pool_lock);
    struct pool *pool = current ? *pool_current(device) : pool_default(device);
    pthread_mutex_unlock(&pool_lock);
    *handle = (CUmemoryPool)pool;
    return pool ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuDeviceGetDefaultMemPool(CUmemoryPool *handle, CUdevice device) {
    return answer(handle, device, false);
}
CUresult cuDeviceGetMemPool(CUmemoryPool *handle, CUdevice device) {
    return answer(handle, device, true);
}

CUresult cuDeviceSetMemPool(CUdevice device, CUmemoryPool handle) {
    struct pool *pool;
    CUresult result = find(handle, &pool);
    if (result)
        return result;
    int gpu = device_gpu(device);
    if (gpu < 0)
        return CUDA_ERROR_INVALID_DEVICE;
    if (pool->gpu != (unsigned)gpu)
        return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&pool_lock);
    *pool_current(device) = pool;
    pthread_mutex_unlock(&pool_lock);
    return CUDA_SUCCESS;
}

CUresult cuMemGetDefaultMemPool(CUmemoryPool *handle, CUmemLocation *location, CUmemAllocationType type) {
    CUdevice device;
    CUresult result = require_init();
    if (!result && type != CU_MEM_ALLOCATION_TYPE_PINNED)
        result = CUDA_ERROR_NOT_SUPPORTED;
    if (!result)
        result = gpu_of(location, &device);
    return result ? result : answer(handle, device, false);
}
CUresult cuMemGetMemPool(CUmemoryPool *handle, CUmemLocation *location, CUmemAllocationType type) {
    CUdevice device;
    CUresult result = require_init();
    if (!result && type != CU_MEM_ALLOCATION_TYPE_PINNED)
        result = CUDA_ERROR_NOT_SUPPORTED;
    if (!result)
        result = gpu_of(location, &device);
    return result ? result : answer(handle, device, true);
}
CUresult cuMemSetMemPool(CUmemLocation *location, CUmemAllocationType type, CUmemoryPool pool) {
    CUdevice device;
    CUresult result = require_init();
    if (!result && type != CU_MEM_ALLOCATION_TYPE_PINNED)
        result = CUDA_ERROR_NOT_SUPPORTED;
    if (!result)
        result = gpu_of(location, &device);
    return result ? result : cuDeviceSetMemPool(device, pool);
}
