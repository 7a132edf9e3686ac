/* The device addresses of this process: one range, cut into blocks of 2 MiB, with a note of what each block is part
 * of. An extent is a run of blocks that were taken together. The caller holds heap_lock. */
#ifndef GPUSLICE_SIM_HEAP_H
#define GPUSLICE_SIM_HEAP_H

#include <pthread.h>
#include <stdint.h>

#include "blocks.h"

enum extent_kind {
    EXTENT_FREE = 0,
    EXTENT_SMALL,    /* one block of small allocations (linear.c); object: struct small_block */
    EXTENT_LARGE,    /* an allocation with blocks of its own */
    EXTENT_RESERVED, /* an address reservation; object: struct reservation (address.c) */
};

struct extent {
    enum extent_kind kind;
    unsigned gpu;
    uint64_t address, blocks;
    uint64_t bytes; /* as asked */
    void *object;
};

extern pthread_mutex_t heap_lock;

/* The block's address must be a multiple of `alignment` blocks (a power of two). -ENOMEM: no run that long. */
int heap_take(uint64_t blocks, uint64_t alignment, struct extent **ret_extent);
/* The same at a given address. -EBUSY. */
int heap_take_at(uint64_t address, uint64_t blocks, struct extent **ret_extent);
/* Gives the addresses back, and the host memory behind them. */
void heap_give(struct extent *extent);
/* NULL: nothing lies there. */
struct extent *heap_find(uint64_t address);

#endif
