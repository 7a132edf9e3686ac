/* Process lists: the processes of the share and what is charged to each. */
#include "processes.h"
#include "nvml/view.h"

#define INSTANCE_NONE 0xffffffffu /* what NVML says where there is no MIG */

struct list {
    unsigned count;
    nvmlProcessInfo_t processes[GPUSLICE_SLOTS];
};

typedef nvmlReturn_t (*real_lister)(nvmlDevice_t device, unsigned int *count, nvmlProcessInfo_t *infos);

/* Only errors matter: the handle may be stale, or NVML not initialised. */
static nvmlReturn_t check(nvmlDevice_t device) {
    unsigned int count = 0;
    nvmlReturn_t result = real_nvml.nvmlDeviceGetComputeRunningProcesses_v3(device, &count, NULL);
    return result == NVML_ERROR_INSUFFICIENT_SIZE || result == NVML_ERROR_FUNCTION_NOT_FOUND ? NVML_SUCCESS : result;
}

static nvmlReturn_t list_compute(const struct nvml_gpu *gpu, struct list *list) {
    struct share_process processes[GPUSLICE_SLOTS];
    nvmlReturn_t result = check(gpu->device);
    if (result != NVML_SUCCESS)
        return result;
    unsigned int gpu_instance = INSTANCE_NONE, compute_instance = INSTANCE_NONE;
    if (gpu->device != gpu->board) {
        real_nvml.nvmlDeviceGetGpuInstanceId(gpu->device, &gpu_instance);
        real_nvml.nvmlDeviceGetComputeInstanceId(gpu->device, &compute_instance);
    }
    unsigned count = processes_list(&gpu->tenant->share, processes, GPUSLICE_SLOTS);
    for (unsigned i = 0; i < count; i++)
        list->processes[i] = (nvmlProcessInfo_t){.pid = processes[i].pid,
                                                 .usedGpuMemory = processes[i].held_bytes,
                                                 .gpuInstanceId = gpu_instance,
                                                 .computeInstanceId = compute_instance};
    list->count = count;
    return NVML_SUCCESS;
}

/* Of what the driver lists, only the share's processes: for graphics and MPS, where the shim charges nothing itself. */
static nvmlReturn_t list_filtered(const struct nvml_gpu *gpu, real_lister lister, struct list *list) {
    unsigned int count = GPUSLICE_SLOTS;
    nvmlReturn_t result = lister(gpu->device, &count, list->processes);
    if (result != NVML_SUCCESS)
        return result;
    for (unsigned i = 0; i < count; i++)
        if (processes_include(&gpu->tenant->share, list->processes[i].pid))
            list->processes[list->count++] = list->processes[i];
    return NVML_SUCCESS;
}

enum kind { COMPUTE, GRAPHICS, MPS };

static nvmlReturn_t collect(const struct nvml_gpu *gpu, enum kind kind, struct list *list) {
    list->count = 0;
    switch (kind) {
    case GRAPHICS:
        return list_filtered(gpu, real_nvml.nvmlDeviceGetGraphicsRunningProcesses_v3, list);
    case MPS:
        return list_filtered(gpu, real_nvml.nvmlDeviceGetMPSComputeRunningProcesses_v3, list);
    default:
        return list_compute(gpu, list);
    }
}

/* As NVML: always says how many there are, and fills nothing where there is too little room. */
static nvmlReturn_t room_for(const struct list *list, unsigned int *count, const void *array) {
    unsigned int capacity = array ? *count : 0;
    *count = list->count;
    return list->count > capacity ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

static nvmlReturn_t answer_v1(const struct nvml_gpu *gpu, enum kind kind, unsigned int *count,
                              nvmlProcessInfo_v1_t *infos) {
    struct list list;
    nvmlReturn_t result = count ? collect(gpu, kind, &list) : NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS)
        result = room_for(&list, count, infos);
    for (unsigned i = 0; result == NVML_SUCCESS && i < list.count; i++)
        infos[i] = (nvmlProcessInfo_v1_t){list.processes[i].pid, list.processes[i].usedGpuMemory};
    return result;
}

/* Versions 2 and 3 have one struct. */
static nvmlReturn_t answer(const struct nvml_gpu *gpu, enum kind kind, unsigned int *count, nvmlProcessInfo_t *infos) {
    struct list list;
    nvmlReturn_t result = count ? collect(gpu, kind, &list) : NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS)
        result = room_for(&list, count, infos);
    for (unsigned i = 0; result == NVML_SUCCESS && i < list.count; i++)
        infos[i] = list.processes[i];
    return result;
}

#define LISTS(name, kind)                                                                                              \
    nvmlReturn_t name(nvmlDevice_t device, unsigned int *infoCount, nvmlProcessInfo_v1_t *infos) {                     \
        const struct nvml_gpu *gpu = nvml_view_gpu(device);                                                            \
        return gpu ? answer_v1(gpu, kind, infoCount, infos) : real_nvml.name(device, infoCount, infos);                \
    }                                                                                                                  \
    nvmlReturn_t name##_v2(nvmlDevice_t device, unsigned int *infoCount, nvmlProcessInfo_v2_t *infos) {                \
        const struct nvml_gpu *gpu = nvml_view_gpu(device);                                                            \
        return gpu ? answer(gpu, kind, infoCount, infos) : real_nvml.name##_v2(device, infoCount, infos);              \
    }                                                                                                                  \
    nvmlReturn_t name##_v3(nvmlDevice_t device, unsigned int *infoCount, nvmlProcessInfo_t *infos) {                   \
        const struct nvml_gpu *gpu = nvml_view_gpu(device);                                                            \
        return gpu ? answer(gpu, kind, infoCount, infos) : real_nvml.name##_v3(device, infoCount, infos);              \
    }

LISTS(nvmlDeviceGetComputeRunningProcesses, COMPUTE)
LISTS(nvmlDeviceGetGraphicsRunningProcesses, GRAPHICS)
LISTS(nvmlDeviceGetMPSComputeRunningProcesses, MPS)

nvmlReturn_t nvmlDeviceGetRunningProcessDetailList(nvmlDevice_t device, nvmlProcessDetailList_t *plist) {
    const struct nvml_gpu *gpu = nvml_view_gpu(device);
    struct list list;
    if (!gpu)
        return real_nvml.nvmlDeviceGetRunningProcessDetailList(device, plist);
    if (!plist || plist->mode >= NVML_PROCESS_MODE_MAX)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (plist->version != nvmlProcessDetailList_v1)
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    enum kind kind = plist->mode == NVML_PROCESS_MODE_GRAPHICS ? GRAPHICS
                     : plist->mode == NVML_PROCESS_MODE_MPS    ? MPS
                                                               : COMPUTE;
    nvmlReturn_t result = collect(gpu, kind, &list);
    if (result == NVML_SUCCESS)
        result = room_for(&list, &plist->numProcArrayEntries, plist->procArray);
    for (unsigned i = 0; result == NVML_SUCCESS && i < list.count; i++)
        plist->procArray[i] = (nvmlProcessDetail_v1_t){.pid = list.processes[i].pid,
                                                       .usedGpuMemory = list.processes[i].usedGpuMemory,
                                                       .gpuInstanceId = list.processes[i].gpuInstanceId,
                                                       .computeInstanceId = list.processes[i].computeInstanceId};
    return result;
}
