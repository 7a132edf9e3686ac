#include "pacing/bucket.h"

#define FILL_NS UINT64_C(1000000)
#define KEEPS_NS UINT64_C(40000000)       /* by the clock: as the arbiter lets an idle share keep */
#define ABANDONED_NS UINT64_C(1000000000) /* nobody filled it: what it says is of another time */

static uint64_t part(uint64_t time_ns, uint32_t cores) {
    return time_ns / 100 * cores;
}

/* What the bucket says after `passed_ns`, within what may be saved up. */
static uint64_t filled(uint64_t credit_ns, uint64_t busy_ns, uint32_t cores, uint64_t passed_ns) {
    uint64_t most = busy_ns + part(KEEPS_NS, cores);
    if (passed_ns > ABANDONED_NS && credit_ns < busy_ns)
        credit_ns = busy_ns;
    credit_ns += part(passed_ns, cores);
    return credit_ns < most ? credit_ns : most;
}

uint64_t pacing_bucket_fill(struct gpuslice_usage *usage, uint32_t cores, uint64_t now_ns) {
    uint64_t last_ns = atomic_load_explicit(&usage->local_filled_ns, memory_order_relaxed);
    uint64_t credit_ns = atomic_load_explicit(&usage->local_credit_ns, memory_order_relaxed);
    if (now_ns < last_ns + FILL_NS)
        return credit_ns;
    /* Acquire: who wins sees what the last one who won stored. */
    if (!atomic_compare_exchange_strong_explicit(&usage->local_filled_ns, &last_ns, now_ns, memory_order_acq_rel,
                                                 memory_order_relaxed))
        return credit_ns;
    uint64_t busy_ns = atomic_load_explicit(&usage->busy_ns, memory_order_relaxed);
    credit_ns = filled(credit_ns, busy_ns, cores, last_ns == 0 ? ABANDONED_NS + 1 : now_ns - last_ns);
    atomic_store_explicit(&usage->local_credit_ns, credit_ns, memory_order_release);
    return credit_ns;
}
