/* What work costs: GPU time learned for each kernel and launch shape, graph, or size of a copy.
 *
 * A prediction only bounds what is in flight and fills the gaps between measurements; a wrong one is paid for by
 * the next measurement. So the table is small, without a lock, and forgets what collides. */
#ifndef GPUSLICE_SHIM_PACING_COST_H
#define GPUSLICE_SHIM_PACING_COST_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PACING_COSTS 4096u /* a power of two */

struct pacing_cost {
    _Atomic uint64_t key; /* 0: free */
    _Atomic uint64_t ns;
};

extern struct pacing_cost pacing_costs[PACING_COSTS];

/* One word for a function (or graph, or kind of copy) and the shape of its launch; never 0. */
static inline uint64_t pacing_key(const void *function, uint64_t shape) {
    uint64_t key =
        ((uint64_t)(uintptr_t)function ^ (shape * UINT64_C(0x9e3779b97f4a7c15))) * UINT64_C(0xff51afd7ed558ccd);
    return key | 1;
}

static inline struct pacing_cost *pacing_cost_slot(uint64_t key) {
    return &pacing_costs[key >> 32 & (PACING_COSTS - 1)];
}

/* False: never measured. */
static inline bool pacing_cost_known(uint64_t key, uint64_t *ret_ns) {
    const struct pacing_cost *cost = pacing_cost_slot(key);
    if (atomic_load_explicit(&cost->key, memory_order_relaxed) != key)
        return false;
    *ret_ns = atomic_load_explicit(&cost->ns, memory_order_relaxed);
    return true;
}

/* It took `ns`. */
void pacing_cost_learn(uint64_t key, uint64_t ns);
/* It took `ns` at most: it had ended before anybody looked. */
void pacing_cost_bound(uint64_t key, uint64_t ns);

#endif
