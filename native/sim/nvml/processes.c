/* Process lists, in the sizes of every version of them, and what each process uses. */
#include "library.h"
#include "pids.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "blocks.h"
#include "timeline.h"

#define NO_INSTANCE 0xFFFFFFFFu /* not in a MIG instance */

struct seen_process {
    uint64_t pid, pid_namespace;
};
struct gpu_process {
    unsigned pid; /* as this process sees it */
    unsigned gpu_instance, compute_instance;
    uint64_t used_bytes;
    double busy; /* 0 to 1: its part of the GPU, of about the last second */
};

/* Fills up to NODE_PROCESSES; how many. Processes without a pid here are left out, as the driver leaves them out. */
static unsigned processes_on(const struct target *target, struct gpu_process *processes) {
    struct node_file *node = nvml_self.node;
    struct seen_process *seen = calloc(NODE_PROCESSES, sizeof *seen);
    unsigned count = 0, g = gpu_index(target->gpu);
    if (!seen)
        return 0;
    node_lock(&nvml_self);
    reap_dead(&nvml_self);
    timeline_advance(node, now_ns());
    for (unsigned p = 0; p < node->process_count; p++) {
        const struct node_process *process = &node->processes[p];
        const struct node_process_gpu *use = &process->gpus[g];
        if (!process->live || process->observer || use->contexts == 0)
            continue;
        if (target->is_instance && process->instance != mig_name(target->place))
            continue;
        struct mig_place place = mig_place(process->instance);
        seen[count] = (struct seen_process){process->pid, process->pid_namespace};
        processes[count++] = (struct gpu_process){
            .gpu_instance = process->instance ? place.gpu_instance : NO_INSTANCE,
            .compute_instance = process->instance ? place.compute_instance : NO_INSTANCE,
            .used_bytes = use->blocks << BLOCK_SHIFT,
            .busy = timeline_rate(&use->meter, node->timeline.now_ns, use->busy, 1 << NODE_TIME_SHIFT)};
    }
    node_unlock(&nvml_self);
    unsigned visible = 0;
    for (unsigned i = 0; i < count; i++) { /* reads /proc: not under the lock */
        processes[visible] = processes[i];
        processes[visible].pid = pid_seen(seen[i].pid, seen[i].pid_namespace);
        visible += processes[visible].pid != 0;
    }
    free(seen);
    return visible;
}

/* --- running processes -------------------------------------------------------------------------------------- */

typedef void write_process(void *array, unsigned i, const struct gpu_process *process);

static void write_v1(void *array, unsigned i, const struct gpu_process *process) {
    ((nvmlProcessInfo_v1_t *)array)[i] = (nvmlProcessInfo_v1_t){process->pid, process->used_bytes};
}

static void write_v2(void *array, unsigned i, const struct gpu_process *process) {
    ((nvmlProcessInfo_v2_t *)array)[i] =
        (nvmlProcessInfo_v2_t){process->pid, process->used_bytes, process->gpu_instance, process->compute_instance};
}

static nvmlReturn_t list(nvmlDevice_t device, unsigned *count, void *array, write_process *write) {
    struct target target;
    nvmlReturn_t result = nvml_target(device, &target);
    if (result != NVML_SUCCESS)
        return result;
    if (!count)
        return NVML_ERROR_INVALID_ARGUMENT;
    struct gpu_process *processes = calloc(NODE_PROCESSES, sizeof *processes);
    if (!processes)
        return NVML_ERROR_MEMORY;
    unsigned room = *count;
    *count = processes_on(&target, processes);
    if (*count > room || (*count > 0 && !array))
        result = NVML_ERROR_INSUFFICIENT_SIZE;
    for (unsigned i = 0; result == NVML_SUCCESS && i < *count; i++)
        write(array, i, &processes[i]);
    free(processes);
    return result;
}

/* Nothing but CUDA runs here. */
static nvmlReturn_t none(nvmlDevice_t device, unsigned *count) {
    struct target target;
    nvmlReturn_t result = nvml_target(device, &target);
    if (result == NVML_SUCCESS && !count)
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS)
        *count = 0;
    return result;
}

#define COMPUTE_LIST(function, type, write)                                                                            \
    EXPORT nvmlReturn_t function(nvmlDevice_t device, unsigned int *count, type *infos) {                              \
        return list(device, count, infos, write);                                                                      \
    }
#define EMPTY_LIST(function, type)                                                                                     \
    EXPORT nvmlReturn_t function(nvmlDevice_t device, unsigned int *count, type *infos) {                              \
        (void)infos;                                                                                                   \
        return none(device, count);                                                                                    \
    }

