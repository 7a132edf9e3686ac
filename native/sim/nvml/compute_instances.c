/* Compute instances: the compute slices of a GPU instance, whole or split. */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "gpu_instances.h"

/* NVML numbers compute profiles by their slices, and gives the number as id too. */
static const unsigned slices_of[] = {[NVML_COMPUTE_INSTANCE_PROFILE_1_SLICE] = 1,
                                     [NVML_COMPUTE_INSTANCE_PROFILE_2_SLICE] = 2,
                                     [NVML_COMPUTE_INSTANCE_PROFILE_3_SLICE] = 3,
                                     [NVML_COMPUTE_INSTANCE_PROFILE_4_SLICE] = 4,
                                     [NVML_COMPUTE_INSTANCE_PROFILE_7_SLICE] = 7};
#define PROFILES (sizeof slices_of / sizeof slices_of[0])

static unsigned id_of_slices(unsigned slices) {
    unsigned id = 0;
    while (id < PROFILES && slices_of[id] != slices)
        id++;
    return id;
}

/* --- profiles ----------------------------------------------------------------------------------------------- */

/* A compute profile within a GPU instance. */
struct compute_profile {
    unsigned gpu, gpu_instance, id, slices;
    uint32_t starts;
    const struct sim_mig_profile *of;
};

/* NVML_ERROR_NOT_SUPPORTED: that instance cannot be split so. */
static nvmlReturn_t find_profile(nvmlGpuInstance_t handle, unsigned id, struct compute_profile *ret_profile) {
    struct compute_profile profile = {.id = id};
    nvmlReturn_t result = nvml_gpu_instance(handle, &profile.gpu, &profile.gpu_instance);
    if (result != NVML_SUCCESS)
        return result;
    node_lock(&nvml_self);
    const struct node_gpu_instance *instance = mig_gpu_instance(nvml_self.node, profile.gpu, profile.gpu_instance);
    if (instance && id < PROFILES) {
        profile.of = mig_profile_of(nvml_self.node, profile.gpu, instance);
        profile.slices = slices_of[id];
        profile.starts = mig_compute_starts(profile.of, profile.slices);
    }
    node_unlock(&nvml_self);
    *ret_profile = profile;
    return profile.starts ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED;
}

static unsigned count_of(const struct compute_profile *profile) {
    return profile->slices ? profile->of->slices / profile->slices : 0;
}

static unsigned sms_of(const struct compute_profile *profile) {
    return mig_compute_sms(&nvml_self.node->gpus[profile->gpu], profile->of, profile->slices);
}

static nvmlReturn_t find_kind(nvmlGpuInstance_t handle, unsigned kind, unsigned engines, const void *info,
                              struct compute_profile *ret_profile) {
    if (!info || kind >= NVML_COMPUTE_INSTANCE_PROFILE_COUNT || engines >= NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_COUNT)
        return NVML_ERROR_INVALID_ARGUMENT;
    return find_profile(handle, kind, ret_profile);
}

EXPORT nvmlReturn_t nvmlGpuInstanceGetComputeInstanceProfileInfo(nvmlGpuInstance_t instance, unsigned int kind,
                                                                 unsigned int engines,
                                                                 nvmlComputeInstanceProfileInfo_t *info) {
    struct compute_profile profile;
    nvmlReturn_t result = find_kind(instance, kind, engines, info, &profile);
    if (result == NVML_SUCCESS)
        *info = (nvmlComputeInstanceProfileInfo_t){.id = profile.id,
                                                   .sliceCount = profile.slices,
                                                   .instanceCount = count_of(&profile),
                                                   .multiprocessorCount = sms_of(&profile),
                                                   .sharedCopyEngineCount = profile.of->copy_engines,
                                                   .sharedDecoderCount = profile.of->decoders,
                                                   .sharedJpegCount = profile.of->jpegs,
                                                   .sharedOfaCount = profile.of->ofas};
    return result;
}

