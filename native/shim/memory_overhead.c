/* What contexts and modules cost. No call returns it, so it is reserved by what the agent has measured before
 * (a context) or not at all (a module), and settled by what NVML says this process holds: what is not data is
 * overhead. The padding of arrays, local memory and printf buffers end up here as well.
 */
#include "memory.h"

#include <sched.h>

#define ATTEMPTS 16
#define REFRESH_NS UINT64_C(10000000) /* NVML takes about a millisecond */

static uint64_t least(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

static uint64_t known_data(const struct memory_gpu *gpu) {
    static const enum gpuslice_memory_kind kinds[] = {GPUSLICE_MEMORY_DATA, GPUSLICE_MEMORY_ARRAY,
                                                      GPUSLICE_MEMORY_MANAGED};
    const struct gpuslice_slot *slot = gpuslice_slot_own(&gpu->tenant->share);
    uint64_t bytes = 0;
    for (unsigned i = 0; slot && i < sizeof(kinds) / sizeof(*kinds); i++)
        bytes += atomic_load_explicit(&slot->memory_bytes[kinds[i]], memory_order_relaxed);
    return bytes - least(bytes, gpu->excluded_bytes);
}

/* What NVML counts beyond the data that is charged, at a moment when no memory call was under way: the two figures
 * belong together only then. */
static bool measure(const struct memory_gpu *gpu, uint64_t less, uint64_t *ret_overhead) {
    for (int i = 0; i < ATTEMPTS; i++) {
        /* Acquire: what the ended calls charged is seen. `ended` first: a call that begins in between shows. */
        uint64_t ended = atomic_load_explicit(&gpu->ended, memory_order_acquire);
        uint64_t begun = atomic_load_explicit(&gpu->begun, memory_order_acquire);
        uint64_t used, data = known_data(gpu);
        data -= least(data, less);
        if (begun == ended && !memory_nvml_used(gpu, &used))
            return false;
        /* The same count after it: nothing began meanwhile. */
        if (begun == ended && atomic_load_explicit(&gpu->begun, memory_order_acquire) == begun) {
            *ret_overhead = used > data ? used - data : 0;
            return true;
        }
        sched_yield();
    }
    return false;
}

static uint64_t lower(uint64_t *part, uint64_t bytes) {
    uint64_t step = least(*part, bytes);
    *part -= step;
    return step;
}

/* Brings the charge from what it is to `overhead`. Under the lock. */
static void recharge(struct memory_gpu *gpu, uint64_t overhead, enum gpuslice_memory_kind cause) {
    uint64_t charged = gpu->context_bytes + gpu->module_bytes;
    uint64_t *first = cause == GPUSLICE_MEMORY_MODULE ? &gpu->module_bytes : &gpu->context_bytes;
    if (overhead >= charged) {
        *first += overhead - charged;
        memory_charge(gpu, overhead - charged, cause);
        return;
    }
    uint64_t excess = charged - overhead;
    uint64_t module = cause == GPUSLICE_MEMORY_MODULE ? lower(&gpu->module_bytes, excess) : 0;
    uint64_t context = lower(&gpu->context_bytes, excess - module);
    module += lower(&gpu->module_bytes, excess - module - context);
    memory_refund(gpu, context, GPUSLICE_MEMORY_CONTEXT);
    memory_refund(gpu, module, GPUSLICE_MEMORY_MODULE);
}

void memory_overhead_settle_less(struct memory_gpu *gpu, enum gpuslice_memory_kind cause, uint64_t surplus,
                                 enum gpuslice_memory_kind surplus_kind) {
    uint64_t overhead;
    memory_lock_take(&gpu->overhead_lock);
    /* Relaxed: a change that comes while we measure sets it again. */
    atomic_store_explicit(&gpu->stale, 0, memory_order_relaxed);
    if (gpu->contexts == 0)
        recharge(gpu, 0, GPUSLICE_MEMORY_CONTEXT); /* NVML lists no process without a context */
    else if (measure(gpu, surplus, &overhead))
        recharge(gpu, overhead, cause);
    else
        atomic_store_explicit(&gpu->stale, 1, memory_order_relaxed);
    gpu->settled_ns = gpuslice_now_ns();
    memory_refund(gpu, surplus, surplus_kind); /* after the charge, so that the sum is never too low */
    memory_lock_give(&gpu->overhead_lock);
}

void memory_overhead_settle(struct memory_gpu *gpu, enum gpuslice_memory_kind cause) {
    memory_overhead_settle_less(gpu, cause, 0, GPUSLICE_MEMORY_DATA);
}

void memory_overhead_take_over(struct memory_gpu *gpu, uint64_t bytes) {
    memory_lock_take(&gpu->overhead_lock);
    gpu->module_bytes += bytes;
    memory_charge(gpu, bytes, GPUSLICE_MEMORY_MODULE);
    memory_refund(gpu, bytes, GPUSLICE_MEMORY_DATA);
    memory_lock_give(&gpu->overhead_lock);
    /* Its end can not be seen, so from now on every look at the account is a look at NVML. */
    atomic_store_explicit(&gpu->always_stale, 1, memory_order_relaxed);
}

void memory_overhead_exclude(struct memory_gpu *gpu, uint64_t bytes) {
    memory_lock_take(&gpu->overhead_lock);
    gpu->excluded_bytes += bytes;
    memory_lock_give(&gpu->overhead_lock);
}

void memory_overhead_touch(struct memory_gpu *gpu) {
    atomic_store_explicit(&gpu->stale, 1, memory_order_relaxed);
}

void memory_overhead_refresh(struct memory_gpu *gpu) {
    if (atomic_load_explicit(&gpu->stale, memory_order_relaxed) ||
        atomic_load_explicit(&gpu->always_stale, memory_order_relaxed))
        memory_overhead_settle(gpu, GPUSLICE_MEMORY_MODULE);
}

void memory_overhead_refresh_seldom(struct memory_gpu *gpu) {
    if (!atomic_load_explicit(&gpu->stale, memory_order_relaxed))
        return;
    memory_lock_take(&gpu->overhead_lock);
    bool due = gpuslice_now_ns() - gpu->settled_ns > REFRESH_NS;
    memory_lock_give(&gpu->overhead_lock);
    if (due)
        memory_overhead_settle(gpu, GPUSLICE_MEMORY_MODULE);
}

/* --- contexts ----------------------------------------------------------------------------------------------- */

bool memory_context_reserve(struct memory_gpu *gpu, uint64_t *ret_reserved) {
    struct gpuslice_limits limits;
    *ret_reserved = gpuslice_limits_read(gpu->tenant->share.grant, &limits) ? limits.overhead_bytes : 0;
    return memory_reserve(gpu, *ret_reserved, GPUSLICE_MEMORY_CONTEXT);
}

void memory_context_opened(struct memory_gpu *gpu, uint64_t reserved) {
    memory_lock_take(&gpu->overhead_lock);
    gpu->contexts++;
    gpu->context_bytes += reserved;
    memory_lock_give(&gpu->overhead_lock);
    memory_forget_contexts();
    memory_overhead_settle(gpu, GPUSLICE_MEMORY_CONTEXT);
}

void memory_context_closed(struct memory_gpu *gpu) {
    uint64_t share = 0;
    memory_lock_take(&gpu->overhead_lock);
    /* An estimate that stands where NVML cannot be asked. */
    if (gpu->contexts)
        share = lower(&gpu->context_bytes, gpu->context_bytes / gpu->contexts);
    gpu->contexts -= gpu->contexts > 0;
    memory_refund(gpu, share, GPUSLICE_MEMORY_CONTEXT);
    memory_lock_give(&gpu->overhead_lock);
    memory_forget_contexts();
    memory_pools_settle(gpu);
    memory_graph_settle(gpu);
    memory_overhead_settle(gpu, GPUSLICE_MEMORY_CONTEXT);
}
