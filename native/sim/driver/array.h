#ifndef GPUSLICE_SIM_ARRAY_H
#define GPUSLICE_SIM_ARRAY_H

#include "sim.h"

/* An array, or one level of a mipmapped one. Its rows lie in linear memory, each `pitch` bytes long. */
struct array {
    uint32_t magic;
    unsigned gpu;
    CUDA_ARRAY3D_DESCRIPTOR descriptor;
    uint32_t element_bytes;
    uint64_t base;
    size_t pitch, rows;    /* rows of a slice, at least 1 */
    size_t slices;         /* at least 1 */
    struct mipmap *mipmap; /* NULL: owns its memory */
    uint64_t bytes;
};

struct array *array_check(CUarray handle);

#endif
