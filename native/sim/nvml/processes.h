/* The processes that have a context on a GPU. */
#ifndef GPUSLICE_SIM_NVML_PROCESSES_H
#define GPUSLICE_SIM_NVML_PROCESSES_H

#include "library.h"

struct gpu_process {
    unsigned pid; /* as this process sees it */
    uint64_t used_bytes;
    double busy; /* 0 to 1: its part of the GPU, of about the last second */
};

/* Fills up to NODE_PROCESSES; how many. Processes without a pid here are left out, as the driver leaves them out. */
unsigned processes_on(const struct sim_gpu *gpu, struct gpu_process *processes);

/* The pid of a process that calls itself `pid` in `pid_namespace`: as we see it, found in /proc by its NSpid; the
 * host's pid for a process of the host. 0: it lives in a namespace that we do not see into, and has no pid here. */
unsigned pid_seen(uint64_t pid, uint64_t pid_namespace);

#endif
