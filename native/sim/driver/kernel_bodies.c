/* The kernels of tests/kernels, in C. Any other kernel takes time and writes nothing. */
#include <string.h>

#include "kernel.h"

/* gpuslice_spin(u64 ns, u32 steps_per_us): the host has found out how many dependent multiply-adds a microsecond
 * takes; here a step takes what it should, so the launch takes `ns`. */
struct spin {
    uint64_t ns;
    uint32_t steps_per_us;
};
static uint64_t spin_cost(const struct sim_gpu *gpu, const void *arguments) {
    (void)gpu;
    return ((const struct spin *)arguments)->ns;
}

static uint64_t no_cost(const struct sim_gpu *gpu, const void *arguments) {
    (void)gpu, (void)arguments;
    return 0;
}

static uint64_t memory_cost(const struct sim_gpu *gpu, uint64_t bytes) {
    return (uint64_t)((double)bytes * 1e9 / (double)gpu->memory_bandwidth);
}

static bool is_there(uint64_t address, uint64_t bytes) {
    struct engine_range range;
    if (!bytes)
        return true;
    if (engine_memory_find(address, &range) || range.kind == ENGINE_RANGE_RESERVED)
        return false;
    /* Pools cut one engine allocation into many, and a buffer may span mappings: its last byte must be there too. */
    return !engine_memory_find(address + bytes - 1, &range) && range.kind != ENGINE_RANGE_RESERVED;
}

/* gpuslice_fill(u32 *target, u32 value, u64 count) */
struct fill {
    uint64_t target;
    uint32_t value, padding;
    uint64_t count;
};
static uint64_t fill_cost(const struct sim_gpu *gpu, const void *arguments) {
    return memory_cost(gpu, ((const struct fill *)arguments)->count * 4);
}
static bool fill(unsigned gpu, const void *arguments) {
    const struct fill *fill = arguments;
    if (!is_there(fill->target, fill->count * 4))
        return false;
    uint32_t *target = (uint32_t *)fill->target;
    for (uint64_t i = 0; i < fill->count; i++)
        target[i] = fill->value;
    engine_memory_written(gpu, fill->target, fill->count * 4);
    return true;
}

/* gpuslice_add(const float *a, const float *b, float *sum, u64 count) */
struct add {
    uint64_t a, b, sum, count;
};
static uint64_t add_cost(const struct sim_gpu *gpu, const void *arguments) {
    return memory_cost(gpu, ((const struct add *)arguments)->count * 12);
}
static bool add(unsigned gpu, const void *arguments) {
    const struct add *add = arguments;
    uint64_t bytes = add->count * 4;
    if (!is_there(add->a, bytes) || !is_there(add->b, bytes) || !is_there(add->sum, bytes))
        return false;
    const float *a = (const float *)add->a, *b = (const float *)add->b;
    float *sum = (float *)add->sum;
    for (uint64_t i = 0; i < add->count; i++)
        sum[i] = a[i] + b[i];
    uint32_t flip = engine_result_flip(gpu);
    if (add->count && flip)
        ((uint32_t *)add->sum)[add->count / 2] ^= flip;
    engine_memory_written(gpu, add->sum, bytes);
    return true;
}

static const struct kernel_body bodies[] = {
    {"gpuslice_spin", sizeof(uint64_t) + sizeof(uint32_t), spin_cost, 1.0, NULL},
    {"gpuslice_empty", 0, no_cost, 1.0, NULL},
    {"gpuslice_fill", sizeof(struct fill), fill_cost, 1.0, fill},
    {"gpuslice_add", sizeof(struct add), add_cost, 1.0, add},
};

const struct kernel_body *kernel_body_find(const struct image_function *image) {
    uint32_t bytes = 0;
    for (uint32_t i = 0; i < image->parameter_count; i++)
        bytes = image->parameters[i].offset + image->parameters[i].size;
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++)
        if (!strcmp(bodies[i].name, image->name) && bytes >= bodies[i].argument_bytes)
            return &bodies[i];
    return NULL;
}
