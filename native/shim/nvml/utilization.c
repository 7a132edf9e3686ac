/* Utilisation of the share, in percent of the whole GPU, over about the last second. */
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "nvml/view.h"
#include "processes.h"

#define INTERVAL_MIN_NS UINT64_C(100000000) /* a program that asks once right after nvmlInit waits this long */
#define INTERVAL_NS UINT64_C(1000000000)

/* GPU time of the share and of each slot at one moment. */
struct reading {
    uint64_t at_ns;
    uint64_t share_ns;
    uint64_t slot_ns[GPUSLICE_SLOTS];
};

/* The last two readings of each share that are at least INTERVAL_NS apart. */
static struct {
    pthread_mutex_t lock;
    struct reading *readings[TENANT_GPUS_MAX][2];
} history = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void take(const struct gpuslice_share *share, struct reading *reading) {
    reading->at_ns = gpuslice_now_ns();
    reading->share_ns = atomic_load_explicit(&share->usage->busy_ns, memory_order_relaxed);
    for (unsigned i = 0; i < GPUSLICE_SLOTS; i++)
        reading->slot_ns[i] = atomic_load_explicit(&share->usage->slots[i].busy_ns, memory_order_relaxed);
}

static struct reading *take_new(const struct gpuslice_share *share) {
    struct reading *reading = malloc(sizeof *reading);
    if (reading)
        take(share, reading);
    return reading;
}

/* A copy of the reading that the interval starts with. False: no memory. */
static bool start_of_interval(const struct nvml_gpu *gpu, struct reading *ret_start) {
    const struct gpuslice_share *share = &gpu->tenant->share;
    pthread_mutex_lock(&history.lock);
    struct reading **readings = history.readings[gpu->tenant - tenant.gpus];
    if (!readings[1] && (readings[1] = take_new(share)))
        readings[0] = take_new(share);
    bool known = readings[0] && readings[1];
    if (known && gpuslice_now_ns() - readings[1]->at_ns > INTERVAL_NS) {
        struct reading *oldest = readings[0];
        readings[0] = readings[1];
        readings[1] = oldest;
        take(share, oldest);
    }
    if (known)
        *ret_start = *readings[0];
    pthread_mutex_unlock(&history.lock);
    return known;
}

static void wait_since(uint64_t start_ns) {
    uint64_t passed_ns = gpuslice_now_ns() - start_ns;
    if (passed_ns < INTERVAL_MIN_NS)
        nanosleep(&(struct timespec){.tv_nsec = (long)(INTERVAL_MIN_NS - passed_ns)}, NULL);
}

static unsigned percent(uint64_t before_ns, uint64_t after_ns, uint64_t passed_ns) {
    uint64_t busy_ns = after_ns > before_ns ? after_ns - before_ns : 0; /* a slot starts again with a new process */
    uint64_t percent = passed_ns ? (busy_ns * 100 + passed_ns / 2) / passed_ns : 0;
    return percent < 100 ? (unsigned)percent : 100;
}

struct interval {
    struct reading start, end;
};

static bool measure(const struct nvml_gpu *gpu, struct interval *interval) {
    if (!start_of_interval(gpu, &interval->start))
        return false;
    wait_since(interval->start.at_ns);
    take(&gpu->tenant->share, &interval->end);
    return true;
}

static unsigned share_percent(const struct interval *interval) {
    return percent(interval->start.share_ns, interval->end.share_ns, interval->end.at_ns - interval->start.at_ns);
}

static unsigned slot_percent(const struct interval *interval, uint32_t slot) {
    return percent(interval->start.slot_ns[slot], interval->end.slot_ns[slot],
                   interval->end.at_ns - interval->start.at_ns);
}

/* NVML's timestamps are wall-clock microseconds. */
static unsigned long long timestamp_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (unsigned long long)now.tv_sec * 1000000 + (unsigned long long)now.tv_nsec / 1000;
}

nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *utilization) {
    const struct nvml_gpu *gpu = nvml_view_gpu(device);
    nvmlReturn_t result = real_nvml.nvmlDeviceGetUtilizationRates(device, utilization);
    struct interval interval;
    if (result != NVML_SUCCESS || !gpu)
        return result;
    if (!measure(gpu, &interval))
        return NVML_ERROR_MEMORY;
    unsigned card = utilization->gpu;
    utilization->gpu = share_percent(&interval);
    /* Nobody counts memory traffic by process: the share's part of the traffic is its part of the time. */
    unsigned memory = card ? utilization->memory * utilization->gpu / card : 0;
    utilization->memory = memory < 100 ? memory : 100;
    return NVML_SUCCESS;
}

