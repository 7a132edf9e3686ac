#ifndef GPUSLICE_SIM_LINEAR_H
#define GPUSLICE_SIM_LINEAR_H

#include "engine.h"
#include "heap.h"

void linear_begin(void);

/* The small allocation at `pointer` in a block of them. -ENOENT: a gap. The caller holds heap_lock. */
int small_find(const struct extent *extent, uint64_t pointer, struct engine_range *ret_range);

#endif
