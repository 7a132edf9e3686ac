/* Pools: device memory whose taking and giving back are ordered by streams.
 *
 * A pool takes chunks of whole blocks from the card and cuts them into pieces. A freed piece carries the ticket of its
 * free: the stream that freed it may have it again at once, any other when the ticket is complete. What is free beyond
 * the release threshold goes back to the card when somebody synchronises.
 */
#include "pool.h"

#include <stdlib.h>
#include <string.h>

#include "capture.h"
#include "pool_chunk.h"

pthread_mutex_t pool_lock = PTHREAD_MUTEX_INITIALIZER;
struct pool *pools;
static struct pool *default_pools[DEVICES_MAX], *current_pools[DEVICES_MAX];
static _Atomic bool something_was_freed;

struct pool *pool_check(CUmemoryPool handle) {
    return is_live(handle, MAGIC_POOL) ? (struct pool *)handle : NULL;
}

struct pool *pool_new(unsigned gpu, const CUmemPoolProps *properties) {
    struct pool *pool = object_new(MAGIC_POOL, sizeof *pool);
    if (!pool)
        return NULL;
    *pool =
        (struct pool){.magic = MAGIC_POOL, .gpu = gpu, .properties = *properties, .reuse = {1, 1, 1}, .next = pools};
    pools = pool;
    return pool;
}

/* Under pool_lock. NULL: no host memory. */
struct pool *pool_default(CUdevice device) {
    if (!default_pools[device]) {
        CUmemPoolProps properties = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
                                     .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = device}};
        default_pools[device] = pool_new((unsigned)device_gpu(device), &properties);
        if (default_pools[device])
            default_pools[device]->is_default = true;
    }
    return default_pools[device];
}

struct pool **pool_current(CUdevice device) {
    if (!current_pools[device])
        current_pools[device] = pool_default(device);
    return &current_pools[device];
}

void pool_destroy(struct pool *pool) {
    for (unsigned device = 0; device < device_count(); device++)
        if (current_pools[device] == pool)
            current_pools[device] = NULL;
    pool->dying = true;
    pool->release_threshold = 0;
    pool_trim(pool, 0);
}

void pools_trim_after_sync(void) {
    if (!atomic_load_explicit(&something_was_freed, memory_order_relaxed))
        return;
    pthread_mutex_lock(&pool_lock);
    atomic_store(&something_was_freed, false);
    for (struct pool *pool = pools, *next; pool; pool = next) {
        next = pool->next;
        if (pool_trim(pool, pool->release_threshold))
            atomic_store(&something_was_freed, true);
    }
    pthread_mutex_unlock(&pool_lock);
}

/* Gives back whatever no pool of this GPU uses. */
static void trim_all(unsigned gpu) {
    for (struct pool *pool = pools, *next; pool; pool = next) {
        next = pool->next;
        if (pool->gpu == gpu)
            pool_trim(pool, 0);
    }
}

static struct piece *take_piece(struct pool *pool, uint64_t bytes, const struct stream *stream) {
    struct piece *piece = piece_take(pool, bytes, stream->id);
    if (piece || !pool_grow(pool, bytes))
        return piece ? piece : piece_take(pool, bytes, stream->id);
    /* The card is full: what was freed and is not over yet is the last reserve. */
    trim_all(pool->gpu);
    if (!pool_grow(pool, bytes))
        return piece_take(pool, bytes, stream->id);
    engine_gpu_wait(pool->gpu, false);
    trim_all(pool->gpu);
    if (!pool_grow(pool, bytes))
        return piece_take(pool, bytes, stream->id);
    return piece_take(pool, bytes, stream->id);
}

static CUresult take(CUdeviceptr *ret_address, size_t bytes, struct pool *pool, struct stream *stream) {
    pthread_mutex_lock(&pool_lock);
    struct piece *piece = take_piece(pool, bytes, stream);
    CUresult result = piece ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
    if (piece) {
        struct allocation like = {
            .base = piece->base, .bytes = bytes, .kind = ALLOCATION_POOL, .gpu = pool->gpu, .owner = piece};
        lock_driver();
        if (!allocation_add(&like))
            result = CUDA_ERROR_OUT_OF_MEMORY;
        unlock_driver();
        *ret_address = piece->base;
        if (result)
            piece_give(piece, (struct engine_ticket){0}, 0);
    }
    pthread_mutex_unlock(&pool_lock);
    return result;
}

