/* GPU time: unions of intervals without a lock, so that a killed process holds nothing up. */
#include "internal.h"

#include <time.h>

/* Moves the end of what is covered to `until` and says how much of [from, until) lies beyond the old end. */
static uint64_t cover(_Atomic uint64_t *covered_until, uint64_t from, uint64_t until) {
    uint64_t covered = atomic_load_explicit(covered_until, memory_order_relaxed);

    do {
        if (until <= covered || until <= from)
            return 0;
        /* relaxed: the word orders nothing but itself */
    } while (!atomic_compare_exchange_weak_explicit(covered_until, &covered, until, memory_order_relaxed,
                                                    memory_order_relaxed));
    return until - (from > covered ? from : covered);
}

uint64_t gpuslice_busy_add(struct gpuslice_share *share, uint64_t from_ns, uint64_t until_ns) {
    struct gpuslice_slot *slot = gpuslice_slot_own(share);
    uint64_t new_to_share = cover(&share->usage->covered_until_ns, from_ns, until_ns);

    if (new_to_share)
        atomic_fetch_add_explicit(&share->usage->busy_ns, new_to_share, memory_order_relaxed);
    if (slot) {
        uint64_t new_to_process = cover(&share->process->covered_until_ns, from_ns, until_ns);

        atomic_fetch_add_explicit(&slot->busy_ns, new_to_process, memory_order_relaxed);
    }
    return new_to_share;
}

uint64_t gpuslice_now_ns(void) {
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}