COMPUTE_LIST(nvmlDeviceGetComputeRunningProcesses, nvmlProcessInfo_v1_t, write_v1)
COMPUTE_LIST(nvmlDeviceGetComputeRunningProcesses_v2, nvmlProcessInfo_v2_t, write_v2)
COMPUTE_LIST(nvmlDeviceGetComputeRunningProcesses_v3, nvmlProcessInfo_t, write_v2)
EMPTY_LIST(nvmlDeviceGetGraphicsRunningProcesses, nvmlProcessInfo_v1_t)
EMPTY_LIST(nvmlDeviceGetGraphicsRunningProcesses_v2, nvmlProcessInfo_v2_t)
EMPTY_LIST(nvmlDeviceGetGraphicsRunningProcesses_v3, nvmlProcessInfo_t)
EMPTY_LIST(nvmlDeviceGetMPSComputeRunningProcesses, nvmlProcessInfo_v1_t)
EMPTY_LIST(nvmlDeviceGetMPSComputeRunningProcesses_v2, nvmlProcessInfo_v2_t)
EMPTY_LIST(nvmlDeviceGetMPSComputeRunningProcesses_v3, nvmlProcessInfo_t)

static void write_detail(void *array, unsigned i, const struct gpu_process *process) {
    ((nvmlProcessDetail_v1_t *)array)[i] = (nvmlProcessDetail_v1_t){
        process->pid, process->used_bytes, process->gpu_instance, process->compute_instance, 0};
}

EXPORT nvmlReturn_t nvmlDeviceGetRunningProcessDetailList(nvmlDevice_t device, nvmlProcessDetailList_t *details) {
    if (!details)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (details->version != nvmlProcessDetailList_v1)
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    if (details->mode != 0) /* 1: graphics, 2: MPS */
        return none(device, &details->numProcArrayEntries);
    return list(device, &details->numProcArrayEntries, details->procArray, write_detail);
}

EXPORT nvmlReturn_t nvmlSystemGetProcessName(unsigned int pid, char *name, unsigned int length) {
    nvmlReturn_t result = nvml_ready();
    if (result != NVML_SUCCESS)
        return result;
    if (!name || length == 0)
        return NVML_ERROR_INVALID_ARGUMENT;
    char path[64];
    snprintf(path, sizeof path, "/proc/%u/cmdline", pid);
    FILE *file = fopen(path, "re");
    if (!file)
        return NVML_ERROR_NOT_FOUND;
    size_t read = fread(name, 1, length - 1, file); /* up to the first NUL: the program */
    name[read] = 0;
    fclose(file);
    return NVML_SUCCESS;
}

/* --- utilisation -------------------------------------------------------------------------------------------- */

/* In MIG mode NVML tells nobody's utilisation, neither the GPU's nor an instance's. */
static nvmlReturn_t utilized(nvmlDevice_t device, const struct sim_gpu **ret_gpu) {
    struct target target;
    nvmlReturn_t result = nvml_target(device, &target);
    if (result != NVML_SUCCESS)
        return result;
    *ret_gpu = target.gpu;
    return nvml_self.node->mig[gpu_index(target.gpu)].enabled ? NVML_ERROR_NOT_SUPPORTED : NVML_SUCCESS;
}

static unsigned percent(double share) {
    return (unsigned)(share * 100 + 0.5);
}

/* Microseconds since 1970, as the driver stamps its samples. */
static unsigned long long stamp(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (unsigned long long)now.tv_sec * 1000000u + (unsigned long long)now.tv_nsec / 1000;
}

/* Those that were busy at all, as the driver reports them; moves them to the front. */
static unsigned busy_only(struct gpu_process *processes, unsigned count) {
    unsigned busy = 0;
    for (unsigned i = 0; i < count; i++)
        if (processes[i].busy > 0)
            processes[busy++] = processes[i];
    return busy;
}

/* Copy engines and memory controllers are not modelled: memory is as busy as the SMs, halved. */
#define MEMORY_SHARE 0.5