static CUresult allocate(CUdeviceptr *ret_address, size_t bytes, struct pool *pool, CUstream handle) {
    struct stream *stream;
    CUresult result = stream_find(handle, &stream);
    if (result)
        return result;
    if (!ret_address || !bytes)
        return CUDA_ERROR_INVALID_VALUE;
    result = capture_forbids_legacy(stream);
    if (result)
        return result;
    if (!pool) {
        pthread_mutex_lock(&pool_lock);
        pool = *pool_current(stream->context->device);
        pthread_mutex_unlock(&pool_lock);
        if (!pool)
            return CUDA_ERROR_OUT_OF_MEMORY;
    }
    if (!capture_of(stream))
        return take(ret_address, bytes, pool, stream);
    struct work work = {.kind = WORK_ALLOC, .alloc.parameters = {.poolProps = pool->properties, .bytesize = bytes}};
    result = graph_memory_reserve(&work.alloc.parameters);
    if (result)
        return result;
    CUdeviceptr address = work.alloc.parameters.dptr;
    result = capture_add(stream, &work, NULL);
    if (!result)
        *ret_address = address;
    return result;
}

CUresult cuMemAllocAsync(CUdeviceptr *address, size_t bytes, CUstream stream) {
    return allocate(address, bytes, NULL, stream);
}

CUresult cuMemAllocFromPoolAsync(CUdeviceptr *address, size_t bytes, CUmemoryPool handle, CUstream stream) {
    CUresult result = require_init();
    if (result)
        return result;
    struct pool *pool = pool_check(handle);
    return pool ? allocate(address, bytes, pool, stream) : CUDA_ERROR_INVALID_VALUE;
}

static CUresult give(CUdeviceptr address, struct engine_ticket ticket, unsigned long long stream_id) {
    pthread_mutex_lock(&pool_lock);
    lock_driver();
    struct allocation *allocation = allocation_find(address);
    struct piece *piece = NULL;
    if (allocation && allocation->base == address && allocation->kind == ALLOCATION_POOL) {
        piece = allocation->owner;
        allocation_remove(allocation);
    }
    unlock_driver();
    if (piece)
        piece_give(piece, ticket, stream_id);
    pthread_mutex_unlock(&pool_lock);
    atomic_store(&something_was_freed, true);
    return piece ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult pool_free_now(CUdeviceptr address) {
    CUresult result = give(address, (struct engine_ticket){0}, 0);
    pools_trim_after_sync();
    return result;
}

CUresult cuMemFreeAsync(CUdeviceptr address, CUstream handle) {
    struct stream *stream;
    CUresult result = stream_find(handle, &stream);
    if (result)
        return result;
    if (!address)
        return CUDA_ERROR_INVALID_VALUE;
    result = capture_forbids_legacy(stream);
    if (result)
        return result;
    lock_driver();
    struct allocation *allocation = allocation_find(address);
    enum allocation_kind kind = allocation && allocation->base == address ? allocation->kind : 0;
    unlock_driver();
    if (!kind || kind == ALLOCATION_IPC)
        return CUDA_ERROR_INVALID_VALUE;
    if (capture_of(stream)) {
        struct work work = {.kind = WORK_FREE, .free = address};
        return capture_add(stream, &work, NULL);
    }
    if (kind == ALLOCATION_GRAPH)
        return graph_memory_free(stream, address);
    if (kind != ALLOCATION_POOL) { /* of cuMemAlloc: legal, and as synchronous as its own free */
        result = stream_synchronize(stream);
        return result ? result : cuMemFree_v2(address);
    }
    struct engine_ticket ticket;
    result = stream_submit(stream, &(struct engine_op){.kind = ENGINE_OP_MARK}, &ticket);
    return result ? result : give(address, ticket, stream->id);
}
