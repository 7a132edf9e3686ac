#include "pacing/cost.h"

/* Zeroed pages, so 64 KiB of address space until something is launched. */
struct pacing_cost pacing_costs[PACING_COSTS];

void pacing_cost_learn(uint64_t key, uint64_t ns) {
    struct pacing_cost *cost = pacing_cost_slot(key);
    uint64_t old;
    if (pacing_cost_known(key, &old)) {
        int64_t step = ((int64_t)ns - (int64_t)old) / 4;
        atomic_store_explicit(&cost->ns, old + (uint64_t)step, memory_order_relaxed);
        return;
    }
    /* A reader between the two stores takes the old one's time for the new one's: a wrong guess, no more. */
    atomic_store_explicit(&cost->ns, ns, memory_order_relaxed);
    atomic_store_explicit(&cost->key, key, memory_order_relaxed);
}

void pacing_cost_bound(uint64_t key, uint64_t ns) {
    uint64_t old;
    if (!pacing_cost_known(key, &old) || ns < old)
        pacing_cost_learn(key, ns);
}