/* The third version is the second with a word more at the end. */
static void write_v2(const struct compute_profile *profile, nvmlComputeInstanceProfileInfo_v2_t *info) {
    unsigned version = info->version;
    *info = (nvmlComputeInstanceProfileInfo_v2_t){.version = version,
                                                  .id = profile->id,
                                                  .sliceCount = profile->slices,
                                                  .instanceCount = count_of(profile),
                                                  .multiprocessorCount = sms_of(profile),
                                                  .sharedCopyEngineCount = profile->of->copy_engines,
                                                  .sharedDecoderCount = profile->of->decoders,
                                                  .sharedJpegCount = profile->of->jpegs,
                                                  .sharedOfaCount = profile->of->ofas};
    if (profile->slices == profile->of->slices)
        snprintf(info->name, sizeof info->name, "MIG %s", profile->of->name);
    else
        snprintf(info->name, sizeof info->name, "MIG %uc.%s", profile->slices, profile->of->name);
}

EXPORT nvmlReturn_t nvmlGpuInstanceGetComputeInstanceProfileInfoV(nvmlGpuInstance_t instance, unsigned int kind,
                                                                  unsigned int engines,
                                                                  nvmlComputeInstanceProfileInfo_v2_t *info) {
    struct compute_profile profile;
    nvmlReturn_t result = find_kind(instance, kind, engines, info, &profile);
    if (result != NVML_SUCCESS)
        return result;
    if (info->version != nvmlComputeInstanceProfileInfo_v2 && info->version != nvmlComputeInstanceProfileInfo_v3)
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    write_v2(&profile, info);
    if (info->version == nvmlComputeInstanceProfileInfo_v3)
        ((nvmlComputeInstanceProfileInfo_v3_t *)(void *)info)->capabilities = 0;
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlGpuInstanceGetComputeInstancePossiblePlacements(nvmlGpuInstance_t instance, unsigned int id,
                                                                        nvmlComputeInstancePlacement_t *placements,
                                                                        unsigned int *count) {
    struct compute_profile profile;
    nvmlReturn_t result = count ? find_profile(instance, id, &profile) : NVML_ERROR_INVALID_ARGUMENT;
    if (result != NVML_SUCCESS)
        return result;
    *count = 0;
    for (unsigned start = 0; start < 32; start++) {
        if (!(profile.starts >> start & 1))
            continue;
        if (placements)
            placements[*count] = (nvmlComputeInstancePlacement_t){start, profile.slices};
        ++*count;
    }
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlGpuInstanceGetComputeInstanceRemainingCapacity(nvmlGpuInstance_t instance, unsigned int id,
                                                                       unsigned int *count) {
    struct compute_profile profile;
    nvmlReturn_t result = count ? find_profile(instance, id, &profile) : NVML_ERROR_INVALID_ARGUMENT;
    if (result != NVML_SUCCESS)
        return result;
    node_lock(&nvml_self);
    *count = mig_compute_room(nvml_self.node, profile.gpu, profile.gpu_instance, profile.slices);
    node_unlock(&nvml_self);
    return NVML_SUCCESS;
}

/* --- instances ---------------------------------------------------------------------------------------------- */

/* The same address as the MIG device's handle: one thing, looked at in two ways. */
static nvmlComputeInstance_t handle_of(struct mig_place place) {
    return (nvmlComputeInstance_t)(void *)instance_handle(place);
}

static nvmlReturn_t create(nvmlGpuInstance_t handle, unsigned id, uint32_t start, nvmlComputeInstance_t *ret_instance) {
    struct compute_profile profile;
    nvmlReturn_t result = ret_instance ? find_profile(handle, id, &profile) : NVML_ERROR_INVALID_ARGUMENT;
    if (result != NVML_SUCCESS)
        return result;
    if (geteuid() != 0)
        return NVML_ERROR_NO_PERMISSION;
    struct mig_place place = {profile.gpu, profile.gpu_instance, 0};
    node_lock(&nvml_self);
    int created = mig_create_compute_instance(nvml_self.node, place.gpu, place.gpu_instance, profile.slices, start,
                                              &place.compute_instance);
    node_unlock(&nvml_self);
    if (created < 0)
        return created == -ENOSPC ? NVML_ERROR_INSUFFICIENT_RESOURCES : NVML_ERROR_INVALID_ARGUMENT;
    *ret_instance = handle_of(place);
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlGpuInstanceCreateComputeInstance(nvmlGpuInstance_t gpu_instance, unsigned int id,
                                                         nvmlComputeInstance_t *instance) {
    return create(gpu_instance, id, MIG_ANYWHERE, instance);
}

EXPORT nvmlReturn_t nvmlGpuInstanceCreateComputeInstanceWithPlacement(nvmlGpuInstance_t gpu_instance, unsigned int id,
                                                                      const nvmlComputeInstancePlacement_t *placement,
                                                                      nvmlComputeInstance_t *instance) {
    return placement ? create(gpu_instance, id, placement->start, instance) : NVML_ERROR_INVALID_ARGUMENT;
}

static nvmlReturn_t place_of(nvmlComputeInstance_t instance, struct mig_place *ret_place) {
    return nvml_instance((nvmlDevice_t)(void *)instance, ret_place);
}

EXPORT nvmlReturn_t nvmlComputeInstanceDestroy(nvmlComputeInstance_t instance) {
    struct mig_place place;
    nvmlReturn_t result = place_of(instance, &place);
    if (result != NVML_SUCCESS)
        return result;
    if (geteuid() != 0)
        return NVML_ERROR_NO_PERMISSION;
    node_lock(&nvml_self);
    reap_dead(&nvml_self);
    int destroyed = mig_destroy_compute_instance(nvml_self.node, place);
    node_unlock(&nvml_self);
    return destroyed == -EBUSY ? NVML_ERROR_IN_USE : NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlGpuInstanceGetComputeInstances(nvmlGpuInstance_t gpu_instance, unsigned int id,
                                                       nvmlComputeInstance_t *instances, unsigned int *count) {
    struct compute_profile profile;
    nvmlReturn_t result = instances && count ? find_profile(gpu_instance, id, &profile) : NVML_ERROR_INVALID_ARGUMENT;
    if (result != NVML_SUCCESS)
        return result;
    *count = 0;
    node_lock(&nvml_self);
    for (unsigned c = 0; c < NODE_COMPUTE_INSTANCES; c++) {
        struct mig_place place = {profile.gpu, profile.gpu_instance, c};
        const struct node_compute_instance *compute = mig_compute_instance(nvml_self.node, place);
        if (compute && compute->slices == profile.slices)
            instances[(*count)++] = handle_of(place);
    }
    node_unlock(&nvml_self);
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlGpuInstanceGetComputeInstanceById(nvmlGpuInstance_t gpu_instance, unsigned int id,
                                                          nvmlComputeInstance_t *instance) {
    struct mig_place place = {.compute_instance = id};
    nvmlReturn_t result = nvml_gpu_instance(gpu_instance, &place.gpu, &place.gpu_instance);
    if (result != NVML_SUCCESS)
        return result;
    if (!instance)
        return NVML_ERROR_INVALID_ARGUMENT;
    node_lock(&nvml_self);
    bool there = mig_compute_instance(nvml_self.node, place);
    node_unlock(&nvml_self);
    if (!there)
        return NVML_ERROR_NOT_FOUND;
    *instance = handle_of(place);
    return NVML_SUCCESS;
}

static nvmlReturn_t info_of(nvmlComputeInstance_t instance, nvmlComputeInstanceInfo_t *info) {
    struct mig_place place;
    nvmlReturn_t result = place_of(instance, &place);
    if (result != NVML_SUCCESS)
        return result;
    if (!info)
        return NVML_ERROR_INVALID_ARGUMENT;
    result = NVML_ERROR_INVALID_ARGUMENT;
    node_lock(&nvml_self);
    const struct node_compute_instance *compute = mig_compute_instance(nvml_self.node, place);
    if (compute) {
        *info = (nvmlComputeInstanceInfo_t){
            .device = gpu_handle(place.gpu),
            .gpuInstance = (nvmlGpuInstance_t)mig_gpu_instance(nvml_self.node, place.gpu, place.gpu_instance),
            .id = place.compute_instance,
            .profileId = id_of_slices((unsigned)compute->slices),
            .placement = {(unsigned)compute->start, (unsigned)compute->slices}};
        result = NVML_SUCCESS;
    }
    node_unlock(&nvml_self);
    return result;
}

EXPORT nvmlReturn_t nvmlComputeInstanceGetInfo_v2(nvmlComputeInstance_t instance, nvmlComputeInstanceInfo_t *info) {
    return info_of(instance, info);
}

EXPORT nvmlReturn_t nvmlComputeInstanceGetInfo(nvmlComputeInstance_t instance, nvmlComputeInstanceInfo_t *info) {
    return info_of(instance, info);
}
