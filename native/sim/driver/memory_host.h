#ifndef GPUSLICE_SIM_MEMORY_HOST_H
#define GPUSLICE_SIM_MEMORY_HOST_H

#include "sim.h"

/* CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED: a registration would begin in memory that is known. */
CUresult host_range_add(uintptr_t base, size_t bytes, unsigned flags, bool registered, struct context *context);
/* Takes the range that begins at `base` out of the list; 0: there is none of that sort. */
size_t host_range_take(uintptr_t base, bool registered);

#endif
