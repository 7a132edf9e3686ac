/* Memory errors and their repair: what was injected (faults.h). */
#include <string.h>

#include "library.h"

GETTER_PAIR(gpu->has_ecc, nvmlDeviceGetEccMode, nvmlEnableState_t, NVML_FEATURE_ENABLED, NVML_FEATURE_ENABLED)
GETTER_IF(gpu->has_ecc, nvmlDeviceGetDefaultEccMode, nvmlEnableState_t, NVML_FEATURE_ENABLED)
/* Rows are remapped where there is a remapper; before it, pages were retired. */
GETTER_IF(!gpu->has_row_remapping, nvmlDeviceGetRetiredPagesPendingStatus, nvmlEnableState_t, NVML_FEATURE_DISABLED)

static struct node_fault fault_of(nvmlDevice_t device) {
    struct target target = {0};
    return nvml_target(device, &target) == NVML_SUCCESS ? gpu_fault(target.gpu) : (struct node_fault){0};
}

static nvmlReturn_t ecc(nvmlDevice_t device, const void *ret_value) {
    const struct sim_gpu *gpu;
    nvmlReturn_t result = nvml_gpu(device, &gpu);
    if (result == NVML_SUCCESS && !ret_value)
        return NVML_ERROR_INVALID_ARGUMENT;
    return result == NVML_SUCCESS && !gpu->has_ecc ? NVML_ERROR_NOT_SUPPORTED : result;
}

/* Every error is one of the card's memory. */
static unsigned long long errors(nvmlDevice_t device, nvmlMemoryErrorType_t type, nvmlEccCounterType_t counter) {
    struct target target = {0};
    if (nvml_target(device, &target) != NVML_SUCCESS)
        return 0;
    struct node_fault fault = gpu_fault(target.gpu);
    bool corrected = type == NVML_MEMORY_ERROR_TYPE_CORRECTED;
    if (counter == NVML_AGGREGATE_ECC)
        return corrected ? fault.corrected_ever : fault.uncorrected_ever;
    return corrected ? fault.corrected : fault.uncorrected;
}

EXPORT nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, nvmlMemoryErrorType_t type,
                                                nvmlEccCounterType_t counter, unsigned long long *count) {
    nvmlReturn_t result = ecc(device, count);
    if (result == NVML_SUCCESS)
        *count = errors(device, type, counter);
    return result;
}

EXPORT nvmlReturn_t nvmlDeviceGetDetailedEccErrors(nvmlDevice_t device, nvmlMemoryErrorType_t type,
                                                   nvmlEccCounterType_t counter, nvmlEccErrorCounts_t *counts) {
    nvmlReturn_t result = ecc(device, counts);
    if (result == NVML_SUCCESS)
        *counts = (nvmlEccErrorCounts_t){.deviceMemory = errors(device, type, counter)};
    return result;
}

EXPORT nvmlReturn_t nvmlDeviceGetMemoryErrorCounter(nvmlDevice_t device, nvmlMemoryErrorType_t type,
                                                    nvmlEccCounterType_t counter, nvmlMemoryLocation_t location,
                                                    unsigned long long *count) {
    nvmlReturn_t result = ecc(device, count);
    bool here = location == NVML_MEMORY_LOCATION_DRAM || location == NVML_MEMORY_LOCATION_DEVICE_MEMORY;
    if (result == NVML_SUCCESS)
        *count = here ? errors(device, type, counter) : 0;
    return result;
}

EXPORT nvmlReturn_t nvmlDeviceGetSramEccErrorStatus(nvmlDevice_t device, nvmlEccSramErrorStatus_t *status) {
    nvmlReturn_t result = ecc(device, status);
    if (result == NVML_SUCCESS && status->version != nvmlEccSramErrorStatus_v1)
        result = NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    if (result == NVML_SUCCESS)
        *status = (nvmlEccSramErrorStatus_t){.version = nvmlEccSramErrorStatus_v1,
                                             .bThresholdExceeded = (unsigned)fault_of(device).sram_exceeded};
    return result;
}

static nvmlReturn_t remapper(nvmlDevice_t device, bool arguments) {
    const struct sim_gpu *gpu;
    nvmlReturn_t result = nvml_gpu(device, &gpu);
    if (result == NVML_SUCCESS && !arguments)
        return NVML_ERROR_INVALID_ARGUMENT;
    return result == NVML_SUCCESS && !gpu->has_row_remapping ? NVML_ERROR_NOT_SUPPORTED : result;
}

static void write_rows(struct node_fault fault, unsigned *corrected, unsigned *uncorrected, unsigned *pending,
                       unsigned *failed) {
    *corrected = (unsigned)fault.remapped_corrected;
    *uncorrected = (unsigned)fault.remapped_uncorrected;
    *pending = (unsigned)fault.remap_pending;
    *failed = (unsigned)fault.remap_failed;
}

EXPORT nvmlReturn_t nvmlDeviceGetRemappedRows(nvmlDevice_t device, unsigned int *corrected, unsigned int *uncorrected,
                                              unsigned int *pending, unsigned int *failed) {
    nvmlReturn_t result = remapper(device, corrected && uncorrected && pending && failed);
    if (result == NVML_SUCCESS)
        write_rows(fault_of(device), corrected, uncorrected, pending, failed);
    return result;
}

EXPORT nvmlReturn_t nvmlDeviceGetRemappedRows_v2(nvmlDevice_t device, nvmlRemappedRowsInfo_v2_t *info) {
    nvmlReturn_t result = remapper(device, info);
    unsigned rows[4];
    if (result != NVML_SUCCESS)
        return result;
    write_rows(fault_of(device), &rows[0], &rows[1], &rows[2], &rows[3]);
    *info = (nvmlRemappedRowsInfo_v2_t){
        .corrActiveRemaps = rows[0], .uncActiveRemaps = rows[1], .bPending = rows[2], .bFailureOccurred = rows[3]};
    return NVML_SUCCESS;
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
