/* Enumeration: a GPU without a share of this process does not exist. */
#include "nvml/view.h"

static nvmlReturn_t count(unsigned int *count, nvmlReturn_t (*real_count)(unsigned int *)) {
    nvmlReturn_t result = real_count(count); /* also says whether NVML is initialised */
    if (result == NVML_SUCCESS && nvml_view_active())
        *count = nvml_view_count();
    return result;
}

nvmlReturn_t nvmlDeviceGetCount(unsigned int *deviceCount) {
    return count(deviceCount, real_nvml.nvmlDeviceGetCount);
}

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *deviceCount) {
    return count(deviceCount, real_nvml.nvmlDeviceGetCount_v2);
}

static nvmlReturn_t by_index(unsigned int index, nvmlDevice_t *device,
                             nvmlReturn_t (*real_by_index)(unsigned int, nvmlDevice_t *)) {
    if (!nvml_view_active())
        return real_by_index(index, device);
    unsigned int count;
    nvmlReturn_t result = real_nvml.nvmlDeviceGetCount_v2(&count);
    if (result != NVML_SUCCESS)
        return result;
    if (!device || index >= nvml_view_count())
        return NVML_ERROR_INVALID_ARGUMENT;
    *device = nvml_view_board(index);
    return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetHandleByIndex(unsigned int index, nvmlDevice_t *device) {
    return by_index(index, device, real_nvml.nvmlDeviceGetHandleByIndex);
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device) {
    return by_index(index, device, real_nvml.nvmlDeviceGetHandleByIndex_v2);
}

static nvmlReturn_t only_shown(nvmlReturn_t result, nvmlDevice_t *device) {
    unsigned index;
    if (result != NVML_SUCCESS || !nvml_view_active() || nvml_view_shows(*device, &index))
        return result;
    *device = NULL;
    return NVML_ERROR_NOT_FOUND;
}

nvmlReturn_t nvmlDeviceGetHandleBySerial(const char *serial, nvmlDevice_t *device) {
    return only_shown(real_nvml.nvmlDeviceGetHandleBySerial(serial, device), device);
}

nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device) {
    return only_shown(real_nvml.nvmlDeviceGetHandleByUUID(uuid, device), device);
}

nvmlReturn_t nvmlDeviceGetHandleByUUIDV(const nvmlUUID_t *uuid, nvmlDevice_t *device) {
    return only_shown(real_nvml.nvmlDeviceGetHandleByUUIDV(uuid, device), device);
}

nvmlReturn_t nvmlDeviceGetHandleByPciBusId(const char *pciBusId, nvmlDevice_t *device) {
    return only_shown(real_nvml.nvmlDeviceGetHandleByPciBusId(pciBusId, device), device);
}

nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *pciBusId, nvmlDevice_t *device) {
    return only_shown(real_nvml.nvmlDeviceGetHandleByPciBusId_v2(pciBusId, device), device);
}

nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned int index, nvmlDevice_t *migDevice) {
    return only_shown(real_nvml.nvmlDeviceGetMigDeviceHandleByIndex(device, index, migDevice), migDevice);
}

nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned int *index) {
    nvmlReturn_t result = real_nvml.nvmlDeviceGetIndex(device, index);
    unsigned shown;
    if (result == NVML_SUCCESS && nvml_view_active() && nvml_view_shows(device, &shown) &&
        nvml_view_board(shown) == device)
        *index = shown;
    return result;
}
