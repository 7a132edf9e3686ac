/* Memory of the share: the limit is all there is, what is charged is what is used. */
#include "nvml/view.h"
#include "processes.h"

struct share_memory {
    uint64_t total, used, free;
};

/* False: not a device of a share. */
static bool read_memory(nvmlDevice_t device, uint64_t card_free, struct share_memory *ret_memory) {
    const struct nvml_gpu *gpu = nvml_view_gpu(device);
    struct gpuslice_limits limits;
    if (!gpu || !gpuslice_limits_read(gpu->tenant->share.grant, &limits))
        return false;
    uint64_t used = processes_held_bytes(&gpu->tenant->share);
    uint64_t rest = used < limits.memory_bytes ? limits.memory_bytes - used : 0;
    *ret_memory = (struct share_memory){limits.memory_bytes, used, rest < card_free ? rest : card_free};
    return true;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory) {
    nvmlReturn_t result = real_nvml.nvmlDeviceGetMemoryInfo(device, memory);
    struct share_memory share;
    if (result == NVML_SUCCESS && read_memory(device, memory->free, &share))
        *memory = (nvmlMemory_t){.total = share.total, .free = share.free, .used = share.used};
    return result;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory) {
    nvmlReturn_t result = real_nvml.nvmlDeviceGetMemoryInfo_v2(device, memory);
    struct share_memory share;
    if (result == NVML_SUCCESS && read_memory(device, memory->free, &share)) {
        memory->total = share.total;
        memory->reserved = 0; /* the limit is net of what the driver keeps for itself */
        memory->free = share.free;
        memory->used = share.used;
    }
    return result;
}
