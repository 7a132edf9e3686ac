/* The live processes of a share, for NVML's lists. */
#ifndef GPUSLICE_SHIM_PROCESSES_H
#define GPUSLICE_SHIM_PROCESSES_H

#include <stdint.h>

#include "../region/share.h"

struct share_process {
    uint32_t slot;
    uint32_t pid; /* as the caller's pid namespace numbers it */
    uint64_t held_bytes;
    uint64_t busy_ns;
};

/* Fills up to `capacity` processes that hold memory of the share; processes that the caller's pid namespace does not
 * show are left out. How many there are. */
unsigned processes_list(const struct gpuslice_share *share, struct share_process *processes, unsigned capacity);

/* Bytes that the live processes hold. The share's total may still have those of a dead one: only a process with a
 * slot can return them, and whoever only looks has none. */
uint64_t processes_held_bytes(const struct gpuslice_share *share);

/* Whether the pid, as the caller numbers it, is one of them. */
bool processes_include(const struct gpuslice_share *share, uint32_t pid);

#endif
