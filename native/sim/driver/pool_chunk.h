/* What a pool is made of. All under pool_lock. */
#ifndef GPUSLICE_SIM_POOL_CHUNK_H
#define GPUSLICE_SIM_POOL_CHUNK_H

#include "sim.h"

struct piece {
    struct chunk *chunk;
    uint64_t base, bytes;
    bool free;
    struct engine_ticket freed_after; /* all zero: whatever used it is over */
    unsigned long long freed_by;      /* the stream's id */
    struct piece *lower, *higher;     /* neighbours in the chunk */
    struct piece *previous_free, *next_free;
};

struct chunk {
    struct pool *pool;
    uint64_t base, bytes;
    struct piece *pieces; /* lowest address first */
    struct chunk *next;
};

struct pool {
    uint32_t magic;
    unsigned gpu;
    bool is_default;
    bool dying; /* destroyed by the program, but some of its memory is in use */
    CUmemPoolProps properties;
    int reuse[3]; /* CU_MEMPOOL_ATTR_REUSE_...: kept, not obeyed */
    uint64_t release_threshold;
    uint64_t reserved, reserved_high, used, used_high; /* bytes */
    uint32_t access;                                   /* other GPUs that may use it, one bit each */
    struct chunk *chunks;
    struct piece *free_pieces;
    struct pool *next;
};

extern pthread_mutex_t pool_lock;
extern struct pool *pools;

struct pool *pool_check(CUmemoryPool handle);
struct pool *pool_new(unsigned gpu, const CUmemPoolProps *properties);
struct pool *pool_default(CUdevice device);
struct pool **pool_current(CUdevice device);
void pool_destroy(struct pool *pool);

/* Takes a chunk that has room for `bytes` from the card. 0 or a negative errno. */
int pool_grow(struct pool *pool, uint64_t bytes);
/* Gives chunks back until no more than `keep` bytes stay reserved. true: more could go once running work is over. A
 * dying pool that has nothing left is freed. */
bool pool_trim(struct pool *pool, uint64_t keep);
/* NULL: no free piece that this stream may use is large enough. */
struct piece *piece_take(struct pool *pool, uint64_t bytes, unsigned long long stream_id);
void piece_give(struct piece *piece, struct engine_ticket after, unsigned long long stream_id);

#endif
