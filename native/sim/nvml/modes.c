/* How a device is set. What can be set on a real one is refused here (a stub says NOT_SUPPORTED) unless it is
 * modelled. */
#include "library.h"

GETTER(nvmlDeviceGetPersistenceMode, nvmlEnableState_t, NVML_FEATURE_ENABLED)
GETTER(nvmlDeviceGetComputeMode, nvmlComputeMode_t, NVML_COMPUTEMODE_DEFAULT)
GETTER(nvmlDeviceGetDisplayMode, nvmlEnableState_t, NVML_FEATURE_DISABLED)
GETTER(nvmlDeviceGetDisplayActive, nvmlEnableState_t, NVML_FEATURE_DISABLED)
GETTER(nvmlDeviceGetVirtualizationMode, nvmlGpuVirtualizationMode_t, NVML_GPU_VIRTUALIZATION_MODE_NONE)
GETTER(nvmlDeviceGetNumFans, unsigned int, 0) /* cooled by the server's fans: their speed is not the GPU's to tell */
GETTER_PAIR(true, nvmlDeviceGetGspFirmwareMode, unsigned int, 1, 1)

EXPORT nvmlReturn_t nvmlDeviceGetGspFirmwareVersion(nvmlDevice_t device, char *version) {
    const struct sim_gpu *gpu;
    nvmlReturn_t result = nvml_gpu(device, &gpu);
    return result != NVML_SUCCESS
               ? result
               : nvml_text(nvml_self.node->info.driver_version, version, NVML_GSP_FIRMWARE_VERSION_BUF_SIZE);
}

EXPORT nvmlReturn_t nvmlDeviceGetAPIRestriction(nvmlDevice_t device, nvmlRestrictedAPI_t api,
                                                nvmlEnableState_t *restricted) {
    const struct sim_gpu *gpu;
    nvmlReturn_t result = nvml_gpu(device, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    if (!restricted || (unsigned)api >= NVML_RESTRICTED_API_COUNT)
        return NVML_ERROR_INVALID_ARGUMENT;
    *restricted = NVML_FEATURE_ENABLED;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlGetExcludedDeviceCount(unsigned int *count) {
    if (!count)
        return NVML_ERROR_INVALID_ARGUMENT;
    *count = 0;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlUnitGetCount(unsigned int *count) {
    nvmlReturn_t result = nvml_ready();
    if (result == NVML_SUCCESS && !count)
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS)
        *count = 0;
    return result;
}
