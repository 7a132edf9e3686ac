/* Limits from HAMi-core's environment variables, for programs that come with those and have no grant.
 *
 * CUDA_DEVICE_MEMORY_LIMIT and CUDA_DEVICE_SM_LIMIT (both also with _0, _1 … for one device), CUDA_TASK_PRIORITY,
 * GPU_CORE_UTILIZATION_POLICY, CUDA_DISABLE_CONTROL and CUDA_DEVICE_MEMORY_SHARED_CACHE. Processes share a pair of
 * files for each device beside the named cache or, where none is named, in a directory in /tmp for each user and set
 * of limits; no agent knows of them, so they pace themselves.
 */
#ifndef GPUSLICE_SHIM_HAMI_H
#define GPUSLICE_SHIM_HAMI_H

#include "tenant.h"

/* Whether the variables ask for a limit. */
bool hami_requested(void);

/* Reads the variables and makes the directory: what can go wrong goes wrong here, before the driver is initialised.
 * 0, or a negative errno, said on stderr. */
int hami_prepare(void);

/* Opens, or makes, the share of one device: `index` is its ordinal among those the program sees, `total_bytes` what
 * it may use where no limit is set. 0, also when it is open already; or a negative errno, said on stderr. */
int hami_open_device(struct tenant *tenant, unsigned index, const char *uuid, uint64_t total_bytes);

#endif
