/* GPU instances: their profiles, where they can be, and making and ending them. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "gpu_instances.h"

static nvmlReturn_t with_mig(nvmlDevice_t device, const struct sim_gpu **ret_gpu) {
    nvmlReturn_t result = nvml_gpu(device, ret_gpu);
    return result == NVML_SUCCESS && !(*ret_gpu)->mig_slices ? NVML_ERROR_NOT_SUPPORTED : result;
}

/* For calls that only make sense while the mode is on. */
static nvmlReturn_t in_mig_mode(nvmlDevice_t device, const struct sim_gpu **ret_gpu) {
    nvmlReturn_t result = with_mig(device, ret_gpu);
    if (result != NVML_SUCCESS)
        return result;
    return nvml_self.node->mig[gpu_index(*ret_gpu)].enabled ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED;
}

/* --- profiles ----------------------------------------------------------------------------------------------- */

static const struct sim_mig_profile *profile_with_id(const struct sim_gpu *gpu, unsigned id) {
    for (unsigned p = 0; p < gpu->mig_profile_count; p++)
        if (gpu->mig_profiles[p].id == id)
            return &gpu->mig_profiles[p];
    return NULL;
}

static const struct sim_mig_profile *profile_of_kind(const struct sim_gpu *gpu, unsigned kind) {
    for (unsigned p = 0; p < gpu->mig_profile_count; p++)
        if (gpu->mig_profiles[p].profile == kind)
            return &gpu->mig_profiles[p];
    return NULL;
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfo(nvmlDevice_t device, unsigned int kind,
                                                        nvmlGpuInstanceProfileInfo_t *info) {
    const struct sim_gpu *gpu;
    nvmlReturn_t result = with_mig(device, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    if (!info || kind >= NVML_GPU_INSTANCE_PROFILE_COUNT)
        return NVML_ERROR_INVALID_ARGUMENT;
    const struct sim_mig_profile *profile = profile_of_kind(gpu, kind);
    if (!profile)
        return NVML_ERROR_NOT_SUPPORTED;
    *info = (nvmlGpuInstanceProfileInfo_t){.id = profile->id,
                                           .sliceCount = profile->slices,
                                           .instanceCount = profile->count,
                                           .multiprocessorCount = profile->sm_count,
                                           .copyEngineCount = profile->copy_engines,
                                           .decoderCount = profile->decoders,
                                           .jpegCount = profile->jpegs,
                                           .ofaCount = profile->ofas,
                                           .memorySizeMB = profile->memory_mib};
    return NVML_SUCCESS;
}

static void write_v2(const struct sim_mig_profile *profile, nvmlGpuInstanceProfileInfo_v2_t *info) {
    *info = (nvmlGpuInstanceProfileInfo_v2_t){.version = nvmlGpuInstanceProfileInfo_v2,
                                              .id = profile->id,
                                              .sliceCount = profile->slices,
                                              .instanceCount = profile->count,
                                              .multiprocessorCount = profile->sm_count,
                                              .copyEngineCount = profile->copy_engines,
                                              .decoderCount = profile->decoders,
                                              .jpegCount = profile->jpegs,
                                              .ofaCount = profile->ofas,
                                              .memorySizeMB = profile->memory_mib};
    snprintf(info->name, sizeof info->name, "MIG %s", profile->name);
}

static void write_v3(const struct sim_mig_profile *profile, nvmlGpuInstanceProfileInfo_v3_t *info) {
    *info = (nvmlGpuInstanceProfileInfo_v3_t){.version = nvmlGpuInstanceProfileInfo_v3,
                                              .id = profile->id,
                                              .sliceCount = profile->slices,
                                              .instanceCount = profile->count,
                                              .multiprocessorCount = profile->sm_count,
                                              .copyEngineCount = profile->copy_engines,
                                              .decoderCount = profile->decoders,
                                              .jpegCount = profile->jpegs,
                                              .ofaCount = profile->ofas,
                                              .memorySizeMB = profile->memory_mib};
    snprintf(info->name, sizeof info->name, "MIG %s", profile->name);
}

/* The version word at its head says which structure it is. */
static nvmlReturn_t write_info(const struct sim_mig_profile *profile, nvmlGpuInstanceProfileInfo_v2_t *info) {
    if (!profile)
        return NVML_ERROR_NOT_SUPPORTED;
    if (info->version == nvmlGpuInstanceProfileInfo_v2)
        write_v2(profile, info);
    else if (info->version == nvmlGpuInstanceProfileInfo_v3)
        write_v3(profile, (nvmlGpuInstanceProfileInfo_v3_t *)(void *)info);
    else
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfoV(nvmlDevice_t device, unsigned int kind,
                                                         nvmlGpuInstanceProfileInfo_v2_t *info) {
    const struct sim_gpu *gpu;
    nvmlReturn_t result = with_mig(device, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    if (!info || kind >= NVML_GPU_INSTANCE_PROFILE_COUNT)
        return NVML_ERROR_INVALID_ARGUMENT;
    return write_info(profile_of_kind(gpu, kind), info);
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfoByIdV(nvmlDevice_t device, unsigned int id,
                                                             nvmlGpuInstanceProfileInfo_v2_t *info) {
    const struct sim_gpu *gpu;
    nvmlReturn_t result = with_mig(device, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    return info ? write_info(profile_with_id(gpu, id), info) : NVML_ERROR_INVALID_ARGUMENT;
}

static nvmlReturn_t placements(nvmlDevice_t device, unsigned id, nvmlGpuInstancePlacement_t *array, unsigned *count) {
    const struct sim_gpu *gpu;
    nvmlReturn_t result = with_mig(device, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    if (!count)
        return NVML_ERROR_INVALID_ARGUMENT;
    const struct sim_mig_profile *profile = profile_with_id(gpu, id);
    if (!profile)
        return NVML_ERROR_NOT_SUPPORTED;
    *count = 0;
    for (unsigned start = 0; start < 32; start++) {
        if (!(profile->starts >> start & 1))
            continue;
        if (array)
            array[*count] = (nvmlGpuInstancePlacement_t){start, profile->size};
        ++*count;
    }
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuInstancePossiblePlacements(nvmlDevice_t device, unsigned int id,
                                                               nvmlGpuInstancePlacement_t *array, unsigned int *count) {
    return placements(device, id, array, count);
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuInstancePossiblePlacements_v2(nvmlDevice_t device, unsigned int id,
                                                                  nvmlGpuInstancePlacement_t *array,
                                                                  unsigned int *count) {
    return placements(device, id, array, count);
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuInstanceRemainingCapacity(nvmlDevice_t device, unsigned int id,
                                                              unsigned int *count) {
    const struct sim_gpu *gpu;
    nvmlReturn_t result = in_mig_mode(device, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    if (!count)
        return NVML_ERROR_INVALID_ARGUMENT;
    const struct sim_mig_profile *profile = profile_with_id(gpu, id);
    if (!profile)
        return NVML_ERROR_NOT_SUPPORTED;
    node_lock(&nvml_self);
    *count = mig_room(nvml_self.node, gpu_index(gpu), profile);
    node_unlock(&nvml_self);
    return NVML_SUCCESS;
}

/* --- instances ---------------------------------------------------------------------------------------------- */

nvmlReturn_t nvml_gpu_instance(nvmlGpuInstance_t handle, unsigned *ret_gpu, unsigned *ret_id) {
    nvmlReturn_t result = nvml_ready();
    if (result != NVML_SUCCESS)
        return result;
    result = NVML_ERROR_INVALID_ARGUMENT;
    node_lock(&nvml_self);
    for (unsigned gpu = 0; gpu < nvml_self.node->info.gpu_count; gpu++) {
        for (unsigned id = 0; id < NODE_GPU_INSTANCES; id++) {
            struct node_gpu_instance *instance = mig_gpu_instance(nvml_self.node, gpu, id);
            if (!instance || (void *)handle != (void *)instance)
                continue;
            *ret_gpu = gpu;
            *ret_id = id;
            result = NVML_SUCCESS;
        }
    }
    node_unlock(&nvml_self);
    return result;
}

static nvmlGpuInstance_t handle_of(unsigned gpu, unsigned id) {
    return (nvmlGpuInstance_t)&nvml_self.node->mig[gpu].instances[id];
}

static nvmlReturn_t create(nvmlDevice_t device, unsigned profile_id, uint32_t start, nvmlGpuInstance_t *ret_instance) {
    const struct sim_gpu *gpu;
    nvmlReturn_t result = in_mig_mode(device, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    if (!ret_instance)
        return NVML_ERROR_INVALID_ARGUMENT;
    const struct sim_mig_profile *profile = profile_with_id(gpu, profile_id);
    if (!profile)
        return NVML_ERROR_NOT_SUPPORTED;
    if (geteuid() != 0)
        return NVML_ERROR_NO_PERMISSION;
    unsigned id;
    node_lock(&nvml_self);
    int created =
        mig_create_gpu_instance(nvml_self.node, gpu_index(gpu), (unsigned)(profile - gpu->mig_profiles), start, &id);
    node_unlock(&nvml_self);
    if (created < 0)
        return created == -EINVAL ? NVML_ERROR_INVALID_ARGUMENT : NVML_ERROR_INSUFFICIENT_RESOURCES;
    *ret_instance = handle_of(gpu_index(gpu), id);
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceCreateGpuInstance(nvmlDevice_t device, unsigned int profile_id,
                                                nvmlGpuInstance_t *instance) {
    return create(device, profile_id, MIG_ANYWHERE, instance);
}

EXPORT nvmlReturn_t nvmlDeviceCreateGpuInstanceWithPlacement(nvmlDevice_t device, unsigned int profile_id,
                                                             const nvmlGpuInstancePlacement_t *placement,
                                                             nvmlGpuInstance_t *instance) {
    return placement ? create(device, profile_id, placement->start, instance) : NVML_ERROR_INVALID_ARGUMENT;
}

EXPORT nvmlReturn_t nvmlGpuInstanceDestroy(nvmlGpuInstance_t instance) {
    unsigned gpu, id;
    nvmlReturn_t result = nvml_gpu_instance(instance, &gpu, &id);
    if (result != NVML_SUCCESS)
        return result;
    if (geteuid() != 0)
        return NVML_ERROR_NO_PERMISSION;
    node_lock(&nvml_self);
    int destroyed = mig_destroy_gpu_instance(nvml_self.node, gpu, id);
    node_unlock(&nvml_self);
    return destroyed == -EBUSY ? NVML_ERROR_IN_USE : NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuInstances(nvmlDevice_t device, unsigned int profile_id,
                                              nvmlGpuInstance_t *instances, unsigned int *count) {
    const struct sim_gpu *gpu;
    nvmlReturn_t result = in_mig_mode(device, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    if (!instances || !count)
        return NVML_ERROR_INVALID_ARGUMENT;
    const struct sim_mig_profile *profile = profile_with_id(gpu, profile_id);
    if (!profile)
        return NVML_ERROR_NOT_SUPPORTED;
    *count = 0;
    node_lock(&nvml_self);
    for (unsigned id = 0; id < NODE_GPU_INSTANCES; id++) {
        const struct node_gpu_instance *instance = mig_gpu_instance(nvml_self.node, gpu_index(gpu), id);
        if (instance && mig_profile_of(nvml_self.node, gpu_index(gpu), instance) == profile)
            instances[(*count)++] = handle_of(gpu_index(gpu), id);
    }
    node_unlock(&nvml_self);
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuInstanceById(nvmlDevice_t device, unsigned int id, nvmlGpuInstance_t *instance) {
    const struct sim_gpu *gpu;
    nvmlReturn_t result = in_mig_mode(device, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    if (!instance)
        return NVML_ERROR_INVALID_ARGUMENT;
    node_lock(&nvml_self);
    bool there = mig_gpu_instance(nvml_self.node, gpu_index(gpu), id);
    node_unlock(&nvml_self);
    if (!there)
        return NVML_ERROR_NOT_FOUND;
    *instance = handle_of(gpu_index(gpu), id);
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlGpuInstanceGetInfo(nvmlGpuInstance_t handle, nvmlGpuInstanceInfo_t *info) {
    unsigned gpu, id;
    nvmlReturn_t result = nvml_gpu_instance(handle, &gpu, &id);
    if (result != NVML_SUCCESS)
        return result;
    if (!info)
        return NVML_ERROR_INVALID_ARGUMENT;
    result = NVML_ERROR_INVALID_ARGUMENT;
    node_lock(&nvml_self);
    const struct node_gpu_instance *instance = mig_gpu_instance(nvml_self.node, gpu, id);
    if (instance) {
        const struct sim_mig_profile *profile = mig_profile_of(nvml_self.node, gpu, instance);
        *info = (nvmlGpuInstanceInfo_t){.device = gpu_handle(gpu),
                                        .id = id,
                                        .profileId = profile->id,
                                        .placement = {(unsigned)instance->start, profile->size}};
        result = NVML_SUCCESS;
    }
    node_unlock(&nvml_self);
    return result;
}
