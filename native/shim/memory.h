/* The memory limit, seen from the hooks in memory_*.c: reserve, call the driver, settle.
 *
 * Every hook that takes memory does
 *
 *     memory_begin(gpu);
 *     if (!memory_reserve(gpu, bytes, kind)) refuse;
 *     result = real.…;                            no lock is held here but, for a pool or graph memory, its own
 *     keep what was really taken, refund the rest;
 *     memory_end(gpu);
 *
 * so that what is charged is never less than what the driver holds. What is not known before the call (a context, a
 * module, the padding of an array) is settled afterwards by the truth that NVML knows about this process.
 */
#ifndef GPUSLICE_SHIM_MEMORY_H
#define GPUSLICE_SHIM_MEMORY_H

#include "memory_lock.h"
#include "memory_table.h"
#include "tenant.h"

/* The driver takes physical memory in blocks of this size. */
#define MEMORY_BLOCK (UINT64_C(2) << 20)

struct memory_pool; /* memory_pool.c */

/* One GPU of which this process has a share. */
struct memory_gpu {
    struct tenant_gpu *tenant; /* NULL: no share of this GPU, its hooks only call the driver */
    CUdevice device;

    /* Memory calls begun and ended. Equal: nothing is between its reservation and its settlement, so that what is
     * charged can be compared with what the driver holds. */
    _Alignas(GPUSLICE_CACHE_LINE) _Atomic uint64_t begun;
    _Atomic uint64_t ended;

    /* memory_overhead.c: what contexts and modules cost, under its lock. */
    _Alignas(GPUSLICE_CACHE_LINE) struct memory_lock overhead_lock;
    uint64_t context_bytes; /* charged */
    uint64_t module_bytes;  /* charged; the padding of arrays is in here too */
    unsigned contexts;
    _Atomic uint32_t stale; /* a settlement is owed: the last one found memory calls under way */

    /* memory_pool.c */
    struct memory_lock pools_lock; /* over the list, not over the pools */
    struct memory_pool *pools;

    /* memory_graph.c: the device's graph memory, under its lock. */
    struct memory_lock graph_lock;
    uint64_t graph_bytes;              /* charged */
    _Atomic uint32_t graph_trims;      /* grows with every trim: what was resident may not be any more */
    _Atomic uint32_t graph_executable; /* executables with allocation nodes alive on this GPU */
};

/* --- memory.c --- */

/* The share of a device or of the current context, and that context; NULL: only call the driver. */
struct memory_gpu *memory_gpu(CUdevice device);
struct memory_gpu *memory_current(CUcontext *ret_context);
/* Calls `visit` for every GPU with a share. */
void memory_each_gpu(void (*visit)(struct memory_gpu *gpu));
/* What memory_current() remembers of contexts is void: one was made or destroyed. */
void memory_forget_contexts(void);

void memory_begin(struct memory_gpu *gpu);
void memory_end(struct memory_gpu *gpu);
/* False: it does not fit, not even after this process gave back what it did not use. Called without locks. */
bool memory_reserve(struct memory_gpu *gpu, uint64_t bytes, enum gpuslice_memory_kind kind);
void memory_charge(struct memory_gpu *gpu, uint64_t bytes, enum gpuslice_memory_kind kind);
void memory_refund(struct memory_gpu *gpu, uint64_t bytes, enum gpuslice_memory_kind kind);
/* `reserved` bytes were reserved and `taken` were taken: charges or refunds the difference. */
void memory_adjust(struct memory_gpu *gpu, uint64_t reserved, uint64_t taken, enum gpuslice_memory_kind kind);
/* True when more is charged to the share than its limit: something grew that could not be known before. */
bool memory_is_over(const struct memory_gpu *gpu);
/* Up to whole blocks; UINT64_MAX when it does not fit 64 bits. */
uint64_t memory_blocks(uint64_t bytes);

/* --- what gives memory back, and what brings the account up to date --- */

/* memory_linear.c */
void memory_linear_forget_context(struct memory_gpu *gpu, CUcontext context);
/* memory_free_queue.c: cuMemFreeAsync of memory that is not a pool's. */
void memory_linear_release(const struct memory_record *record, void *unused);
/* memory_pool.c */
void memory_pools_settle(struct memory_gpu *gpu);
void memory_pools_trim(struct memory_gpu *gpu);
/* memory_graph.c */
void memory_graph_settle(struct memory_gpu *gpu);
void memory_graph_trim(struct memory_gpu *gpu);
/* memory_array.c */
void memory_array_forget_context(struct memory_gpu *gpu, CUcontext context);
/* memory_overhead.c */
void memory_overhead_settle(struct memory_gpu *gpu, enum gpuslice_memory_kind grown);
/* memory_physical.c */
void memory_physical_settle(struct memory_gpu *gpu);

/* memory_nvml.c: what NVML says this process holds on the GPU. False where NVML is not there or does not list us. */
bool memory_nvml_used(const struct memory_gpu *gpu, uint64_t *ret_bytes);

/* Each resets its module in a forked child, which holds nothing. */
void memory_linear_start(void);
void memory_pools_start(struct memory_gpu *gpu);
void memory_graph_start(void);
void memory_array_start(void);
void memory_physical_start(void);

#endif
