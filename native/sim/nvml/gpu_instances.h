#ifndef GPUSLICE_SIM_NVML_GPU_INSTANCES_H
#define GPUSLICE_SIM_NVML_GPU_INSTANCES_H

#include "library.h"

/* NVML_ERROR_INVALID_ARGUMENT: no GPU instance, or it is gone. */
nvmlReturn_t nvml_gpu_instance(nvmlGpuInstance_t handle, unsigned *ret_gpu, unsigned *ret_id);

#endif
