/* What this process holds: its shares, matched by GPU UUID to the devices it sees.
 *
 * Nothing happens before the first cuInit or nvmlInit. No share directory at all: pass-through, tenant.gpu_count is
 * 0 and every hook only calls the driver. A directory that is named but missing or corrupt: cuInit fails, with one
 * line on stderr.
 */
#ifndef GPUSLICE_SHIM_TENANT_H
#define GPUSLICE_SHIM_TENANT_H

#include <gpuslice/region.h>
#include <stdbool.h>

#include "../region/share.h"
#include "driver.h"

#define TENANT_GPUS_MAX 64

struct tenant_gpu {
    struct gpuslice_share share;
    CUdevice device; /* the ordinal CUDA shows to this process */
    char uuid[GPUSLICE_UUID_BYTES];
};

/* True when at least one share is enforced in this process. One relaxed load; false for pass-through. */
bool tenant_active(void);

/* The share of a device this process sees, or NULL (pass-through). */
struct tenant_gpu *tenant_gpu(CUdevice device);
/* The share of the current context's device, or NULL (none current, or pass-through). */
struct tenant_gpu *tenant_current(void);

/* Called by the cuInit hook around the real call: opens the shares, narrows CUDA_VISIBLE_DEVICES to them, calls the
 * driver, claims slots, matches UUIDs. Idempotent; again in a forked child it claims slots of its own. */
CUresult tenant_init(unsigned int flags);

/* memory.c: how the tracker of device memory starts, and what pacing.c needs at start. Each is called once by
 * tenant_init after the shares are matched. */
void memory_start(void);
void pacing_start(void);

#endif