/* The driver's samples are the card's; of a share there is one, the rate of the last interval. */
nvmlReturn_t nvmlDeviceGetSamples(nvmlDevice_t device, nvmlSamplingType_t type, unsigned long long lastSeenTimeStamp,
                                  nvmlValueType_t *sampleValType, unsigned int *sampleCount, nvmlSample_t *samples) {
    if (!nvml_view_gpu(device) || !sampleValType || !sampleCount ||
        (type != NVML_GPU_UTILIZATION_SAMPLES && type != NVML_MEMORY_UTILIZATION_SAMPLES))
        return real_nvml.nvmlDeviceGetSamples(device, type, lastSeenTimeStamp, sampleValType, sampleCount, samples);
    *sampleValType = NVML_VALUE_TYPE_UNSIGNED_INT;
    unsigned int capacity = *sampleCount;
    *sampleCount = 1;
    if (!samples)
        return NVML_SUCCESS;
    if (capacity == 0)
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlUtilization_t utilization;
    nvmlReturn_t result = nvmlDeviceGetUtilizationRates(device, &utilization);
    if (result != NVML_SUCCESS)
        return result;
    unsigned value = type == NVML_GPU_UTILIZATION_SAMPLES ? utilization.gpu : utilization.memory;
    *samples = (nvmlSample_t){timestamp_us(), {.uiVal = value}};
    return NVML_SUCCESS;
}

/* Fills the share's processes; NOT_FOUND where nothing is newer than what the caller has seen. */
static nvmlReturn_t sample_processes(const struct nvml_gpu *gpu, unsigned long long last_seen_us, unsigned int *count,
                                     nvmlProcessUtilizationInfo_v1_t *samples) {
    struct share_process processes[GPUSLICE_SLOTS];
    struct interval interval;
    unsigned int capacity = samples ? *count : 0;
    if (!samples) {
        *count = processes_list(&gpu->tenant->share, processes, GPUSLICE_SLOTS);
        return *count ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_ERROR_NOT_FOUND;
    }
    if (!measure(gpu, &interval))
        return NVML_ERROR_MEMORY;
    unsigned long long now_us = timestamp_us();
    *count = now_us > last_seen_us ? processes_list(&gpu->tenant->share, processes, GPUSLICE_SLOTS) : 0;
    if (*count == 0)
        return NVML_ERROR_NOT_FOUND;
    if (*count > capacity)
        return NVML_ERROR_INSUFFICIENT_SIZE;
    for (unsigned i = 0; i < *count; i++)
        samples[i] = (nvmlProcessUtilizationInfo_v1_t){
            .timeStamp = now_us, .pid = processes[i].pid, .smUtil = slot_percent(&interval, processes[i].slot)};
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t device, nvmlProcessUtilizationSample_t *utilization,
                                             unsigned int *processSamplesCount, unsigned long long lastSeenTimeStamp) {
    const struct nvml_gpu *gpu = nvml_view_gpu(device);
    nvmlProcessUtilizationInfo_v1_t samples[GPUSLICE_SLOTS];
    if (!gpu || !processSamplesCount)
        return real_nvml.nvmlDeviceGetProcessUtilization(device, utilization, processSamplesCount, lastSeenTimeStamp);
    if (*processSamplesCount > GPUSLICE_SLOTS)
        *processSamplesCount = GPUSLICE_SLOTS;
    nvmlReturn_t result = sample_processes(gpu, lastSeenTimeStamp, processSamplesCount, utilization ? samples : NULL);
    for (unsigned i = 0; result == NVML_SUCCESS && i < *processSamplesCount; i++)
        utilization[i] = (nvmlProcessUtilizationSample_t){
            .pid = samples[i].pid, .timeStamp = samples[i].timeStamp, .smUtil = samples[i].smUtil};
    return result;
}

nvmlReturn_t nvmlDeviceGetProcessesUtilizationInfo(nvmlDevice_t device,
                                                   nvmlProcessesUtilizationInfo_t *procesesUtilInfo) {
    const struct nvml_gpu *gpu = nvml_view_gpu(device);
    if (!gpu || !procesesUtilInfo)
        return real_nvml.nvmlDeviceGetProcessesUtilizationInfo(device, procesesUtilInfo);
    if (procesesUtilInfo->version != nvmlProcessesUtilizationInfo_v1)
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    return sample_processes(gpu, procesesUtilInfo->lastSeenTimeStamp, &procesesUtilInfo->processSamplesCount,
                            procesesUtilInfo->procUtilArray);
}
