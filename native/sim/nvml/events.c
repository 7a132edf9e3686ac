/* Event sets: each keeps its place in the node's events. */
#include <stdlib.h>

#include "effects.h"
#include "library.h"

struct nvmlEventSet_st {
    unsigned long long types[SIM_GPUS_MAX]; /* registered, by GPU */
    uint64_t since[SIM_GPUS_MAX];           /* events before this are not of the registration */
    uint64_t seen;                          /* of node->event_count */
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
    node_lock(&nvml_self);
    created->seen = nvml_self.node->event_count;
    node_unlock(&nvml_self);
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
    if (gpu->architecture >= SIM_AMPERE)
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
    node_lock(&nvml_self);
    if (!set->types[gpu_index(gpu)])
        set->since[gpu_index(gpu)] = nvml_self.node->event_count;
    node_unlock(&nvml_self);
    set->types[gpu_index(gpu)] |= types;
    return NVML_SUCCESS;
}

/* The next event that the set is registered for. A GPU that is lost tells so this way, too. */
static bool next_event(nvmlEventSet_t set, nvmlEventData_t *ret_data) {
    struct node_file *node = nvml_self.node;
    bool found = false;
    node_lock(&nvml_self);
    if (node->event_count - set->seen > NODE_EVENTS) /* the older ones are overwritten */
        set->seen = node->event_count - NODE_EVENTS;
    while (!found && set->seen < node->event_count) {
        const struct node_event *event = &node->events[set->seen % NODE_EVENTS];
        found = (set->types[event->gpu] & event->type) && set->seen >= set->since[event->gpu];
        if (found)
            *ret_data = (nvmlEventData_t){.device = gpu_handle((unsigned)event->gpu),
                                          .eventType = event->type,
                                          .eventData = event->data,
                                          .gpuInstanceId = (unsigned)event->gpu_instance,
                                          .computeInstanceId = (unsigned)event->compute_instance};
        set->seen++;
    }
    node_unlock(&nvml_self);
    return found;
}

static nvmlReturn_t wait_for_event(nvmlEventSet_t set, nvmlEventData_t *data, unsigned timeout_ms) {
    nvmlReturn_t result = nvml_ready();
    if (result != NVML_SUCCESS)
        return result;
    if (!set || !data)
        return NVML_ERROR_INVALID_ARGUMENT;
    uint64_t until = now_ns() + timeout_ms * UINT64_C(1000000);
    for (;;) {
        /* read before the look: what comes after it grows the word, and the sleep returns at once */
        uint32_t bell = atomic_load_explicit(&nvml_self.node->bell, memory_order_acquire);
        if (next_event(set, data))
            return NVML_SUCCESS;
        if (now_ns() >= until)
            return NVML_ERROR_TIMEOUT;
        sleep_on(&nvml_self.node->bell, bell, until);
    }
}

EXPORT nvmlReturn_t nvmlEventSetWait(nvmlEventSet_t set, nvmlEventData_t *data, unsigned int timeout_ms) {
    return wait_for_event(set, data, timeout_ms);
}

EXPORT nvmlReturn_t nvmlEventSetWait_v2(nvmlEventSet_t set, nvmlEventData_t *data, unsigned int timeout_ms) {
    return wait_for_event(set, data, timeout_ms);
}
