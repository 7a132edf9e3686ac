/* Which GPUs there are, and what they are: nothing here changes while the node lives. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "library.h"

/* --- handles ------------------------------------------------------------------------------------------------ */

static nvmlReturn_t count(unsigned *ret_count) {
    nvmlReturn_t result = nvml_ready();
    if (result == NVML_SUCCESS && !ret_count)
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS)
        *ret_count = listed.count;
    return result;
}

EXPORT nvmlReturn_t nvmlDeviceGetCount(unsigned int *ret_count) {
    return count(ret_count);
}

EXPORT nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *ret_count) {
    return count(ret_count);
}

static nvmlReturn_t by_index(unsigned index, nvmlDevice_t *ret_device) {
    nvmlReturn_t result = nvml_ready();
    if (result != NVML_SUCCESS)
        return result;
    if (!ret_device || index >= listed.count)
        return NVML_ERROR_INVALID_ARGUMENT;
    *ret_device = gpu_handle(listed.gpus[index]);
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByIndex(unsigned int index, nvmlDevice_t *device) {
    return by_index(index, device);
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device) {
    return by_index(index, device);
}

typedef bool matches(const struct sim_gpu *gpu, const void *key);

static nvmlReturn_t find(matches *is, const void *key, nvmlDevice_t *ret_device) {
    nvmlReturn_t result = nvml_ready();
    if (result != NVML_SUCCESS)
        return result;
    if (!key || !ret_device)
        return NVML_ERROR_INVALID_ARGUMENT;
    for (unsigned i = 0; i < listed.count; i++)
        if (is(&nvml_self.node->gpus[listed.gpus[i]], key))
            return by_index(i, ret_device);
    return NVML_ERROR_NOT_FOUND;
}

/* As find(), among the MIG devices too. */
static nvmlReturn_t find_any(matches *is, const void *key, nvmlDevice_t *ret_device) {
    nvmlReturn_t result = find(is, key, ret_device);
    struct mig_place place;
    for (unsigned gpu = 0; result == NVML_ERROR_NOT_FOUND && gpu < nvml_self.node->info.gpu_count; gpu++) {
        for (unsigned i = 0; result == NVML_ERROR_NOT_FOUND && instance_at(gpu, i, &place); i++) {
            struct sim_gpu view = instance_view(place);
            if (is(&view, key)) {
                *ret_device = instance_handle(place);
                result = NVML_SUCCESS;
            }
        }
    }
    return result;
}

static bool has_uuid(const struct sim_gpu *gpu, const void *uuid) {
    return strcmp(gpu->uuid, uuid) == 0;
}

static bool has_uuid_bytes(const struct sim_gpu *gpu, const void *bytes) {
    return memcmp(gpu->uuid_bytes, bytes, sizeof gpu->uuid_bytes) == 0;
}

static bool has_serial(const struct sim_gpu *gpu, const void *serial) {
    return strcmp(gpu->serial, serial) == 0;
}

/* "00000000:1B:00.0", "0000:1b:00.0" and "1b:00.0" name the same place. */
static bool has_address(const struct sim_gpu *gpu, const void *address) {
    unsigned domain = 0, bus, device, function = 0;
    if (sscanf(address, "%x:%x:%x.%x", &domain, &bus, &device, &function) < 3) {
        domain = 0;
        if (sscanf(address, "%x:%x.%x", &bus, &device, &function) < 2)
            return false;
    }
    return domain == gpu->pci.domain && bus == gpu->pci.bus && device == gpu->pci.device;
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device) {
    return find_any(has_uuid, uuid, device);
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByUUIDV(const nvmlUUID_t *uuid, nvmlDevice_t *device) {
    if (!uuid)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (uuid->version != nvmlUUID_v1)
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    if (uuid->type == NVML_UUID_TYPE_ASCII)
        return find_any(has_uuid, uuid->value.str, device);
    return uuid->type == NVML_UUID_TYPE_BINARY ? find_any(has_uuid_bytes, uuid->value.bytes, device)
                                               : NVML_ERROR_INVALID_ARGUMENT;
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleBySerial(const char *serial, nvmlDevice_t *device) {
    return find(has_serial, serial, device);
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByPciBusId(const char *address, nvmlDevice_t *device) {
    return find(has_address, address, device);
}

EXPORT nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *address, nvmlDevice_t *device) {
    return find(has_address, address, device);
}

/* --- names -------------------------------------------------------------------------------------------------- */

static nvmlReturn_t text_of(nvmlDevice_t device, bool name, char *buffer, unsigned length) {
    struct target target;
    nvmlReturn_t result = nvml_target(device, &target);
    if (result != NVML_SUCCESS)
        return result;
    struct sim_gpu view = target.is_instance ? instance_view(target.place) : *target.gpu;
    return nvml_text(name ? view.name : view.uuid, buffer, length);
}

EXPORT nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int length) {
    return text_of(device, true, name, length);
}

EXPORT nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned int length) {
    return text_of(device, false, uuid, length);
}

EXPORT nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned int *index) {
    struct target target;
    nvmlReturn_t result = nvml_target(device, &target);
    if (result != NVML_SUCCESS)
        return result;
    if (!index)
        return NVML_ERROR_INVALID_ARGUMENT;
    unsigned at = 0;
    while (at < listed.count && listed.gpus[at] != gpu_index(target.gpu))
        at++;
    *index = target.is_instance ? instance_index(target.place) : at;
    return NVML_SUCCESS;
}

