/* Memory of a device, over all processes. */
#include "library.h"

EXPORT nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory) {
    const struct sim_gpu *gpu;
    nvmlReturn_t result = nvml_gpu(device, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    if (!memory)
        return NVML_ERROR_INVALID_ARGUMENT;
    uint64_t used = gpu_moment(gpu).used_bytes;
    /* the first version counts what the driver keeps for itself as used */
    *memory = (nvmlMemory_t){.total = gpu->memory_bytes + gpu->reserved_bytes,
                             .free = gpu->memory_bytes - used,
                             .used = gpu->reserved_bytes + used};
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory) {
    const struct sim_gpu *gpu;
    nvmlReturn_t result = nvml_gpu(device, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    if (!memory)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (memory->version != nvmlMemory_v2)
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    uint64_t used = gpu_moment(gpu).used_bytes;
    *memory = (nvmlMemory_v2_t){.version = nvmlMemory_v2,
                                .total = gpu->memory_bytes + gpu->reserved_bytes,
                                .reserved = gpu->reserved_bytes,
                                .free = gpu->memory_bytes - used,
                                .used = used};
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetBAR1MemoryInfo(nvmlDevice_t device, nvmlBAR1Memory_t *memory) {
    const struct sim_gpu *gpu;
    nvmlReturn_t result = nvml_gpu(device, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    if (!memory)
        return NVML_ERROR_INVALID_ARGUMENT;
    const unsigned long long used = 4 << 20; /* what an idle driver maps */
    *memory = (nvmlBAR1Memory_t){.bar1Total = gpu->bar1_bytes, .bar1Free = gpu->bar1_bytes - used, .bar1Used = used};
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetConfComputeMemSizeInfo(nvmlDevice_t device, nvmlConfComputeMemSizeInfo_t *sizes) {
    const struct sim_gpu *gpu;
    nvmlReturn_t result = nvml_gpu(device, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    if (!sizes)
        return NVML_ERROR_INVALID_ARGUMENT;
    *sizes = (nvmlConfComputeMemSizeInfo_t){.unprotectedMemSizeKib = gpu->memory_bytes >> 10};
    return NVML_SUCCESS;
}
