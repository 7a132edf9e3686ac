/* Memory errors and their repair: a simulated GPU is well. */
#include <string.h>

#include "library.h"

GETTER_PAIR(gpu->has_ecc, nvmlDeviceGetEccMode, nvmlEnableState_t, NVML_FEATURE_ENABLED, NVML_FEATURE_ENABLED)
GETTER_IF(gpu->has_ecc, nvmlDeviceGetDefaultEccMode, nvmlEnableState_t, NVML_FEATURE_ENABLED)
/* Rows are remapped where there is a remapper; before it, pages were retired. */
GETTER_IF(!gpu->has_row_remapping, nvmlDeviceGetRetiredPagesPendingStatus, nvmlEnableState_t, NVML_FEATURE_DISABLED)

static nvmlReturn_t ecc(nvmlDevice_t device, const void *ret_value) {
    const struct sim_gpu *gpu;
    nvmlReturn_t result = nvml_gpu(device, &gpu);
    if (result == NVML_SUCCESS && !ret_value)
        return NVML_ERROR_INVALID_ARGUMENT;
    return result == NVML_SUCCESS && !gpu->has_ecc ? NVML_ERROR_NOT_SUPPORTED : result;
}

EXPORT nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, nvmlMemoryErrorType_t type,
                                                nvmlEccCounterType_t counter, unsigned long long *count) {
    (void)type, (void)counter;
    nvmlReturn_t result = ecc(device, count);
    if (result == NVML_SUCCESS)
        *count = 0;
    return result;
}

EXPORT nvmlReturn_t nvmlDeviceGetDetailedEccErrors(nvmlDevice_t device, nvmlMemoryErrorType_t type,
                                                   nvmlEccCounterType_t counter, nvmlEccErrorCounts_t *counts) {
    (void)type, (void)counter;
    nvmlReturn_t result = ecc(device, counts);
    if (result == NVML_SUCCESS)
        *counts = (nvmlEccErrorCounts_t){0};
    return result;
}

EXPORT nvmlReturn_t nvmlDeviceGetMemoryErrorCounter(nvmlDevice_t device, nvmlMemoryErrorType_t type,
                                                    nvmlEccCounterType_t counter, nvmlMemoryLocation_t location,
                                                    unsigned long long *count) {
    (void)type, (void)counter, (void)location;
    nvmlReturn_t result = ecc(device, count);
    if (result == NVML_SUCCESS)
        *count = 0;
    return result;
}

EXPORT nvmlReturn_t nvmlDeviceGetSramEccErrorStatus(nvmlDevice_t device, nvmlEccSramErrorStatus_t *status) {
    nvmlReturn_t result = ecc(device, status);
    if (result == NVML_SUCCESS && status->version != nvmlEccSramErrorStatus_v1)
        result = NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    if (result == NVML_SUCCESS)
        *status = (nvmlEccSramErrorStatus_t){.version = nvmlEccSramErrorStatus_v1};
    return result;
}

static nvmlReturn_t remapper(nvmlDevice_t device, bool arguments) {
    const struct sim_gpu *gpu;
    nvmlReturn_t result = nvml_gpu(device, &gpu);
    if (result == NVML_SUCCESS && !arguments)
        return NVML_ERROR_INVALID_ARGUMENT;
    return result == NVML_SUCCESS && !gpu->has_row_remapping ? NVML_ERROR_NOT_SUPPORTED : result;
}

EXPORT nvmlReturn_t nvmlDeviceGetRemappedRows(nvmlDevice_t device, unsigned int *corrected, unsigned int *uncorrected,
                                              unsigned int *pending, unsigned int *failed) {
    nvmlReturn_t result = remapper(device, corrected && uncorrected && pending && failed);
    if (result == NVML_SUCCESS)
        *corrected = *uncorrected = *pending = *failed = 0;
    return result;
}

EXPORT nvmlReturn_t nvmlDeviceGetRemappedRows_v2(nvmlDevice_t device, nvmlRemappedRowsInfo_v2_t *info) {
    nvmlReturn_t result = remapper(device, info);
    if (result == NVML_SUCCESS)
        *info = (nvmlRemappedRowsInfo_v2_t){0};
    return result;
}

#define BANKS 640 /* of an HBM GPU; all have spare rows */

EXPORT nvmlReturn_t nvmlDeviceGetRowRemapperHistogram(nvmlDevice_t device, nvmlRowRemapperHistogramValues_t *values) {
    nvmlReturn_t result = remapper(device, values);
    if (result == NVML_SUCCESS)
        *values = (nvmlRowRemapperHistogramValues_t){.max = BANKS};
    return result;
}

EXPORT nvmlReturn_t nvmlDeviceGetRepairStatus(nvmlDevice_t device, nvmlRepairStatus_t *status) {
    nvmlReturn_t result = remapper(device, status);
    if (result == NVML_SUCCESS && status->version != nvmlRepairStatus_v1)
        result = NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    if (result == NVML_SUCCESS)
        *status = (nvmlRepairStatus_t){.version = nvmlRepairStatus_v1};
    return result;
}

static nvmlReturn_t no_retired_pages(nvmlDevice_t device, unsigned *count) {
    const struct sim_gpu *gpu;
    nvmlReturn_t result = nvml_gpu(device, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    if (!count)
        return NVML_ERROR_INVALID_ARGUMENT;
    *count = 0;
    return gpu->has_row_remapping ? NVML_ERROR_NOT_SUPPORTED : NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetRetiredPages(nvmlDevice_t device, nvmlPageRetirementCause_t cause, unsigned int *count,
                                              unsigned long long *addresses) {
    (void)cause, (void)addresses;
    return no_retired_pages(device, count);
}

EXPORT nvmlReturn_t nvmlDeviceGetRetiredPages_v2(nvmlDevice_t device, nvmlPageRetirementCause_t cause,
                                                 unsigned int *count, unsigned long long *addresses,
                                                 unsigned long long *timestamps) {
    (void)cause, (void)addresses, (void)timestamps;
    return no_retired_pages(device, count);
}
