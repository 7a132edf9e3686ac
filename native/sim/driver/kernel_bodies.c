/* The kernels of tests/kernels, in C. Any other kernel takes time and writes nothing. */
#include <math.h>
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

/* gpuslice_pattern(u32 *target, u32 mask, u64 count, u64 first) */
struct pattern {
    uint64_t target;
    uint32_t mask, padding;
    uint64_t count, first;
};
static uint64_t pattern_cost(const struct sim_gpu *gpu, const void *arguments) {
    return memory_cost(gpu, ((const struct pattern *)arguments)->count * 4);
}
static uint32_t pattern_word(uint64_t number, uint32_t mask) {
    return ((uint32_t)number * 0x9E3779B1u ^ (uint32_t)(number >> 32) * 0x85EBCA6Bu) ^ mask;
}
static bool pattern(unsigned gpu, const void *arguments) {
    const struct pattern *pattern = arguments;
    if (!is_there(pattern->target, pattern->count * 4))
        return false;
    uint32_t *target = (uint32_t *)pattern->target;
    for (uint64_t i = 0; i < pattern->count; i++)
        target[i] = pattern_word(pattern->first + i, pattern->mask);
    engine_memory_written(gpu, pattern->target, pattern->count * 4);
    return true;
}

/* gpuslice_match(const u32 *source, u32 mask, u64 count, u64 first, u64 *found) */
struct match {
    uint64_t source;
    uint32_t mask, padding;
    uint64_t count, first, found;
};
static uint64_t match_cost(const struct sim_gpu *gpu, const void *arguments) {
    return memory_cost(gpu, ((const struct match *)arguments)->count * 4);
}
static bool match(unsigned gpu, const void *arguments) {
    const struct match *match = arguments;
    if (!is_there(match->source, match->count * 4) || !is_there(match->found, 3 * sizeof(uint64_t)))
        return false;
    const uint32_t *source = (const uint32_t *)match->source;
    uint64_t *found = (uint64_t *)match->found;
    for (uint64_t i = 0; i < match->count; i++) {
        uint32_t wrong = source[i] ^ pattern_word(match->first + i, match->mask);
        if (!wrong)
            continue;
        found[0]++;
        found[1] = match->first + i < found[1] ? match->first + i : found[1];
        found[2] |= wrong;
    }
    engine_memory_written(gpu, match->found, 3 * sizeof(uint64_t));
    return true;
}

/* gpuslice_burn(float *results, u32 rounds, u64 count): every 32nd thread does the same. */
#define BURN_LANES 32u
struct burn {
    uint64_t results;
    uint32_t rounds, padding;
    uint64_t count;
};
static uint64_t burn_cost(const struct sim_gpu *gpu, const void *arguments) {
    const struct burn *burn = arguments;
    double per_second = (double)gpu->sm_count * gpu->cores_per_sm * gpu->sm_clock_max_mhz * 1e6;
    return (uint64_t)(2.0 * burn->rounds * (double)burn->count * 1e9 / per_second);
}
static float burnt(unsigned lane, uint32_t rounds) {
    float x = (float)(lane + 1) / 64.0f;
    while (rounds--) {
        float difference = fmaf(-x, x, x);
        x = difference * 3.99f;
    }
    return x;
}
static bool burn(unsigned gpu, const void *arguments) {
    const struct burn *burn = arguments;
    if (!is_there(burn->results, burn->count * 4))
        return false;
    float lanes[BURN_LANES], *results = (float *)burn->results;
    for (unsigned lane = 0; lane < BURN_LANES; lane++)
        lanes[lane] = burnt(lane, burn->rounds);
    for (uint64_t i = 0; i < burn->count; i++)
        results[i] = lanes[i % BURN_LANES];
    uint32_t flip = engine_result_flip(gpu);
    if (burn->count && flip)
        ((uint32_t *)burn->results)[burn->count / 2] ^= flip;
    engine_memory_written(gpu, burn->results, burn->count * 4);
    return true;
}

static const struct kernel_body bodies[] = {
    {"gpuslice_spin", sizeof(uint64_t) + sizeof(uint32_t), spin_cost, 1.0, NULL},
    {"gpuslice_empty", 0, no_cost, 1.0, NULL},
    {"gpuslice_fill", sizeof(struct fill), fill_cost, 1.0, fill},
    {"gpuslice_add", sizeof(struct add), add_cost, 1.0, add},
    {"gpuslice_pattern", sizeof(struct pattern), pattern_cost, 1.0, pattern},
    {"gpuslice_match", sizeof(struct match), match_cost, 1.0, match},
    {"gpuslice_burn", sizeof(struct burn), burn_cost, 1.0, burn},
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
