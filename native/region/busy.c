/* GPU time: unions of intervals without a lock, so that a killed process holds nothing up. */
#include "internal.h"

#include <time.h>

#define WORD_GRAINS 32u

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

/* Sets bits of the word that stands for the grains from `number` * 32 on. How many were not set. A word of a later
 * lap says nothing about this one any more: then all of them are taken to be new. */
static uint64_t set_grains(struct gpuslice_usage *usage, uint64_t number, uint32_t grains) {
    _Atomic uint64_t *word = &usage->busy_map[number % GPUSLICE_BUSY_WORDS];
    uint32_t lap = (uint32_t)(number / GPUSLICE_BUSY_WORDS);
    uint64_t old = atomic_load_explicit(word, memory_order_relaxed), set;
    uint32_t fresh;

    do {
        int32_t later = (int32_t)((uint32_t)(old >> 32) - lap);

        if (later > 0)
            return (uint64_t)__builtin_popcount(grains);
        fresh = later == 0 ? grains & ~(uint32_t)old : grains;
        set = (uint64_t)lap << 32 | (later == 0 ? (uint32_t)old : 0) | grains;
        /* relaxed: the word orders nothing but itself */
    } while (fresh &&
             !atomic_compare_exchange_weak_explicit(word, &old, set, memory_order_relaxed, memory_order_relaxed));
    return (uint64_t)__builtin_popcount(fresh);
}

/* The grains of the word at `number` that lie in [from, until), both in grains. */
static uint32_t grains_of(uint64_t number, uint64_t from, uint64_t until) {
    uint64_t start = number * WORD_GRAINS;
    uint32_t grains = UINT32_MAX;

    if (from > start)
        grains <<= from - start;
    if (until < start + WORD_GRAINS)
        grains &= UINT32_MAX >> (start + WORD_GRAINS - until);
    return grains;
}

static uint64_t to_grains(uint64_t ns) {
    return (ns >> GPUSLICE_BUSY_GRAIN_BITS) + (ns >> (GPUSLICE_BUSY_GRAIN_BITS - 1) & 1);
}

/* What of [from_ns, until_ns) no process of the share has seen before. */
static uint64_t unite(struct gpuslice_usage *usage, uint64_t from_ns, uint64_t until_ns) {
    uint64_t from = to_grains(from_ns), until = to_grains(until_ns), reach = (GPUSLICE_BUSY_WORDS - 1) * WORD_GRAINS;
    uint64_t added = 0;

    if (until - from > reach) { /* more than the map holds: what is older is taken to be new */
        added = until - from - reach;
        from = until - reach;
    }
    for (uint64_t number = from / WORD_GRAINS; number * WORD_GRAINS < until; number++)
        added += set_grains(usage, number, grains_of(number, from, until));
    return added << GPUSLICE_BUSY_GRAIN_BITS;
}

uint64_t gpuslice_busy_add(struct gpuslice_share *share, uint64_t from_ns, uint64_t until_ns) {
    struct gpuslice_slot *slot = gpuslice_slot_own(share);

    if (until_ns <= from_ns)
        return 0;
    uint64_t new_to_share = unite(share->usage, from_ns, until_ns);

    if (new_to_share)
        atomic_fetch_add_explicit(&share->usage->busy_ns, new_to_share, memory_order_relaxed);
    cover(&share->usage->covered_until_ns, from_ns, until_ns);
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
