/* Devices: which of the node's GPUs this process sees, and what it can ask of them without a context. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "given.h"
#include "sim.h"

static unsigned visible[DEVICES_MAX]; /* the engine's indices, in the order of CUDA_VISIBLE_DEVICES */
static unsigned visible_count;

unsigned device_count(void) {
    return visible_count;
}

int device_gpu(CUdevice device) {
    return device >= 0 && (unsigned)device < visible_count ? (int)visible[device] : -1;
}

CUdevice device_of_gpu(unsigned gpu) {
    for (unsigned i = 0; i < visible_count; i++)
        if (visible[i] == gpu)
            return (CUdevice)i;
    return CU_DEVICE_INVALID;
}

/* One entry of CUDA_VISIBLE_DEVICES: an index, or the unambiguous beginning of a UUID. -1: it names no GPU. */
static int gpu_named(const char *entry) {
    unsigned given[SIM_GPUS_MAX], count = gpus_given(engine_gpu_count(), given);
    if (strncmp(entry, "GPU-", 4) != 0) {
        char *end;
        long index = strtol(entry, &end, 10);
        return end != entry && !*end && index >= 0 && index < (long)count ? (int)given[index] : -1;
    }
    int found = -1;
    for (unsigned i = 0; i < count; i++) {
        if (strncasecmp(engine_gpu(given[i])->uuid, entry, strlen(entry)) != 0)
            continue;
        if (found >= 0)
            return -1;
        found = (int)given[i];
    }
    return found;
}

/* What CUDA_VISIBLE_DEVICES names, or what there is: GPUs, and MIG devices by their own names. */
struct candidate {
    unsigned gpu;
    bool is_instance;
    struct mig_place instance;
};
struct candidates {
    unsigned count;
    struct candidate all[DEVICES_MAX];
};

/* False: the entry names nothing, or the same as another. */
static bool add_candidate(struct candidates *candidates, const char *entry) {
    struct candidate candidate = {0};
    if (strncmp(entry, "MIG-", 4) == 0) {
        candidate.is_instance = engine_instance_named(entry, &candidate.instance);
        if (!candidate.is_instance)
            return false;
        candidate.gpu = candidate.instance.gpu;
    } else {
        int gpu = gpu_named(entry);
        if (gpu < 0 || !engine_gpu_found((unsigned)gpu))
            return false;
        candidate.gpu = (unsigned)gpu;
        for (unsigned i = 0; i < candidates->count; i++)
            if (!candidates->all[i].is_instance && candidates->all[i].gpu == candidate.gpu)
                return false;
    }
    candidates->all[candidates->count++] = candidate;
    return true;
}

static CUresult find_candidates(struct candidates *candidates) {
    const char *text = getenv("CUDA_VISIBLE_DEVICES");
    unsigned given[SIM_GPUS_MAX], count = gpus_given(engine_gpu_count(), given);
    for (unsigned i = 0; !text && i < count; i++)
        if (engine_gpu_found(given[i]))
            candidates->all[candidates->count++] = (struct candidate){.gpu = given[i]};
    char *copy = text ? strdup(text) : NULL, *rest = copy;
    if (text && !copy)
        return CUDA_ERROR_OUT_OF_MEMORY;
    for (char *entry; (entry = strsep(&rest, ",")) && candidates->count < DEVICES_MAX;) {
        entry += strspn(entry, " ");
        entry[strcspn(entry, " ")] = '\0';
        if (!add_candidate(candidates, entry))
            break; /* the list ends at the first entry that is wrong */
    }
    free(copy);
    return CUDA_SUCCESS;
}

/* CUDA shows a process one MIG device and nothing else, or whole GPUs. A GPU in MIG mode stands for its first one. */
static bool see_instance(const struct candidates *candidates) {
    for (unsigned i = 0; i < candidates->count; i++) {
        struct candidate candidate = candidates->all[i];
        if (!candidate.is_instance && engine_gpu_partitioned(candidate.gpu))
            candidate.is_instance = engine_instance_at(candidate.gpu, 0, &candidate.instance);
        if (!candidate.is_instance || engine_enter_instance(candidate.instance) < 0)
            continue;
        visible[0] = candidate.gpu;
        visible_count = 1;
        return true;
    }
    return false;
}

CUresult device_choose_visible(void) {
    struct candidates candidates = {0};
    visible_count = 0;
    CUresult result = find_candidates(&candidates);
    if (result)
        return result;
    if (see_instance(&candidates))
        return CUDA_SUCCESS;
    for (unsigned i = 0; i < candidates.count; i++)
        if (!engine_gpu_partitioned(candidates.all[i].gpu))
            visible[visible_count++] = candidates.all[i].gpu;
    return visible_count ? CUDA_SUCCESS : CUDA_ERROR_NO_DEVICE;
}

