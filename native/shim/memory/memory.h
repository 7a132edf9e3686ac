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
 * module, the padding of an array) is settled afterwards by what NVML knows of this process.
 */
#ifndef GPUSLICE_SHIM_MEMORY_H
#define GPUSLICE_SHIM_MEMORY_H

#include "memory/lock.h"
#include "memory/table.h"
#include "tenant.h"

/* The driver takes physical memory in blocks of this size. */
#define MEMORY_BLOCK (UINT64_C(2) << 20)

struct memory_pool; /* memory/pool.c */

/* One GPU of which this process has a share. */
struct memory_gpu {
    struct tenant_gpu *tenant; /* NULL: no share of this GPU, its hooks only call the driver */
    CUdevice device;

    /* Memory calls begun and ended. Equal: nothing is between its reservation and its settlement, so that what is
     * charged can be compared with what the driver holds. While the gate is closed (1) none begins. */
    _Alignas(GPUSLICE_CACHE_LINE) _Atomic uint64_t begun;
    _Atomic uint64_t ended;
    _Atomic uint32_t gate;

    /* memory/overhead.c: what contexts and modules cost. */
    _Alignas(GPUSLICE_CACHE_LINE) struct memory_lock overhead_lock; /* over a look at NVML */
    _Atomic uint64_t context_bytes;                                 /* charged */
    _Atomic uint64_t module_bytes;       /* charged; whatever else no call accounts for is in here too */
    _Atomic uint64_t excluded_bytes;     /* charged as data, but NVML does not count it as ours */
    unsigned contexts;                   /* under the lock */
    _Atomic uint64_t look_not_before_ns; /* looks that can wait wait until then */
    _Atomic uint32_t stale;              /* a look is due: something may have grown, or the last look was put off */
    _Atomic uint32_t always_stale;       /* something may shrink and no call will show it */
    _Atomic uint32_t scattered_arrays;   /* arrays that may lie in the blocks of other allocations */
    _Atomic uint32_t blind;              /* NVML is not there or does not list this process */

    /* memory/context.c */
    struct memory_lock primary_lock; /* over the retain or release of the primary context */
    CUcontext primary;               /* NULL: not active */

    /* memory/pool.c */
    struct memory_lock pools_lock; /* over the list, not over the pools */
    struct memory_pool *pools;

    /* memory/graph.c: what the device's graphs hold, under its lock. */
    struct memory_lock graph_lock;
    uint64_t graph_bytes;         /* charged */
    _Atomic uint32_t graph_trims; /* grows with every trim: what was resident may not be any more */
};

/* --- memory.c ----------------------------------------------------------------------------------------------- */

/* The share of a device, of a place, or of the current context and that context; NULL: only call the driver. */
struct memory_gpu *memory_gpu(CUdevice device);
struct memory_gpu *memory_gpu_at(const CUmemLocation *location);
struct memory_gpu *memory_current(CUcontext *ret_context);
/* For every GPU with a share. */
void memory_each_gpu(void (*visit)(struct memory_gpu *gpu, void *argument), void *argument);
/* What memory_current() remembers is void: a context was made or destroyed. */
void memory_forget_contexts(void);

void memory_begin(struct memory_gpu *gpu);
void memory_end(struct memory_gpu *gpu);
void memory_open_gate(struct memory_gpu *gpu);
/* Between begin and end, before anything else, without locks. False: it does not fit, not even after this process
 * gave back what it did not use. */
bool memory_reserve(struct memory_gpu *gpu, uint64_t bytes, enum gpuslice_memory_kind kind);
void memory_charge(struct memory_gpu *gpu, uint64_t bytes, enum gpuslice_memory_kind kind);
void memory_refund(struct memory_gpu *gpu, uint64_t bytes, enum gpuslice_memory_kind kind);
/* `reserved` bytes were reserved and `taken` were taken: charges or refunds the difference. */
void memory_adjust(struct memory_gpu *gpu, uint64_t reserved, uint64_t taken, enum gpuslice_memory_kind kind);
/* True when more is charged to the share than its limit: something grew that could not be known before. */
bool memory_is_over(const struct memory_gpu *gpu);
/* Up to whole blocks; UINT64_MAX: more than any card has. */
uint64_t memory_blocks(uint64_t bytes);
/* Everything that this process holds and does not use. */
void memory_give_back(struct memory_gpu *gpu);
/* After what may have made pools or graph memory shrink: brings the account up to date. */
void memory_settle_shrinking(void);

/* --- memory/linear.c, memory/free.c: allocations that the account knows one by one ------------------------------ */

/* By pointer or array handle; the owner is the context, whose end is theirs. */
extern struct memory_table memory_allocations;

/* False: no host memory. */
bool memory_allocation_remember(const struct memory_record *record);
/* Refunds what only this one, no longer in the table, still held. */
void memory_allocation_release(const struct memory_record *record);
/* Takes out and releases all of `owner`. */
void memory_allocations_forget(const void *owner);

/* The same for an array. */
void memory_array_release(struct memory_gpu *gpu, const struct memory_record *record);