GETTER_TEXT(nvmlDeviceGetSerial, gpu->serial)
GETTER_TEXT(nvmlDeviceGetVbiosVersion, gpu->vbios)
GETTER_TEXT(nvmlDeviceGetBoardPartNumber, gpu->board_part)
GETTER_TEXT(nvmlDeviceGetInforomImageVersion, "G506.0200.00.05")
GETTER(nvmlDeviceGetMinorNumber, unsigned int, gpu->minor)
GETTER(nvmlDeviceGetModuleId, unsigned int, gpu_index(gpu))
GETTER(nvmlDeviceGetBoardId, unsigned int, gpu->pci.bus << 8)
GETTER(nvmlDeviceGetMultiGpuBoard, unsigned int, 0)
GETTER(nvmlDeviceGetBrand, nvmlBrandType_t, gpu->architecture > SIM_TURING ? NVML_BRAND_NVIDIA : NVML_BRAND_TESLA)
GETTER(nvmlDeviceGetArchitecture, nvmlDeviceArchitecture_t, gpu->architecture)
GETTER(nvmlDeviceGetNumGpuCores, unsigned int, gpu->sm_count * gpu->cores_per_sm)
GETTER(nvmlDeviceGetMemoryBusWidth, unsigned int, gpu->memory_bus_bits)
GETTER(nvmlDeviceGetNumaNodeId, unsigned int, gpu->numa_node)
GETTER(nvmlDeviceGetBusType, nvmlBusType_t, NVML_BUS_TYPE_PCIE)
GETTER(nvmlDeviceGetIrqNum, unsigned int, 64 + gpu_index(gpu))
GETTER_PAIR(true, nvmlDeviceGetCudaComputeCapability, int, gpu->compute_major, gpu->compute_minor)

/* --- PCI ---------------------------------------------------------------------------------------------------- */

static void write_pci(const struct sim_pci *pci, nvmlPciInfo_t *ret_pci) {
    *ret_pci = (nvmlPciInfo_t){.domain = pci->domain,
                               .bus = pci->bus,
                               .device = pci->device,
                               .pciDeviceId = pci->device_id,
                               .pciSubSystemId = pci->subsystem_id};
    snprintf(ret_pci->busId, sizeof ret_pci->busId, "%08X:%02X:%02X.0", pci->domain, pci->bus & 0xff,
             pci->device & 0x1f);
    snprintf(ret_pci->busIdLegacy, sizeof ret_pci->busIdLegacy, "%04X:%02X:%02X.0", pci->domain & 0xffff,
             pci->bus & 0xff, pci->device & 0x1f);
}

static nvmlReturn_t pci_info(nvmlDevice_t device, nvmlPciInfo_t *ret_pci) {
    const struct sim_gpu *gpu;
    nvmlReturn_t result = nvml_gpu(device, &gpu);
    if (result == NVML_SUCCESS && !ret_pci)
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS)
        write_pci(&gpu->pci, ret_pci);
    return result;
}

EXPORT nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *pci) {
    return pci_info(device, pci);
}

/* The first two versions end before busId: what they wrote is the beginning of what the third writes. */
static nvmlReturn_t pci_info_short(nvmlDevice_t device, nvmlPciInfo_t *ret_pci) {
    nvmlPciInfo_t whole;
    nvmlReturn_t result = pci_info(device, &whole);
    if (result == NVML_SUCCESS && !ret_pci)
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS)
        memcpy(ret_pci, &whole, offsetof(nvmlPciInfo_t, busId));
    return result;
}

EXPORT nvmlReturn_t nvmlDeviceGetPciInfo(nvmlDevice_t device, nvmlPciInfo_t *pci) {
    return pci_info_short(device, pci);
}

EXPORT nvmlReturn_t nvmlDeviceGetPciInfo_v2(nvmlDevice_t device, nvmlPciInfo_t *pci) {
    return pci_info_short(device, pci);
}

EXPORT nvmlReturn_t nvmlDeviceGetPciInfoExt(nvmlDevice_t device, nvmlPciInfoExt_t *pci) {
    nvmlPciInfo_t plain;
    nvmlReturn_t result = pci_info(device, &plain);
    if (result != NVML_SUCCESS)
        return result;
    if (!pci)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (pci->version != nvmlPciInfoExt_v1)
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    *pci = (nvmlPciInfoExt_t){.version = nvmlPciInfoExt_v1,
                              .domain = plain.domain,
                              .bus = plain.bus,
                              .device = plain.device,
                              .pciDeviceId = plain.pciDeviceId,
                              .pciSubSystemId = plain.pciSubSystemId,
                              .baseClass = 0x03, /* display controller, */
                              .subClass = 0x02}; /* 3D */
    memcpy(pci->busId, plain.busId, sizeof pci->busId);
    return NVML_SUCCESS;
}

GETTER(nvmlDeviceGetMaxPcieLinkGeneration, unsigned int, gpu->pcie_gen)
GETTER(nvmlDeviceGetGpuMaxPcieLinkGeneration, unsigned int, gpu->pcie_gen)
GETTER(nvmlDeviceGetCurrPcieLinkGeneration, unsigned int, gpu_fault(gpu).pcie_gen ?: gpu->pcie_gen)
GETTER(nvmlDeviceGetMaxPcieLinkWidth, unsigned int, gpu->pcie_width)
GETTER(nvmlDeviceGetCurrPcieLinkWidth, unsigned int, gpu_fault(gpu).pcie_width ?: gpu->pcie_width)
GETTER(nvmlDeviceGetPcieReplayCounter, unsigned int, gpu_fault(gpu).pcie_replays)
/* MB/s a lane of each generation: 2500, 5000, 8000, 16000, 32000 megatransfers. */
GETTER(nvmlDeviceGetPcieSpeed, unsigned int, gpu->pcie_gen < 3 ? 2500u * gpu->pcie_gen : 1000u << gpu->pcie_gen)
GETTER(nvmlDeviceGetPcieLinkMaxSpeed, unsigned int, gpu->pcie_gen)
