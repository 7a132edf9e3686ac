/* What a device says of itself: its memory is the share's limit. */
#include "tenant.h"

/* The limit in force, or 0: not a device of a share. */
static uint64_t limit_of(CUdevice device) {
    const struct tenant_gpu *gpu = tenant_gpu(device);
    struct gpuslice_limits limits;
    return gpu && gpuslice_limits_read(gpu->share.grant, &limits) ? limits.memory_bytes : 0;
}

CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice dev) {
    CUresult result = real.cuDeviceTotalMem_v2(bytes, dev);
    uint64_t limit = limit_of(dev);
    if (result == CUDA_SUCCESS && limit && limit < *bytes)
        *bytes = limit;
    return result;
}

/* Of CUDA 2.0, in 32 bits. */
CUresult cuDeviceTotalMem(unsigned int *bytes, CUdevice dev) {
    CUresult result = real.cuDeviceTotalMem(bytes, dev);
    uint64_t limit = limit_of(dev);
    if (result == CUDA_SUCCESS && limit && limit < *bytes)
        *bytes = (unsigned int)limit;
    return result;
}
