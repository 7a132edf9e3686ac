/* libnvidia-ml.so.1 of the simulated node. Every symbol of nvml.h is exported: what no file here defines is a weak
 * stub (generated at build time from native/symbols/nvml.txt) that answers NVML_ERROR_NOT_SUPPORTED.
 *
 * A device handle is the address of the GPU in the node file. */
#ifndef GPUSLICE_SIM_NVML_LIBRARY_H
#define GPUSLICE_SIM_NVML_LIBRARY_H

#define NVML_NO_UNVERSIONED_FUNC_DEFS /* nvmlInit is nvmlInit, not nvmlInit_v2 */
#include <nvml.h>
#include <stdbool.h>

#include "member.h"
#include "mig.h"

#define EXPORT __attribute__((visibility("default")))

extern struct member nvml_self;
/* The GPUs that this process was shown, by their NVML index. */
extern struct listed {
    unsigned count, gpus[SIM_GPUS_MAX];
} listed;

/* NVML_ERROR_UNINITIALIZED before the first init and after the last shutdown. */
nvmlReturn_t nvml_ready(void);
nvmlReturn_t nvml_stub(void);
/* NVML_ERROR_INVALID_ARGUMENT: no handle of ours. */
nvmlReturn_t nvml_gpu(nvmlDevice_t device, const struct sim_gpu **ret_gpu);
/* A GPU, or one MIG device of it: few calls take both. NVML_ERROR_INVALID_ARGUMENT: neither, or it is gone. */
struct target {
    const struct sim_gpu *gpu;
    bool is_instance;
    struct mig_place place; /* of an instance */
};
nvmlReturn_t nvml_target(nvmlDevice_t device, struct target *ret_target);
/* Only a MIG device. */
nvmlReturn_t nvml_instance(nvmlDevice_t device, struct mig_place *ret_place);
/* Copies a string with its NUL. NVML_ERROR_INSUFFICIENT_SIZE. */
nvmlReturn_t nvml_text(const char *text, char *buffer, unsigned length);

static inline unsigned gpu_index(const struct sim_gpu *gpu) {
    return (unsigned)(gpu - nvml_self.node->gpus);
}

static inline nvmlDevice_t gpu_handle(unsigned index) {
    return (nvmlDevice_t)&nvml_self.node->gpus[index];
}

/* A MIG device's handle is the address of its compute instance in the node file. */
static inline nvmlDevice_t instance_handle(struct mig_place place) {
    struct node_gpu_instance *instance = &nvml_self.node->mig[place.gpu].instances[place.gpu_instance];
    return (nvmlDevice_t)&instance->compute[place.compute_instance];
}
/* Among the MIG devices of its GPU; false: there is no index-th. */
bool instance_at(unsigned gpu, unsigned index, struct mig_place *ret_place);
unsigned instance_index(struct mig_place place);
/* What CUDA and NVML say of it. */
struct sim_gpu instance_view(struct mig_place place);

/* What a GPU is doing now. */
struct gpu_moment {
    double busy;         /* 0 to 1, of about the last second */
    uint64_t busy_ns;    /* since the node was made */
    uint64_t used_bytes; /* by all processes */
    uint64_t now_ns;
};
struct gpu_moment gpu_moment(const struct sim_gpu *gpu);
/* What is wrong with it now. */
struct node_fault gpu_fault(const struct sim_gpu *gpu);

/* topology.c: whether an NVLink is trained. */
bool link_up(const struct sim_gpu *gpu, unsigned link);
/* clocks.c */
nvmlReturn_t gpu_temperature(nvmlDevice_t device, nvmlTemperatureSensors_t sensor, unsigned *ret_celsius);

/* A function that answers one value of a device: `gpu` is in scope of `expression`. */
#define GETTER(function, type, expression)                                                                             \
    EXPORT nvmlReturn_t function(nvmlDevice_t device, type *ret_value) {                                               \
        const struct sim_gpu *gpu;                                                                                     \
        nvmlReturn_t result = nvml_gpu(device, &gpu);                                                                  \
        if (result != NVML_SUCCESS)                                                                                    \
            return result;                                                                                             \
        if (!ret_value)                                                                                                \
            return NVML_ERROR_INVALID_ARGUMENT;                                                                        \
        *ret_value = (type)(expression);                                                                               \
        return NVML_SUCCESS;                                                                                           \
    }

/* The same for devices that have the thing at all. */
#define GETTER_IF(has, function, type, expression)                                                                     \
    EXPORT nvmlReturn_t function(nvmlDevice_t device, type *ret_value) {                                               \
        const struct sim_gpu *gpu;                                                                                     \
        nvmlReturn_t result = nvml_gpu(device, &gpu);                                                                  \
        if (result != NVML_SUCCESS)                                                                                    \
            return result;                                                                                             \
        if (!ret_value)                                                                                                \
            return NVML_ERROR_INVALID_ARGUMENT;                                                                        \
        if (!(has))                                                                                                    \
            return NVML_ERROR_NOT_SUPPORTED;                                                                           \
        *ret_value = (type)(expression);                                                                               \
        return NVML_SUCCESS;                                                                                           \
    }

/* Two values: current and pending, minimum and maximum. */
#define GETTER_PAIR(has, function, type, first, second)                                                                \
    EXPORT nvmlReturn_t function(nvmlDevice_t device, type *ret_first, type *ret_second) {                             \
        const struct sim_gpu *gpu;                                                                                     \
        nvmlReturn_t result = nvml_gpu(device, &gpu);                                                                  \
        if (result != NVML_SUCCESS)                                                                                    \
            return result;                                                                                             \
        if (!ret_first || !ret_second)                                                                                 \
            return NVML_ERROR_INVALID_ARGUMENT;                                                                        \
        if (!(has))                                                                                                    \
            return NVML_ERROR_NOT_SUPPORTED;                                                                           \
        *ret_first = (type)(first);                                                                                    \
        *ret_second = (type)(second);                                                                                  \
        return NVML_SUCCESS;                                                                                           \
    }

#define GETTER_TEXT(function, expression)                                                                              \
    EXPORT nvmlReturn_t function(nvmlDevice_t device, char *buffer, unsigned int length) {                             \
        const struct sim_gpu *gpu;                                                                                     \
        nvmlReturn_t result = nvml_gpu(device, &gpu);                                                                  \
        return result != NVML_SUCCESS ? result : nvml_text(expression, buffer, length);                                \
    }

#endif
