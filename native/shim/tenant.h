/* What this process holds: its shares, matched by GPU UUID to the devices it sees.
 *
 * Nothing happens before the first cuInit or nvmlInit. No share directory at all: pass-through, tenant_gpu() is
 * always NULL and every hook only calls the driver. A directory that is named but missing or corrupt: cuInit fails
 * with CUDA_ERROR_OPERATING_SYSTEM before the driver is initialised, with one line on stderr.
 */
#ifndef GPUSLICE_SHIM_TENANT_H
#define GPUSLICE_SHIM_TENANT_H

#include <gpuslice/region.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "../region/share.h"
#include "driver.h"

#define TENANT_GPUS_MAX 64

struct tenant_gpu {
    struct gpuslice_share share;
    CUdevice device; /* the ordinal CUDA shows to this process, or -1: hidden by its CUDA_VISIBLE_DEVICES */
};

/* All that this process holds, in the order of its shares; complete once tenant_open() has returned 0. */
struct tenant {
    struct tenant_gpu gpus[TENANT_GPUS_MAX];
    unsigned gpu_count;
    atomic_bool active;
};
extern struct tenant tenant;

/* True when at least one share is enforced in this process. One relaxed load; false for pass-through. */
static inline bool tenant_active(void) {
    return atomic_load_explicit(&tenant.active, memory_order_relaxed);
}

/* The share of a device this process sees, or NULL (pass-through). */
struct tenant_gpu *tenant_gpu(CUdevice device);
/* The share of the current context's device, or NULL (none current, or pass-through). */
struct tenant_gpu *tenant_current(void);

/* Opens the shares, once a process. 0 with tenant.gpu_count 0: pass-through. A negative errno: said on stderr. */
int tenant_open(void);

/* Called by the cuInit hook around the real call: opens the shares, narrows CUDA_VISIBLE_DEVICES to them, claims
 * slots, calls the driver, matches UUIDs. Idempotent; in a forked child it claims slots of its own. */
CUresult tenant_init(unsigned int flags);

/* One line on stderr, "gpuslice: …", once a process: only for what makes cuInit or nvmlInit fail. */
void tenant_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* memory.c: how the tracker of device memory starts, and what pacing.c needs at start. Each is called once by
 * tenant_init after the shares are matched. */
void memory_start(void);
void pacing_start(void);

#endif