#define MEMORY_NO_STREAM ((CUstream)(uintptr_t)-1)
void memory_stream_synchronised(CUstream stream, bool per_thread);
void memory_context_synchronised(CUcontext context);
/* The stream is about to be destroyed; it has been. */
void memory_stream_ends(CUstream stream);
void memory_stream_destroyed(CUstream stream);
/* What is queued of `owner`, a context, is `heir`'s from now on, and in no stream; releases all of `owner`. */
void memory_frees_reown(const void *owner, void *heir);
void memory_frees_forget(void *owner);
/* Releases what was freed in streams whose work is over; whether there is more, on any GPU. */
void memory_queued_settle(struct memory_gpu *gpu);
bool memory_frees_are_queued(void);

/* --- memory/pool.c ------------------------------------------------------------------------------------------ */

void memory_pools_settle(struct memory_gpu *gpu);
void memory_pools_trim(struct memory_gpu *gpu);
bool memory_stream_captures(CUstream stream, bool per_thread);

/* --- memory/graph.c ----------------------------------------------------------------------------------------- */

void memory_graph_settle(struct memory_gpu *gpu);
void memory_graph_trim(struct memory_gpu *gpu);
/* A graph of this process may have an allocation node from now on. */
void memory_graph_expect_allocations(void);
/* Launches or uploads by `launch` if the memory of its allocation nodes fits. */
CUresult memory_graph_launch(CUgraphExec handle, CUstream stream, CUresult (*launch)(CUgraphExec, CUstream));
/* `result` of an instantiation goes in, what the program is told comes out. */
CUresult memory_graph_instantiated(CUresult result, const CUgraphExec *executable, CUgraph graph);
/* The executable is about to be destroyed; true: it is out of the account. Then whether it was (NULL: it was not in).
 */
bool memory_graph_ends(CUgraphExec handle, struct memory_record *ret_record);
void memory_graph_ended(const struct memory_record *record, bool destroyed);

/* --- memory/overhead.c -------------------------------------------------------------------------------------- */

/* Reserves what a context is known to cost; then it was made (what was reserved stays charged) or not (the caller
 * refunds), and once it is closed. */
bool memory_context_reserve(struct memory_gpu *gpu, uint64_t *ret_reserved);
void memory_context_opened(struct memory_gpu *gpu, uint64_t reserved);
void memory_context_closed(struct memory_gpu *gpu);

/* Brings what contexts and modules are charged to what NVML says; never between begin and end. What grew is charged
 * as `cause`. */
void memory_overhead_settle(struct memory_gpu *gpu, enum gpuslice_memory_kind cause);
/* A look is due; look if one is due; whether one is, and it is urgent or time for it. */
void memory_overhead_touch(struct memory_gpu *gpu);
void memory_overhead_touch_current(void); /* of the current context's GPU, */
void memory_overhead_touch_all(void);     /* of every GPU: cheap, the next look or reservation finds out */
void memory_overhead_refresh(struct memory_gpu *gpu);
bool memory_overhead_is_due(struct memory_gpu *gpu, bool urgent);
/* What is charged as data of some kind becomes overhead, so that NVML decides when it is gone. (Where NVML can not be
 * asked, it is gone now.) */
void memory_overhead_take_over(struct memory_gpu *gpu, uint64_t bytes, enum gpuslice_memory_kind kind);
/* Charges memory that NVML counts as ours, until it does not any more: no call will show that, so that from now on
 * every look at the account is a look at NVML. */
void memory_overhead_add(struct memory_gpu *gpu, uint64_t bytes);
/* Charges memory, for good, that NVML does not count as ours. */
void memory_overhead_exclude(struct memory_gpu *gpu, uint64_t bytes);
/* Keeps every other memory call of this process out; never between begin and end. False: one under way did not end
 * within 2 ms. */
bool memory_overhead_gate(struct memory_gpu *gpu);
void memory_overhead_ungate(struct memory_gpu *gpu);

/* --- memory/export.c ---------------------------------------------------------------------------------------- */

#define MEMORY_EXPORTED 2u /* flag of a record: another process may hold it */

struct memory_export {
    struct memory_gpu *gpu;
    bool gated, seen;
    uint64_t used, free; /* what NVML said before the call */
};
/* In place of begin and end around the driver's call that drops exported memory. Without the gate it is assumed that
 * somebody holds it. */
struct memory_export memory_export_begin(struct memory_gpu *gpu, bool may_gate);
/* The call has succeeded: charges what goes on being held. The caller refunds `bytes` as ever. */
void memory_export_dropped(const struct memory_export *export, uint64_t bytes);
void memory_export_end(const struct memory_export *export);
/* cuMemFree of an allocation with an IPC handle; its record is out of the table. */
CUresult memory_export_free(const struct memory_record *record);

/* --- memory/nvml.c ------------------------------------------------------------------------------------------ */

/* What this process holds of the GPU, and what is free on it. False where NVML is not there or does not list us. */
bool memory_nvml_used(const struct memory_gpu *gpu, uint64_t *ret_bytes);
bool memory_nvml_free(const struct memory_gpu *gpu, uint64_t *ret_bytes);

/* --- in a forked child, which holds nothing ------------------------------------------------------------------- */

void memory_linear_forget(void);
void memory_free_forget(void);
void memory_contexts_forget(void);
void memory_pools_forget(void);
void memory_physical_forget(void);
void memory_graph_forget(void);
void memory_nvml_forget(void);

#endif
