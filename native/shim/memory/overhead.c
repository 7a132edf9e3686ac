/* What contexts and modules cost. No call returns it, so it is reserved by what the agent has measured before
 * (a context) or not at all (a module), and settled by what NVML says this process holds: what is not data is
 * overhead. The padding of arrays, local memory and printf buffers end up here as well.
 *
 * The two figures belong together only while no memory call is under way. So a look at NVML closes the gate that
 * such calls pass: those under way end, new ones wait. If one does not end soon (a free waits for the GPU), the look
 * is put off.
 */
#include "memory/memory.h"

#include <time.h>

#define GRACE_NS UINT64_C(2000000)
#define PAUSE_NS 20000
#define ATTEMPTS 8
#define SELDOM 50u /* a look may take this part of the time, at most */

enum outcome { SETTLED, BUSY, UNKNOWN };

static uint64_t least(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* --- the gate ----------------------------------------------------------------------------------------------- */

static bool is_quiet(const struct memory_gpu *gpu) {
    /* Sequentially consistent, as in memory_begin(): either we see a call that has begun or it sees the gate closed.
     * `ended` first, so that a call that begins in between shows. */
    uint64_t ended = atomic_load(&gpu->ended);
    return atomic_load(&gpu->begun) == ended;
}

/* False: some call does not end. The gate is then open again. */
static bool close_gate(struct memory_gpu *gpu) {
    uint64_t deadline = gpuslice_now_ns() + GRACE_NS;
    atomic_store(&gpu->gate, 1);
    while (!is_quiet(gpu)) {
        if (gpuslice_now_ns() > deadline) {
            memory_open_gate(gpu);
            return false;
        }
        nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
    }
    return true;
}

/* --- measuring ---------------------------------------------------------------------------------------------- */

static uint64_t known_data(const struct memory_gpu *gpu) {
    static const enum gpuslice_memory_kind kinds[] = {GPUSLICE_MEMORY_DATA, GPUSLICE_MEMORY_ARRAY,
                                                      GPUSLICE_MEMORY_MANAGED};
    const struct gpuslice_slot *slot = gpuslice_slot_own(&gpu->tenant->share);
    uint64_t bytes = 0;
    for (unsigned i = 0; slot && i < sizeof(kinds) / sizeof(*kinds); i++)
        bytes += atomic_load_explicit(&slot->memory_bytes[kinds[i]], memory_order_relaxed);
    return bytes - least(bytes, atomic_load_explicit(&gpu->excluded_bytes, memory_order_relaxed));
}

/* What NVML counts beyond the data that is charged; the gate is closed. Pools and graph memory can still shrink, in a
 * synchronisation that no gate holds up: if they did, the figures do not belong together. */
static enum outcome measure(struct memory_gpu *gpu, uint64_t *ret_overhead) {
    for (int i = 0; i < ATTEMPTS; i++) {
        uint64_t used;
        memory_pools_settle(gpu);
        memory_graph_settle(gpu);
        uint64_t data = known_data(gpu);
        if (!memory_nvml_used(gpu, &used))
            return UNKNOWN;
        memory_pools_settle(gpu);
        memory_graph_settle(gpu);
        if (known_data(gpu) == data) {
            *ret_overhead = used - least(used, data);
            return SETTLED;
        }
    }
    return BUSY;
}

/* --- charging ----------------------------------------------------------------------------------------------- */

static uint64_t lower(_Atomic uint64_t *part, uint64_t bytes) {
    uint64_t step = least(atomic_load_explicit(part, memory_order_relaxed), bytes);
    atomic_fetch_sub_explicit(part, step, memory_order_relaxed);
    return step;
}

static void recharge(struct memory_gpu *gpu, uint64_t overhead, enum gpuslice_memory_kind cause) {
    uint64_t charged = atomic_load_explicit(&gpu->context_bytes, memory_order_relaxed) +
                       atomic_load_explicit(&gpu->module_bytes, memory_order_relaxed);
    bool module = cause == GPUSLICE_MEMORY_MODULE;
    if (overhead >= charged) {
        atomic_fetch_add_explicit(module ? &gpu->module_bytes : &gpu->context_bytes, overhead - charged,
                                  memory_order_relaxed);
        memory_charge(gpu, overhead - charged, cause);
        return;
    }
    uint64_t excess = charged - overhead;
    uint64_t from_modules = module ? lower(&gpu->module_bytes, excess) : 0;
    uint64_t from_contexts = lower(&gpu->context_bytes, excess - from_modules);
    from_modules += lower(&gpu->module_bytes, excess - from_modules - from_contexts);
    memory_refund(gpu, from_contexts, GPUSLICE_MEMORY_CONTEXT);
    memory_refund(gpu, from_modules, GPUSLICE_MEMORY_MODULE);
}

/* Under the lock. */
static enum outcome settle(struct memory_gpu *gpu, enum gpuslice_memory_kind cause) {
    uint64_t overhead = 0;
    memory_queued_settle(gpu);
    if (!close_gate(gpu))
        return BUSY;
    enum outcome outcome = SETTLED;
    if (memory_frees_are_queued())
        outcome = BUSY;     /* charged until they are seen to be over; whether NVML still counts them nobody knows */
    else if (gpu->contexts) /* NVML lists no process without one */
        outcome = measure(gpu, &overhead);
    if (outcome == SETTLED)
        recharge(gpu, overhead, cause);
    memory_open_gate(gpu);
    return outcome;
}

static enum outcome settle_and_note(struct memory_gpu *gpu, enum gpuslice_memory_kind cause) {
    uint64_t start = gpuslice_now_ns();
    /* Relaxed: a change that comes while we measure sets it again. */
    atomic_store_explicit(&gpu->stale, 0, memory_order_relaxed);
    enum outcome outcome = settle(gpu, cause);
    if (outcome == BUSY)
        memory_overhead_touch(gpu);
    atomic_store_explicit(&gpu->blind, outcome == UNKNOWN, memory_order_relaxed);
    uint64_t end = gpuslice_now_ns();
    atomic_store_explicit(&gpu->look_not_before_ns, end + (end - start) * SELDOM, memory_order_relaxed);
    return outcome;
}

void memory_overhead_settle(struct memory_gpu *gpu, enum gpuslice_memory_kind cause) {
    memory_lock_take(&gpu->overhead_lock);
    settle_and_note(gpu, cause);
    memory_lock_give(&gpu->overhead_lock);
}

void memory_overhead_touch(struct memory_gpu *gpu) {
    atomic_store_explicit(&gpu->stale, 1, memory_order_relaxed);
}

void memory_overhead_touch_current(void) {
    CUcontext context;
    struct memory_gpu *gpu = memory_current(&context);
    if (gpu)
        memory_overhead_touch(gpu);
}

static void touch(struct memory_gpu *gpu, void *unused) {
    (void)unused;
    memory_overhead_touch(gpu);
}

void memory_overhead_touch_all(void) {
    memory_each_gpu(touch, NULL);
}

static bool is_stale(const struct memory_gpu *gpu) {
    return atomic_load_explicit(&gpu->stale, memory_order_relaxed);
}

void memory_overhead_refresh(struct memory_gpu *gpu) {
    if (is_stale(gpu) || atomic_load_explicit(&gpu->always_stale, memory_order_relaxed))
        memory_overhead_settle(gpu, GPUSLICE_MEMORY_MODULE);
}

bool memory_overhead_is_due(struct memory_gpu *gpu, bool urgent) {
    if (!is_stale(gpu))
        return false;
    return urgent || gpuslice_now_ns() >= atomic_load_explicit(&gpu->look_not_before_ns, memory_order_relaxed);
}

void memory_overhead_take_over(struct memory_gpu *gpu, uint64_t bytes, enum gpuslice_memory_kind kind) {
    if (!atomic_load_explicit(&gpu->blind, memory_order_relaxed)) {
        atomic_fetch_add_explicit(&gpu->module_bytes, bytes, memory_order_relaxed);
        memory_charge(gpu, bytes, GPUSLICE_MEMORY_MODULE);
        memory_overhead_touch(gpu);
    }
    memory_refund(gpu, bytes, kind);
}

void memory_overhead_add(struct memory_gpu *gpu, uint64_t bytes) {
    atomic_fetch_add_explicit(&gpu->module_bytes, bytes, memory_order_relaxed);
    memory_charge(gpu, bytes, GPUSLICE_MEMORY_MODULE);
    atomic_store_explicit(&gpu->always_stale, 1, memory_order_relaxed);
}

void memory_overhead_exclude(struct memory_gpu *gpu, uint64_t bytes) {
    atomic_fetch_add_explicit(&gpu->excluded_bytes, bytes, memory_order_relaxed);
    memory_charge(gpu, bytes, GPUSLICE_MEMORY_DATA);
}

bool memory_overhead_gate(struct memory_gpu *gpu) {
    memory_lock_take(&gpu->overhead_lock);
    if (close_gate(gpu))
        return true;
    memory_lock_give(&gpu->overhead_lock);
    return false;
}

void memory_overhead_ungate(struct memory_gpu *gpu) {
    memory_open_gate(gpu);
    memory_lock_give(&gpu->overhead_lock);
}

/* --- contexts ----------------------------------------------------------------------------------------------- */

bool memory_context_reserve(struct memory_gpu *gpu, uint64_t *ret_reserved) {
    struct gpuslice_limits limits;
    *ret_reserved = gpuslice_limits_read(gpu->tenant->share.grant, &limits) ? limits.overhead_bytes : 0;
    return memory_reserve(gpu, *ret_reserved, GPUSLICE_MEMORY_CONTEXT);
}

void memory_context_opened(struct memory_gpu *gpu, uint64_t reserved) {
    memory_forget_contexts();
    memory_lock_take(&gpu->overhead_lock);
    gpu->contexts++;
    atomic_fetch_add_explicit(&gpu->context_bytes, reserved, memory_order_relaxed);
    settle_and_note(gpu, GPUSLICE_MEMORY_CONTEXT);
    memory_lock_give(&gpu->overhead_lock);
}

void memory_context_closed(struct memory_gpu *gpu) {
    memory_forget_contexts();
    memory_pools_settle(gpu);
    memory_graph_settle(gpu);
    memory_lock_take(&gpu->overhead_lock);
    unsigned contexts = gpu->contexts;
    gpu->contexts -= contexts > 0;
    if (settle_and_note(gpu, GPUSLICE_MEMORY_CONTEXT) == UNKNOWN && contexts) {
        uint64_t each = atomic_load_explicit(&gpu->context_bytes, memory_order_relaxed) / contexts;
        memory_refund(gpu, lower(&gpu->context_bytes, each), GPUSLICE_MEMORY_CONTEXT);
    }
    memory_lock_give(&gpu->overhead_lock);
}