static CUresult find(CUdevice device, const struct sim_gpu **ret_gpu) {
    CUresult result = require_init();
    if (result)
        return result;
    int gpu = device_gpu(device);
    if (gpu < 0)
        return CUDA_ERROR_INVALID_DEVICE;
    *ret_gpu = engine_gpu((unsigned)gpu);
    return engine_gpu_fault((unsigned)gpu) < 0 ? CUDA_ERROR_UNKNOWN : CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal) {
    const struct sim_gpu *gpu;
    CUresult result = find(ordinal, &gpu);
    if (result)
        return result;
    if (!device)
        return CUDA_ERROR_INVALID_VALUE;
    *device = ordinal;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int *count) {
    CUresult result = require_init();
    if (result)
        return result;
    if (!count)
        return CUDA_ERROR_INVALID_VALUE;
    *count = (int)visible_count;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetName(char *name, int length, CUdevice device) {
    const struct sim_gpu *gpu;
    CUresult result = find(device, &gpu);
    if (result)
        return result;
    if (!name || length <= 0)
        return CUDA_ERROR_INVALID_VALUE;
    snprintf(name, (size_t)length, "%s", gpu->name);
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice device) {
    const struct sim_gpu *gpu;
    CUresult result = find(device, &gpu);
    if (result)
        return result;
    if (!uuid)
        return CUDA_ERROR_INVALID_VALUE;
    memcpy(uuid->bytes, gpu->uuid_bytes, sizeof uuid->bytes);
    return CUDA_SUCCESS;
}

/* The first version knows no MIG: it names the GPU. */
CUresult cuDeviceGetUuid(CUuuid *uuid, CUdevice device) {
    CUresult result = cuDeviceGetUuid_v2(uuid, device);
    if (!result)
        memcpy(uuid->bytes, engine_gpu_whole(visible[device])->uuid_bytes, sizeof uuid->bytes);
    return result;
}

CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device) {
    const struct sim_gpu *gpu;
    CUresult result = find(device, &gpu);
    if (result)
        return result;
    if (!bytes)
        return CUDA_ERROR_INVALID_VALUE;
    *bytes = gpu->memory_bytes;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device) {
    const struct sim_gpu *gpu;
    CUresult result = find(device, &gpu);
    if (result)
        return result;
    if (!value)
        return CUDA_ERROR_INVALID_VALUE;
    uint32_t capability = gpu->compute_major * 10 + gpu->compute_minor;
    switch (attribute) {
#define ATTRIBUTE(name, number)                                                                                        \
    case CU_DEVICE_ATTRIBUTE_##name:                                                                                   \
        *value = (number);                                                                                             \
        return CUDA_SUCCESS;
#include "device_attributes.def"
#undef ATTRIBUTE
    default:
        return CUDA_ERROR_INVALID_VALUE;
    }
}

CUresult cuDeviceComputeCapability(int *major, int *minor, CUdevice device) {
    const struct sim_gpu *gpu;
    CUresult result = find(device, &gpu);
    if (result)
        return result;
    if (!major || !minor)
        return CUDA_ERROR_INVALID_VALUE;
    *major = (int)gpu->compute_major;
    *minor = (int)gpu->compute_minor;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetProperties(CUdevprop *properties, CUdevice device) {
    const struct sim_gpu *gpu;
    CUresult result = find(device, &gpu);
    if (result)
        return result;
    if (!properties)
        return CUDA_ERROR_INVALID_VALUE;
    *properties = (CUdevprop){.maxThreadsPerBlock = 1024,
                              .maxThreadsDim = {1024, 1024, 64},
                              .maxGridSize = {INT32_MAX, 65535, 65535},
                              .sharedMemPerBlock = 49152,
                              .totalConstantMemory = 65536,
                              .SIMDWidth = 32,
                              .memPitch = INT32_MAX,
                              .regsPerBlock = 65536,
                              .clockRate = (int)gpu->sm_clock_max_mhz * 1000,
                              .textureAlign = 512};
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetPCIBusId(char *text, int length, CUdevice device) {
    const struct sim_gpu *gpu;
    CUresult result = find(device, &gpu);
    if (result)
        return result;
    if (!text || length <= 0)
        return CUDA_ERROR_INVALID_VALUE;
    snprintf(text, (size_t)length, "%04X:%02X:%02X.0", gpu->pci.domain, gpu->pci.bus, gpu->pci.device);
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetByPCIBusId(CUdevice *device, const char *text) {
    CUresult result = require_init();
    if (result)
        return result;
    unsigned domain = 0, bus, slot, function = 0;
    if (!device || !text)
        return CUDA_ERROR_INVALID_VALUE;
    if (sscanf(text, "%x:%x:%x.%x", &domain, &bus, &slot, &function) < 3) {
        domain = 0;
        if (sscanf(text, "%x:%x.%x", &bus, &slot, &function) < 2)
            return CUDA_ERROR_INVALID_VALUE;
    }
    for (unsigned i = 0; i < visible_count; i++) {
        const struct sim_pci *pci = &engine_gpu(visible[i])->pci;
        if (pci->domain != domain || pci->bus != bus || pci->device != slot)
            continue;
        *device = (CUdevice)i;
        return CUDA_SUCCESS;
    }
    return CUDA_ERROR_INVALID_DEVICE;
}

CUresult cuDeviceGetTexture1DLinearMaxWidth(size_t *width, CUarray_format format, unsigned channels, CUdevice device) {
    const struct sim_gpu *gpu;
    CUresult result = find(device, &gpu);
    if (result)
        return result;
    (void)format;
    if (!width || !channels)
        return CUDA_ERROR_INVALID_VALUE;
    *width = 268435456;
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetExecAffinitySupport(int *supported, CUexecAffinityType type, CUdevice device) {
    const struct sim_gpu *gpu;
    CUresult result = find(device, &gpu);
    if (result)
        return result;
    (void)type;
    if (!supported)
        return CUDA_ERROR_INVALID_VALUE;
    *supported = 0; /* only with MPS */
    return CUDA_SUCCESS;
}
