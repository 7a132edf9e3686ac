/* Accounting is kept by the driver, for every process of the GPU: only those of the share are shown. */
#include <stdlib.h>

#include "nvml/view.h"
#include "processes.h"

#define ACCOUNTED_MAX 4096u /* the driver's ring holds 4000 */

nvmlReturn_t nvmlDeviceGetAccountingPids(nvmlDevice_t device, unsigned int *count, unsigned int *pids) {
    const struct nvml_gpu *gpu = nvml_view_gpu(device);
    if (!gpu || !count)
        return real_nvml.nvmlDeviceGetAccountingPids(device, count, pids);
    unsigned int found = ACCOUNTED_MAX, kept = 0;
    unsigned int *all = malloc(ACCOUNTED_MAX * sizeof *all);
    if (!all)
        return NVML_ERROR_MEMORY;
    nvmlReturn_t result = real_nvml.nvmlDeviceGetAccountingPids(device, &found, all);
    for (unsigned int i = 0; result == NVML_SUCCESS && i < found; i++)
        if (processes_include(&gpu->tenant->share, all[i]))
            all[kept++] = all[i];
    if (result == NVML_SUCCESS) {
        result = kept > (pids ? *count : 0) ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
        *count = kept;
    }
    for (unsigned int i = 0; result == NVML_SUCCESS && i < kept; i++)
        pids[i] = all[i];
    free(all);
    return result;
}

static bool is_foreign(nvmlDevice_t device, unsigned int pid) {
    const struct nvml_gpu *gpu = nvml_view_gpu(device);
    return gpu && !processes_include(&gpu->tenant->share, pid);
}

nvmlReturn_t nvmlDeviceGetAccountingStats(nvmlDevice_t device, unsigned int pid, nvmlAccountingStats_t *stats) {
    return is_foreign(device, pid) ? NVML_ERROR_NOT_FOUND : real_nvml.nvmlDeviceGetAccountingStats(device, pid, stats);
}

nvmlReturn_t nvmlDeviceGetAccountingStats_v2(nvmlDevice_t device, nvmlAccountingStats_v2_t *stats) {
    return stats && is_foreign(device, stats->pid) ? NVML_ERROR_NOT_FOUND
                                                   : real_nvml.nvmlDeviceGetAccountingStats_v2(device, stats);
}
