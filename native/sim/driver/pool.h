/* Stream-ordered memory. See pool.c. */
#ifndef GPUSLICE_SIM_POOL_H
#define GPUSLICE_SIM_POOL_H

#include "sim.h"

/* cuMemFree of memory from a pool: nothing runs any more. */
CUresult pool_free_now(CUdeviceptr address);

#endif
