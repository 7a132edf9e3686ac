/* Event sets. Nothing goes wrong on a simulated node until a fault is injected, so a wait ends with its timeout. */
#include <stdlib.h>
#include <time.h>

#include "library.h"

struct nvmlEventSet_st {
    unsigned long long types[SIM_GPUS_MAX]; /* registered, by GPU */
};

EXPORT nvmlReturn_t nvmlEventSetCreate(nvmlEventSet_t *set) {
    nvmlReturn_t result = nvml_ready();
    if (result != NVML_SUCCESS)
        return result;
    if (!set)
        return NVML_ERROR_INVALID_ARGUMENT;
    struct nvmlEventSet_st *created = calloc(1, sizeof *created);
    if (!created)
        return NVML_ERROR_MEMORY;
    *set = created;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlEventSetFree(nvmlEventSet_t set) {
    nvmlReturn_t result = nvml_ready();
    if (result == NVML_SUCCESS && !set)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS)
        free(set);
    return result;
}

static unsigned long long supported(const struct sim_gpu *gpu) {
    unsigned long long types = nvmlEventTypeXidCriticalError | nvmlEventTypePState | nvmlEventTypeClock;
    if (gpu->has_ecc)
        types |= nvmlEventTypeSingleBitEccError | nvmlEventTypeDoubleBitEccError;
    if (gpu->architecture >= SIM_HOPPER)
        types |= nvmlEventTypeGpuUnavailableError | nvmlEventTypeGpuRecoveryAction;
    return types;
}

GETTER(nvmlDeviceGetSupportedEventTypes, unsigned long long, supported(gpu))

EXPORT nvmlReturn_t nvmlDeviceRegisterEvents(nvmlDevice_t device, unsigned long long types, nvmlEventSet_t set) {
    const struct sim_gpu *gpu;
    nvmlReturn_t result = nvml_gpu(device, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    if (!set)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (types & ~supported(gpu))
        return NVML_ERROR_NOT_SUPPORTED;
    set->types[gpu_index(gpu)] |= types;
    return NVML_SUCCESS;
}

static nvmlReturn_t wait_for_event(nvmlEventSet_t set, const nvmlEventData_t *data, unsigned timeout_ms) {
    nvmlReturn_t result = nvml_ready();
    if (result != NVML_SUCCESS)
        return result;
    if (!set || !data)
        return NVML_ERROR_INVALID_ARGUMENT;
    const struct timespec timeout = {.tv_sec = timeout_ms / 1000, .tv_nsec = timeout_ms % 1000 * 1000000L};
    clock_nanosleep(CLOCK_MONOTONIC, 0, &timeout, NULL);
    return NVML_ERROR_TIMEOUT;
}

EXPORT nvmlReturn_t nvmlEventSetWait(nvmlEventSet_t set, nvmlEventData_t *data, unsigned int timeout_ms) {
    return wait_for_event(set, data, timeout_ms);
}

EXPORT nvmlReturn_t nvmlEventSetWait_v2(nvmlEventSet_t set, nvmlEventData_t *data, unsigned int timeout_ms) {
    return wait_for_event(set, data, timeout_ms);
}