EXPORT nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *utilization) {
    const struct sim_gpu *gpu;
    nvmlReturn_t result = utilized(device, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    if (!utilization)
        return NVML_ERROR_INVALID_ARGUMENT;
    double busy = gpu_moment(gpu).busy;
    *utilization = (nvmlUtilization_t){percent(busy), percent(busy * MEMORY_SHARE)};
    return NVML_SUCCESS;
}

static nvmlReturn_t samples(nvmlDevice_t device, struct gpu_process **ret_processes, unsigned *ret_count) {
    const struct sim_gpu *gpu;
    nvmlReturn_t result = utilized(device, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    struct gpu_process *processes = calloc(NODE_PROCESSES, sizeof *processes);
    if (!processes)
        return NVML_ERROR_MEMORY;
    *ret_count = busy_only(processes, processes_on(&(struct target){.gpu = gpu}, processes));
    *ret_processes = processes;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t device, nvmlProcessUtilizationSample_t *utilization,
                                                    unsigned int *count, unsigned long long last_seen) {
    struct gpu_process *processes;
    unsigned busy;
    if (!count)
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = samples(device, &processes, &busy);
    if (result != NVML_SUCCESS)
        return result;
    unsigned long long now = stamp();
    unsigned room = *count;
    *count = busy;
    if (busy == 0 || now <= last_seen)
        result = NVML_ERROR_NOT_FOUND;
    else if (!utilization || room < busy)
        result = NVML_ERROR_INSUFFICIENT_SIZE;
    for (unsigned i = 0; result == NVML_SUCCESS && i < busy; i++)
        utilization[i] = (nvmlProcessUtilizationSample_t){.pid = processes[i].pid,
                                                          .timeStamp = now,
                                                          .smUtil = percent(processes[i].busy),
                                                          .memUtil = percent(processes[i].busy * MEMORY_SHARE)};
    free(processes);
    return result;
}

EXPORT nvmlReturn_t nvmlDeviceGetProcessesUtilizationInfo(nvmlDevice_t device, nvmlProcessesUtilizationInfo_t *info) {
    struct gpu_process *processes;
    unsigned busy;
    if (!info)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (info->version != nvmlProcessesUtilizationInfo_v1)
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    nvmlReturn_t result = samples(device, &processes, &busy);
    if (result != NVML_SUCCESS)
        return result;
    unsigned long long now = stamp();
    unsigned room = info->processSamplesCount;
    info->processSamplesCount = busy;
    if (busy == 0 || now <= info->lastSeenTimeStamp)
        result = NVML_ERROR_NOT_FOUND;
    else if (!info->procUtilArray || room < busy)
        result = NVML_ERROR_INSUFFICIENT_SIZE;
    for (unsigned i = 0; result == NVML_SUCCESS && i < busy; i++)
        info->procUtilArray[i] =
            (nvmlProcessUtilizationInfo_v1_t){.timeStamp = now,
                                              .pid = processes[i].pid,
                                              .smUtil = percent(processes[i].busy),
                                              .memUtil = percent(processes[i].busy * MEMORY_SHARE)};
    free(processes);
    return result;
}

/* One sample: what the driver would have measured last. */
EXPORT nvmlReturn_t nvmlDeviceGetSamples(nvmlDevice_t device, nvmlSamplingType_t type, unsigned long long last_seen,
                                         nvmlValueType_t *value_type, unsigned int *count, nvmlSample_t *samples_out) {
    const struct sim_gpu *gpu;
    bool of_power = type == NVML_TOTAL_POWER_SAMPLES;
    nvmlReturn_t result = of_power ? nvml_gpu(device, &gpu) : utilized(device, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    if (!count || !value_type)
        return NVML_ERROR_INVALID_ARGUMENT;
    unsigned value = 0;
    if (type == NVML_GPU_UTILIZATION_SAMPLES)
        value = percent(gpu_moment(gpu).busy);
    else if (type == NVML_MEMORY_UTILIZATION_SAMPLES)
        value = percent(gpu_moment(gpu).busy * MEMORY_SHARE);
    else if (of_power)
        result = nvmlDeviceGetPowerUsage(device, &value);
    else
        result = NVML_ERROR_NOT_SUPPORTED;
    unsigned long long now = stamp();
    if (result == NVML_SUCCESS && now <= last_seen)
        result = NVML_ERROR_NOT_FOUND;
    if (result != NVML_SUCCESS)
        return result;
    *value_type = NVML_VALUE_TYPE_UNSIGNED_INT;
    bool room = samples_out && *count >= 1;
    *count = 1;
    if (room)
        *samples_out = (nvmlSample_t){.timeStamp = now, .sampleValue.uiVal = value};
    return room || !samples_out ? NVML_SUCCESS : NVML_ERROR_INSUFFICIENT_SIZE;
}

/* Nothing encodes or decodes video here. */
#define IDLE_ENGINE(function)                                                                                          \
    EXPORT nvmlReturn_t function(nvmlDevice_t device, unsigned int *utilization, unsigned int *period_us) {            \
        const struct sim_gpu *gpu;                                                                                     \
        nvmlReturn_t result = nvml_gpu(device, &gpu);                                                                  \
        if (result != NVML_SUCCESS)                                                                                    \
            return result;                                                                                             \
        if (!utilization || !period_us)                                                                                \
            return NVML_ERROR_INVALID_ARGUMENT;                                                                        \
        *utilization = 0;                                                                                              \
        *period_us = 167000;                                                                                           \
        return NVML_SUCCESS;                                                                                           \
    }

IDLE_ENGINE(nvmlDeviceGetEncoderUtilization)
IDLE_ENGINE(nvmlDeviceGetDecoderUtilization)
IDLE_ENGINE(nvmlDeviceGetJpgUtilization)
IDLE_ENGINE(nvmlDeviceGetOfaUtilization)
