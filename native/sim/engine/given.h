/* Which of the node's GPUs a container was given. */
#ifndef GPUSLICE_SIM_GIVEN_H
#define GPUSLICE_SIM_GIVEN_H

#include "gpu.h"

/* The indices of those that this process may see, ascending, of `count` that there are; how many they are.
 *
 * The CDI device of a GPU sets GPUSLICE_SIM_GPU_<index>, as that of a real one brings /dev/nvidia<index>. Where none is
 * set the process is in no container, and all are there. */
unsigned gpus_given(unsigned count, unsigned ret_gpus[SIM_GPUS_MAX]);

#endif
