/* Lists of GPUs that NVML fills: asked for whole, handed on without those that are not shown. */
#include "nvml/view.h"

#define GPUS_MAX 256

typedef nvmlReturn_t (*lister)(void *context, unsigned int *count, nvmlDevice_t *devices);

/* As NVML: `devices` NULL or too small gives the number that there is. */
static nvmlReturn_t list(lister lister, void *context, unsigned int *count, nvmlDevice_t *devices) {
    if (!nvml_view_active() || !count)
        return lister(context, count, devices);
    nvmlDevice_t all[GPUS_MAX];
    unsigned int found = GPUS_MAX;
    nvmlReturn_t result = lister(context, &found, all);
    if (result != NVML_SUCCESS)
        return result;
    found = nvml_view_filter(all, found);
    unsigned int capacity = *count;
    *count = found;
    if (!devices)
        return NVML_SUCCESS;
    for (unsigned int i = 0; i < found && i < capacity; i++)
        devices[i] = all[i];
    return found > capacity ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

struct nearest {
    nvmlDevice_t device;
    nvmlGpuTopologyLevel_t level;
};

static nvmlReturn_t list_nearest(void *context, unsigned int *count, nvmlDevice_t *devices) {
    const struct nearest *nearest = context;
    return real_nvml.nvmlDeviceGetTopologyNearestGpus(nearest->device, nearest->level, count, devices);
}

nvmlReturn_t nvmlDeviceGetTopologyNearestGpus(nvmlDevice_t device, nvmlGpuTopologyLevel_t level, unsigned int *count,
                                              nvmlDevice_t *deviceArray) {
    return list(list_nearest, &(struct nearest){device, level}, count, deviceArray);
}

static nvmlReturn_t list_of_cpu(void *context, unsigned int *count, nvmlDevice_t *devices) {
    return real_nvml.nvmlSystemGetTopologyGpuSet(*(unsigned int *)context, count, devices);
}

nvmlReturn_t nvmlSystemGetTopologyGpuSet(unsigned int cpuNumber, unsigned int *count, nvmlDevice_t *deviceArray) {
    return list(list_of_cpu, &cpuNumber, count, deviceArray);
}

static nvmlReturn_t list_of_unit(void *context, unsigned int *count, nvmlDevice_t *devices) {
    return real_nvml.nvmlUnitGetDevices(*(nvmlUnit_t *)context, count, devices);
}

nvmlReturn_t nvmlUnitGetDevices(nvmlUnit_t unit, unsigned int *deviceCount, nvmlDevice_t *devices) {
    return list(list_of_unit, &unit, deviceCount, devices);
}
