/* Memory of a device, over all processes. */
#include "blocks.h"
#include "library.h"

/* The memory of a MIG device is its GPU instance's. */
static uint64_t instance_used_bytes(struct mig_place place) {
    node_lock(&nvml_self);
    reap_dead(&nvml_self);
    const struct node_gpu_instance *instance = mig_gpu_instance(nvml_self.node, place.gpu, place.gpu_instance);
    uint64_t used = instance ? instance->used_blocks << BLOCK_SHIFT : 0;
    node_unlock(&nvml_self);
    return used;
}

static nvmlReturn_t memory_info(nvmlDevice_t device, const void *asked, nvmlMemory_v2_t *ret_memory) {
    struct target target;
    nvmlReturn_t result = nvml_target(device, &target);
    if (result != NVML_SUCCESS)
        return result;
    if (!asked)
        return NVML_ERROR_INVALID_ARGUMENT;
    struct sim_gpu view = target.is_instance ? instance_view(target.place) : *target.gpu;
    uint64_t used = target.is_instance ? instance_used_bytes(target.place) : gpu_moment(target.gpu).used_bytes;
    *ret_memory = (nvmlMemory_v2_t){.version = nvmlMemory_v2,
                                    .total = view.memory_bytes + view.reserved_bytes,
                                    .reserved = view.reserved_bytes,
                                    .free = view.memory_bytes > used ? view.memory_bytes - used : 0,
                                    .used = used};
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory) {
    nvmlMemory_v2_t whole = {.version = nvmlMemory_v2};
    nvmlReturn_t result = memory_info(device, memory, &whole);
    /* the first version counts what the driver keeps for itself as used */
    if (result == NVML_SUCCESS)
        *memory = (nvmlMemory_t){.total = whole.total, .free = whole.free, .used = whole.reserved + whole.used};
    return result;
}

EXPORT nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory) {
    if (memory && memory->version != nvmlMemory_v2)
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    return memory_info(device, memory, memory);
}

EXPORT nvmlReturn_t nvmlDeviceGetBAR1MemoryInfo(nvmlDevice_t device, nvmlBAR1Memory_t *memory) {
    struct target target;
    nvmlReturn_t result = nvml_target(device, &target);
    if (result != NVML_SUCCESS)
        return result;
    if (!memory)
        return NVML_ERROR_INVALID_ARGUMENT;
    const unsigned long long used = 4 << 20; /* what an idle driver maps */
    unsigned long long total = target.gpu->bar1_bytes / (target.is_instance ? 2 : 1);
    *memory = (nvmlBAR1Memory_t){.bar1Total = total, .bar1Free = total - used, .bar1Used = used};
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
