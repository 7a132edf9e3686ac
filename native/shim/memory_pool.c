/* Stream-ordered memory: pools.
 *
 * A pool is charged what it has reserved of the card (CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT), not what is in use: what
 * a pool caches no other share can have. An allocation may make it grow; a synchronisation, a trim or a lower release
 * threshold may make it shrink. Growth is measured under the pool's own lock; shrinking is noticed at the next look.
 *
 * Not charged: pools in host memory, and pools of other processes, which pay for what they export.
 */
#include "memory_pool.h"

#include <stdlib.h>

#define REFUSED CUDA_ERROR_OUT_OF_MEMORY

struct memory_pool {
    struct memory_pool *next; /* of the same GPU; never removed, see `gone` */
    CUmemoryPool handle;
    struct memory_gpu *gpu;  /* NULL: not charged */
    struct memory_lock lock; /* over a call that can make this pool grow, and over `charged` */
    uint64_t charged;
    uint64_t step; /* the largest growth seen beyond what was asked: drivers grow pools by more than one block */
    bool doomed;   /* the program destroyed it while allocations were alive */
    bool gone;
};

static struct memory_lock uncharged_lock;
static struct memory_pool *uncharged; /* host pools and imported ones */

/* --- which pool --------------------------------------------------------------------------------------------- */

static struct memory_pool *find_in(struct memory_pool *list, CUmemoryPool handle) {
    while (list && (list->gone || list->handle != handle))
        list = list->next;
    return list;
}

static struct memory_pool *find(CUmemoryPool handle);

/* Remembers a pool of `gpu` (NULL: not charged). NULL: no host memory. */
static struct memory_pool *add(CUmemoryPool handle, struct memory_gpu *gpu) {
    struct memory_pool *pool = calloc(1, sizeof(*pool));
    if (!pool)
        return NULL;
    pool->handle = handle;
    pool->gpu = gpu;
    struct memory_lock *lock = gpu ? &gpu->pools_lock : &uncharged_lock;
    struct memory_pool **list = gpu ? &gpu->pools : &uncharged;
    memory_lock_take(lock);
    struct memory_pool *known = find_in(*list, handle);
    if (!known) {
        pool->next = *list;
        *list = pool;
    }
    memory_lock_give(lock);
    if (known)
        free(pool);
    return known ? known : pool;
}

static CUmemoryPool searched; /* not used */
