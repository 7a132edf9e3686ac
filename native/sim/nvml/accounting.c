/* Accounting: what each process used, also after its end, once the mode is enabled. */
#include <stdlib.h>
#include <unistd.h>

#include "blocks.h"
#include "journal.h"
#include "library.h"
#include "pids.h"

#define BUFFER 4000u /* processes the driver remembers */

GETTER(nvmlDeviceGetAccountingMode, nvmlEnableState_t, nvml_self.node->gpu_states[gpu_index(gpu)].accounting)
GETTER(nvmlDeviceGetAccountingBufferSize, unsigned int, BUFFER)

EXPORT nvmlReturn_t nvmlDeviceSetAccountingMode(nvmlDevice_t device, nvmlEnableState_t mode) {
    const struct sim_gpu *gpu;
    nvmlReturn_t result = nvml_gpu(device, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    if (mode != NVML_FEATURE_DISABLED && mode != NVML_FEATURE_ENABLED)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (geteuid() != 0)
        return NVML_ERROR_NO_PERMISSION;
    node_lock(&nvml_self);
    journal_put(nvml_self.node, &nvml_self.node->gpu_states[gpu_index(gpu)].accounting, mode);
    node_unlock(&nvml_self);
    return NVML_SUCCESS;
}

struct account {
    uint64_t pid, pid_namespace;
    uint64_t peak_bytes, busy_ns, active_ns;
    bool running;
};

/* Everybody who used the GPU, the latest first. */
static unsigned accounts(const struct sim_gpu *gpu, struct account *list) {
    struct node_file *node = nvml_self.node;
    unsigned count = 0, g = gpu_index(gpu);
    node_lock(&nvml_self);
    reap_dead(&nvml_self);
    for (unsigned p = 0; p < node->process_count; p++) {
        const struct node_process *process = &node->processes[p];
        const struct node_process_gpu *use = &process->gpus[g];
        if (process->live && !process->observer && use->blocks_peak)
            list[count++] = (struct account){process->pid,
                                             process->pid_namespace,
                                             use->blocks_peak << BLOCK_SHIFT,
                                             use->busy >> NODE_TIME_SHIFT,
                                             use->active,
                                             true};
    }
    uint64_t oldest = node->ended_count > NODE_ENDED ? node->ended_count - NODE_ENDED : 0;
    for (uint64_t e = node->ended_count; e > oldest && count < BUFFER; e--) {
        const struct node_ended *ended = &node->ended[(e - 1) % NODE_ENDED];
        if (ended->gpus[g].blocks_peak)
            list[count++] = (struct account){ended->pid,
                                             ended->pid_namespace,
                                             ended->gpus[g].blocks_peak << BLOCK_SHIFT,
                                             ended->gpus[g].busy >> NODE_TIME_SHIFT,
                                             ended->gpus[g].active,
                                             false};
    }
    node_unlock(&nvml_self);
    return count;
}

static nvmlReturn_t read_accounts(nvmlDevice_t device, struct account **ret_list, unsigned *ret_count) {
    const struct sim_gpu *gpu;
    nvmlReturn_t result = nvml_gpu(device, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    if (nvml_self.node->gpu_states[gpu_index(gpu)].accounting != NVML_FEATURE_ENABLED)
        return NVML_ERROR_NOT_SUPPORTED;
    struct account *list = calloc(NODE_PROCESSES + BUFFER, sizeof *list);
    if (!list)
        return NVML_ERROR_MEMORY;
    unsigned count = accounts(gpu, list), visible = 0;
    for (unsigned i = 0; i < count; i++) {
        list[visible] = list[i];
        list[visible].pid = pid_seen(list[i].pid, list[i].pid_namespace);
        visible += list[visible].pid != 0;
    }
    *ret_count = visible;
    *ret_list = list;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetAccountingPids(nvmlDevice_t device, unsigned int *count, unsigned int *pids) {
    struct account *list;
    unsigned found;
    if (!count)
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = read_accounts(device, &list, &found);
    if (result != NVML_SUCCESS)
        return result;
    unsigned room = *count;
    *count = found;
    if (found > room || (found > 0 && !pids))
        result = NVML_ERROR_INSUFFICIENT_SIZE;
    for (unsigned i = 0; result == NVML_SUCCESS && i < found; i++)
        pids[i] = (unsigned)list[i].pid;
    free(list);
    return result;
}

EXPORT nvmlReturn_t nvmlDeviceGetAccountingStats(nvmlDevice_t device, unsigned int pid, nvmlAccountingStats_t *stats) {
    struct account *list;
    unsigned found;
    if (!stats)
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = read_accounts(device, &list, &found);
    if (result != NVML_SUCCESS)
        return result;
    result = NVML_ERROR_NOT_FOUND;
    for (unsigned i = 0; result == NVML_ERROR_NOT_FOUND && i < found; i++) {
        if (list[i].pid != pid)
            continue;
        unsigned percent = list[i].active_ns ? (unsigned)(list[i].busy_ns * 100 / list[i].active_ns) : 0;
        *stats = (nvmlAccountingStats_t){.gpuUtilization = percent,
                                         .memoryUtilization = percent / 2,
                                         .maxMemoryUsage = list[i].peak_bytes,
                                         .time = list[i].running ? 0 : list[i].active_ns / 1000000,
                                         .isRunning = list[i].running};
        result = NVML_SUCCESS;
    }
    free(list);
    return result;
}
