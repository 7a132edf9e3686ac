/* Kernels: what a launch costs, and the few that really do something. */
#ifndef GPUSLICE_SIM_KERNEL_H
#define GPUSLICE_SIM_KERNEL_H

#include "image.h"
#include "module.h"
#include "sim.h"

/* A kernel that this library knows by name. tests/kernels has the PTX that does the same on a GPU. */
struct kernel_body {
    const char *name;
    uint32_t argument_bytes; /* a kernel of that name with fewer is another one */
    /* Its time alone on the GPU, and the part of the GPU it fills. */
    uint64_t (*cost_ns)(const struct sim_gpu *gpu, const void *arguments);
    double occupancy;
    /* NULL: it writes nothing. false: it touched memory that is not there. */
    bool (*run)(unsigned gpu, const void *arguments);
};
const struct kernel_body *kernel_body_find(const struct image_function *image);

void function_init(struct function *function, struct module *module, const struct image_function *image);
/* How many blocks of this shape one multiprocessor holds at a time. */
uint32_t kernel_blocks_per_sm(const struct sim_gpu *gpu, const struct function *function, uint32_t threads,
                              uint64_t dynamic_shared_bytes);
/* Blocks of a cooperative launch wait for each other, so all of them must fit at once. */
CUresult kernel_check_cooperative(const struct work_kernel *kernel);
/* The context's function behind a library's kernel, loading the library there if need be. */
CUresult library_function(const void *kernel, struct function **ret_function);

#endif
