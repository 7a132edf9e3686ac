/* MIG mode, and MIG devices: what a compute instance is when it is looked at as a device. */
#include <unistd.h>

#include "library.h"

/* Returns zero where MIG cannot be, as many as there are compute slices where it can. */
GETTER(nvmlDeviceGetMaxMigDeviceCount, unsigned int, gpu->mig_slices)
GETTER_PAIR(gpu->mig_slices, nvmlDeviceGetMigMode, unsigned int, nvml_self.node->mig[gpu_index(gpu)].enabled,
            nvml_self.node->mig[gpu_index(gpu)].pending)

/* What stands in the way is told by `status`, and the mode stays pending: the call itself succeeds. */
EXPORT nvmlReturn_t nvmlDeviceSetMigMode(nvmlDevice_t device, unsigned int mode, nvmlReturn_t *status) {
    const struct sim_gpu *gpu;
    nvmlReturn_t result = nvml_gpu(device, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    if (!status || (mode != NVML_DEVICE_MIG_DISABLE && mode != NVML_DEVICE_MIG_ENABLE))
        return NVML_ERROR_INVALID_ARGUMENT;
    if (!gpu->mig_slices)
        return NVML_ERROR_NOT_SUPPORTED;
    if (geteuid() != 0)
        return NVML_ERROR_NO_PERMISSION;
    node_lock(&nvml_self);
    reap_dead(&nvml_self);
    int changed = mig_set_mode(nvml_self.node, gpu_index(gpu), mode == NVML_DEVICE_MIG_ENABLE);
    node_unlock(&nvml_self);
    *status = changed < 0 ? NVML_ERROR_IN_USE : NVML_SUCCESS;
    return NVML_SUCCESS;
}

bool instance_at(unsigned gpu, unsigned index, struct mig_place *ret_place) {
    node_lock(&nvml_self);
    bool found = mig_device_at(nvml_self.node, gpu, index, ret_place);
    node_unlock(&nvml_self);
    return found;
}

unsigned instance_index(struct mig_place place) {
    struct mig_place at;
    unsigned index = 0;
    while (instance_at(place.gpu, index, &at) && mig_name(at) != mig_name(place))
        index++;
    return index;
}

EXPORT nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned int index,
                                                        nvmlDevice_t *mig_device) {
    const struct sim_gpu *gpu;
    nvmlReturn_t result = nvml_gpu(device, &gpu);
    if (result != NVML_SUCCESS)
        return result;
    if (!mig_device || index >= (gpu->mig_slices ? gpu->mig_slices : 1))
        return NVML_ERROR_INVALID_ARGUMENT;
    if (!gpu->mig_slices)
        return NVML_ERROR_NOT_SUPPORTED;
    struct mig_place place;
    if (!instance_at(gpu_index(gpu), index, &place))
        return NVML_ERROR_NOT_FOUND;
    *mig_device = instance_handle(place);
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceIsMigDeviceHandle(nvmlDevice_t device, unsigned int *is_mig_device) {
    struct target target;
    nvmlReturn_t result = nvml_target(device, &target);
    if (result == NVML_SUCCESS && !is_mig_device)
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS)
        *is_mig_device = target.is_instance;
    return result;
}

static nvmlReturn_t id_of(nvmlDevice_t device, bool compute, unsigned *ret_id) {
    struct mig_place place;
    nvmlReturn_t result = nvml_instance(device, &place);
    if (result == NVML_SUCCESS && !ret_id)
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS)
        *ret_id = compute ? place.compute_instance : place.gpu_instance;
    return result;
}

EXPORT nvmlReturn_t nvmlDeviceGetGpuInstanceId(nvmlDevice_t device, unsigned int *id) {
    return id_of(device, false, id);
}

EXPORT nvmlReturn_t nvmlDeviceGetComputeInstanceId(nvmlDevice_t device, unsigned int *id) {
    return id_of(device, true, id);
}

EXPORT nvmlReturn_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t mig_device, nvmlDevice_t *device) {
    struct mig_place place;
    nvmlReturn_t result = nvml_instance(mig_device, &place);
    if (result == NVML_SUCCESS && !device)
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result == NVML_SUCCESS)
        *device = gpu_handle(place.gpu);
    return result;
}

static nvmlDeviceAttributes_t instance_attributes(struct mig_place place) {
    nvmlDeviceAttributes_t attributes = {0};
    node_lock(&nvml_self);
    const struct node_gpu_instance *instance = mig_gpu_instance(nvml_self.node, place.gpu, place.gpu_instance);
    const struct node_compute_instance *compute = mig_compute_instance(nvml_self.node, place);
    if (compute) {
        const struct sim_mig_profile *profile = mig_profile_of(nvml_self.node, place.gpu, instance);
        attributes = (nvmlDeviceAttributes_t){.multiprocessorCount = mig_compute_sms(
                                                  &nvml_self.node->gpus[place.gpu], profile, (unsigned)compute->slices),
                                              .sharedCopyEngineCount = profile->copy_engines,
                                              .sharedDecoderCount = profile->decoders,
                                              .sharedJpegCount = profile->jpegs,
                                              .sharedOfaCount = profile->ofas,
                                              .gpuInstanceSliceCount = profile->slices,
                                              .computeInstanceSliceCount = (unsigned)compute->slices,
                                              .memorySizeMB = profile->memory_mib};
    }
    node_unlock(&nvml_self);
    return attributes;
}

EXPORT nvmlReturn_t nvmlDeviceGetAttributes_v2(nvmlDevice_t device, nvmlDeviceAttributes_t *attributes) {
    struct target target;
    nvmlReturn_t result = nvml_target(device, &target);
    if (result != NVML_SUCCESS)
        return result;
    if (!attributes)
        return NVML_ERROR_INVALID_ARGUMENT;
    *attributes = target.is_instance ? instance_attributes(target.place)
                                     : (nvmlDeviceAttributes_t){.multiprocessorCount = target.gpu->sm_count,
                                                                .sharedCopyEngineCount = target.gpu->copy_engines,
                                                                .memorySizeMB = target.gpu->memory_bytes >> 20};
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetAttributes(nvmlDevice_t device, nvmlDeviceAttributes_t *attributes) {
    return nvmlDeviceGetAttributes_v2(device, attributes);
}
