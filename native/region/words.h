/* Packing of total_word and held_word: see gpuslice/region.h. */
#ifndef GPUSLICE_REGION_WORDS_H
#define GPUSLICE_REGION_WORDS_H

#include <gpuslice/region.h>

#define GRANULES_MAX ((UINT64_C(1) << GPUSLICE_GRANULE_BITS) - 1)
#define SEQUENCE_MASK ((UINT64_C(1) << GPUSLICE_SEQUENCE_BITS) - 1)
#define TOTAL_LOW_BITS (GPUSLICE_SLOT_BITS + GPUSLICE_SEQUENCE_BITS)

_Static_assert(GPUSLICE_GRANULE_BITS + TOTAL_LOW_BITS == 64, "the total word is full");
_Static_assert(GPUSLICE_SLOTS == 1u << GPUSLICE_SLOT_BITS, "a slot number always fits and is always valid");

/* Both words carry their granules on top. */
static inline uint64_t word_granules(uint64_t word) {
    return word >> TOTAL_LOW_BITS;
}

static inline uint64_t word_bytes(uint64_t word) {
    return word_granules(word) * GPUSLICE_GRANULE;
}

static inline uint64_t total_pack(uint64_t granules, uint32_t slot, uint64_t sequence) {
    return granules << TOTAL_LOW_BITS | (uint64_t)slot << GPUSLICE_SEQUENCE_BITS | (sequence & SEQUENCE_MASK);
}

static inline uint32_t total_slot(uint64_t total) {
    return (uint32_t)(total >> GPUSLICE_SEQUENCE_BITS) & (GPUSLICE_SLOTS - 1);
}

static inline uint64_t total_sequence(uint64_t total) {
    return total & SEQUENCE_MASK;
}

/* The value that follows `held`: other granules, and one more change. */
static inline uint64_t held_next(uint64_t held, uint64_t granules) {
    uint64_t changes_mask = (UINT64_C(1) << TOTAL_LOW_BITS) - 1;

    return granules << TOTAL_LOW_BITS | ((held + 1) & changes_mask);
}

#endif
