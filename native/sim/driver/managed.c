/* Hints for managed memory. It never moves here, so that a hint is checked and changes nothing. */
#include "sim.h"

static CUresult check(CUdeviceptr address, size_t bytes) {
    CUresult result = require_init();
    if (result)
        return result;
    if (!bytes)
        return CUDA_ERROR_INVALID_VALUE;
    lock_driver();
    struct allocation *allocation = allocation_find(address);
    bool managed =
        allocation && allocation->kind == ALLOCATION_MANAGED && address + bytes <= allocation->base + allocation->bytes;
    unlock_driver();
    return managed ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

static CUresult check_location(const CUmemLocation *location) {
    if (location->type == CU_MEM_LOCATION_TYPE_DEVICE && device_gpu(location->id) < 0)
        return CUDA_ERROR_INVALID_DEVICE;
    return location->type > CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

static CUmemLocation from_device(CUdevice device) {
    CUmemLocation location = {.type = CU_MEM_LOCATION_TYPE_HOST};
    if (device != CU_DEVICE_CPU)
        location = (CUmemLocation){.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = device};
    return location;
}

CUresult cuMemAdvise_v2(CUdeviceptr address, size_t bytes, CUmem_advise advice, CUmemLocation location) {
    CUresult result = check(address, bytes);
    if (!result)
        result = check_location(&location);
    if (result)
        return result;
    return advice < CU_MEM_ADVISE_SET_READ_MOSTLY || advice > CU_MEM_ADVISE_UNSET_ACCESSED_BY ? CUDA_ERROR_INVALID_VALUE
                                                                                              : CUDA_SUCCESS;
}
CUresult cuMemAdvise(CUdeviceptr address, size_t bytes, CUmem_advise advice, CUdevice device) {
    return cuMemAdvise_v2(address, bytes, advice, from_device(device));
}

CUresult cuMemPrefetchAsync_v2(CUdeviceptr address, size_t bytes, CUmemLocation location, unsigned flags,
                               CUstream handle) {
    struct stream *stream;
    CUresult result = stream_find(handle, &stream);
    if (!result && flags)
        result = CUDA_ERROR_INVALID_VALUE;
    if (!result)
        result = check(address, bytes);
    if (!result)
        result = check_location(&location);
    return result ? result : stream_submit(stream, &(struct engine_op){.kind = ENGINE_OP_MARK}, NULL);
}
CUresult cuMemPrefetchAsync(CUdeviceptr address, size_t bytes, CUdevice device, CUstream stream) {
    return cuMemPrefetchAsync_v2(address, bytes, from_device(device), 0, stream);
}

/* Memory that never moved anywhere was never advised or prefetched either. */
CUresult cuMemRangeGetAttribute(void *data, size_t data_bytes, CUmem_range_attribute attribute, CUdeviceptr address,
                                size_t bytes) {
    CUresult result = check(address, bytes);
    if (result)
        return result;
    if (!data || data_bytes < sizeof(int) || data_bytes % sizeof(int))
        return CUDA_ERROR_INVALID_VALUE;
    int nowhere = CU_DEVICE_INVALID;
    switch (attribute) {
    case CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY:
        *(int *)data = 0;
        return CUDA_SUCCESS;
    case CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION:
    case CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION:
        *(int *)data = nowhere;
        return CUDA_SUCCESS;
    case CU_MEM_RANGE_ATTRIBUTE_ACCESSED_BY:
        for (size_t i = 0; i < data_bytes / sizeof(int); i++)
            ((int *)data)[i] = nowhere;
        return CUDA_SUCCESS;
    default:
        return CUDA_ERROR_NOT_SUPPORTED;
    }
}

CUresult cuMemRangeGetAttributes(void **data, size_t *data_bytes, CUmem_range_attribute *attributes, size_t count,
                                 CUdeviceptr address, size_t bytes) {
    CUresult result = require_init();
    if (!result && (!data || !data_bytes || !attributes || !count))
        result = CUDA_ERROR_INVALID_VALUE;
    for (size_t i = 0; !result && i < count; i++)
        result = cuMemRangeGetAttribute(data[i], data_bytes[i], attributes[i], address, bytes);
    return result;
}
