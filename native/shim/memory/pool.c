/* Stream-ordered memory: pools.
 *
 * A pool is charged what it has reserved of the card (CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT), not what is in use: what
 * a pool caches no other share can have. An allocation may make it grow; a synchronisation, a trim or a lower release
 * threshold may make it shrink. Growth is measured under the pool's own lock; shrinking is noticed at the next look.
 *
 * Not charged: pools in host memory, and pools of other processes, which pay for what they export.
 */
#include "memory/memory.h"

#include <stdlib.h>

#define REFUSED CUDA_ERROR_OUT_OF_MEMORY

struct memory_pool {
    struct memory_pool *next; /* of the same GPU. Never unlinked: a walker may stand on it. Reused once gone. */
    CUmemoryPool handle;      /* NULL: gone */
    struct memory_gpu *gpu;   /* NULL: not charged */
    struct memory_lock lock;  /* over a call that can make this pool grow, and over what follows */
    uint64_t charged;
    uint64_t step; /* it has been seen to grow by multiples of this, or 0: by what was asked */
    bool created;  /* by cuMemPoolCreate, not one of the driver's own */
    bool doomed;   /* the program destroyed it while the driver still held memory for it */
};

/* By handle; the record's owner is the struct memory_pool. */
static struct memory_table pools;

/* --- what a pool holds -------------------------------------------------------------------------------------- */

static uint64_t reserved_by(CUmemoryPool handle) {
    cuuint64_t bytes = 0;
    if (real.cuMemPoolGetAttribute(handle, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT, &bytes) != CUDA_SUCCESS)
        return 0;
    return bytes;
}

/* Brings the charge to what the pool holds now, `reserved` having been reserved for it. Under its lock. */
static void recharge(struct memory_pool *pool, uint64_t reserved, uint64_t holds) {
    memory_adjust(pool->gpu, pool->charged + reserved, holds, GPUSLICE_MEMORY_DATA);
    pool->charged = holds;
}

/* Only a pool that lives can be asked what it holds, so one that the program destroys while its memory is in use
 * is given to the driver when the last of it is back. */
static void destroy_if_empty(struct memory_pool *pool) {
    if (!pool->doomed || pool->charged != 0)
        return;
    memory_table_take(&pools, (uint64_t)(uintptr_t)pool->handle, NULL);
    real.cuMemPoolDestroy(pool->handle);
    pool->handle = NULL;
    pool->doomed = false;
}

static void settle(struct memory_pool *pool, bool trim) {
    memory_lock_take(&pool->lock);
    if (pool->handle && (pool->charged || pool->doomed)) {
        if (trim || pool->doomed)
            real.cuMemPoolTrimTo(pool->handle, 0);
        recharge(pool, 0, reserved_by(pool->handle));
        destroy_if_empty(pool);
    }
    memory_lock_give(&pool->lock);
}

static void settle_all(struct memory_gpu *gpu, bool trim) {
    memory_lock_take(&gpu->pools_lock);
    struct memory_pool *first = gpu->pools;
    memory_lock_give(&gpu->pools_lock);
    for (struct memory_pool *pool = first; pool; pool = pool->next)
        settle(pool, trim);
}

void memory_pools_settle(struct memory_gpu *gpu) {
    settle_all(gpu, false);
}

void memory_pools_trim(struct memory_gpu *gpu) {
    settle_all(gpu, true);
}

/* --- which pool --------------------------------------------------------------------------------------------- */

void memory_pools_forget(void) {
    memory_table_reset(&pools);
}

static struct memory_pool *take_gone(struct memory_gpu *gpu) {
    struct memory_pool *pool = gpu ? gpu->pools : NULL;
    while (pool && pool->handle)
        pool = pool->next;
    return pool;
}

/* Starts to follow a pool. `gpu` NULL: it is not charged. NULL: no host memory. */
static struct memory_pool *follow(CUmemoryPool handle, struct memory_gpu *gpu, bool created) {
    static struct memory_lock uncharged_lock;
    struct memory_lock *lock = gpu ? &gpu->pools_lock : &uncharged_lock;
    struct memory_record record = {.key = (uint64_t)(uintptr_t)handle}, stale;
    memory_lock_take(lock);
    if (memory_table_get(&pools, record.key, &record)) { /* another thread was quicker */
        memory_lock_give(lock);
        return record.owner;
    }
    struct memory_pool *pool = take_gone(gpu);
    bool fresh = !pool;
    if (fresh)
        pool = calloc(1, sizeof(*pool));
    if (pool) {
        pool->gpu = gpu;
        pool->created = created;
        pool->handle = handle;
        record.owner = pool;
    }
    bool kept = pool && memory_table_put(&pools, &record, &stale);
    if (kept && fresh && gpu) {
        pool->next = gpu->pools;
        gpu->pools = pool;
    }
    memory_lock_give(lock);
    if (!kept && fresh)
        free(pool);
    else if (!kept)
        pool->handle = NULL;
    return kept ? pool : NULL;
}

static struct memory_gpu *payer_at(const CUmemLocation *location) {
    return location->type == CU_MEM_LOCATION_TYPE_DEVICE ? memory_gpu(location->id) : NULL;
}

struct search {
    CUmemoryPool handle;
    struct memory_gpu *found;
};

static void compare_with_pools_of(struct memory_gpu *gpu, void *argument) {
    struct search *search = argument;
    CUmemoryPool pool = NULL;
    if (real.cuDeviceGetDefaultMemPool(&pool, gpu->device) == CUDA_SUCCESS && pool == search->handle)
        search->found = gpu;
    if (real.cuDeviceGetMemPool(&pool, gpu->device) == CUDA_SUCCESS && pool == search->handle)
        search->found = gpu;
}

/* Who pays for a pool that the program did not make: one of a device's own, else wherever the driver says it lies
 * (CUDA 13 can say so), else the current device. */
static struct memory_gpu *payer_of(CUmemoryPool handle) {
    struct search search = {.handle = handle};
    memory_each_gpu(compare_with_pools_of, &search);
    if (search.found)
        return search.found;
    CUmemLocation location = {.type = CU_MEM_LOCATION_TYPE_INVALID};
    if (real.cuMemPoolGetAttribute(handle, CU_MEMPOOL_ATTR_LOCATION_TYPE, &location.type) == CUDA_SUCCESS &&
        real.cuMemPoolGetAttribute(handle, CU_MEMPOOL_ATTR_LOCATION_ID, &location.id) == CUDA_SUCCESS)
        return payer_at(&location);
    CUcontext context;
    return memory_current(&context);
}

static struct memory_pool *pool_of(CUmemoryPool handle) {
    struct memory_record record;
    if (memory_table_get(&pools, (uint64_t)(uintptr_t)handle, &record))
        return record.owner;
    return follow(handle, payer_of(handle), false);
}

static CUresult device_of_stream(CUstream stream, CUdevice *ret_device) {
    CUcontext context = NULL, current = NULL;
    if (stream == NULL || stream == CU_STREAM_LEGACY || stream == CU_STREAM_PER_THREAD)
        return real.cuCtxGetDevice(ret_device);
    CUresult result = real.cuStreamGetCtx(stream, &context);
    if (result != CUDA_SUCCESS)
        return result;
    if (real.cuCtxGetCurrent(&current) == CUDA_SUCCESS && current == context)
        return real.cuCtxGetDevice(ret_device);
    result = real.cuCtxPushCurrent_v2(context);
    if (result != CUDA_SUCCESS)
        return result;
    result = real.cuCtxGetDevice(ret_device);
    real.cuCtxPopCurrent_v2(&context);
    return result;
}

/* --- allocations -------------------------------------------------------------------------------------------- */

/* The four entry points as one. */
struct stream_allocation {
    CUdeviceptr *pointer;
    size_t bytes;
    CUmemoryPool pool; /* NULL: the current one of the stream's device */
    CUstream stream;
    bool per_thread; /* the _ptsz variant: stream 0 means this thread's own */
};

static CUresult call_driver(const struct stream_allocation *call) {
    if (!call->pool)
        return (call->per_thread ? real.cuMemAllocAsync_ptsz : real.cuMemAllocAsync)(call->pointer, call->bytes,
                                                                                     call->stream);
    return (call->per_thread ? real.cuMemAllocFromPoolAsync_ptsz
                             : real.cuMemAllocFromPoolAsync)(call->pointer, call->bytes, call->pool, call->stream);
}

bool memory_stream_captures(CUstream stream, bool per_thread) {
    CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
    CUresult result = (per_thread ? real.cuStreamIsCapturing_ptsz : real.cuStreamIsCapturing)(stream, &status);
    return result == CUDA_SUCCESS && status != CU_STREAM_CAPTURE_STATUS_NONE;
}

static struct memory_pool *charged_pool(const struct stream_allocation *call) {
    CUmemoryPool handle = call->pool;
    CUdevice device;
    if (!handle && (device_of_stream(call->stream, &device) != CUDA_SUCCESS || !memory_gpu(device) ||
                    real.cuDeviceGetMemPool(&handle, device) != CUDA_SUCCESS))
        return NULL;
    struct memory_pool *pool = pool_of(handle);
    return pool && pool->gpu ? pool : NULL;
}

/* A pool hands memory freed earlier in the same stream out again without growing, but cannot be told not to grow.
 * So where growth would not fit, the frees queued in this stream are waited for; then the pool can be trimmed. */
static bool reserve_growth(const struct stream_allocation *call, struct memory_pool *pool, uint64_t bytes) {
    if (memory_reserve(pool->gpu, bytes, GPUSLICE_MEMORY_DATA))
        return true;
    if (pool->charged < call->bytes)
        return false;
    (call->per_thread ? real.cuStreamSynchronize_ptsz : real.cuStreamSynchronize)(call->stream);
    return memory_reserve(pool->gpu, bytes, GPUSLICE_MEMORY_DATA);
}

/* Of a growth and the step known so far: what drivers grow a pool by is not documented. */
static uint64_t common_divisor(uint64_t a, uint64_t b) {
    while (b) {
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static CUresult grow_and_settle(const struct stream_allocation *call, struct memory_pool *pool, uint64_t reserved) {
    memory_lock_take(&pool->lock);
    uint64_t before = pool->charged;
    CUresult result = call_driver(call);
    uint64_t holds = reserved_by(pool->handle);
    recharge(pool, reserved, holds);
    bool surprise = holds > before + reserved;
    if (surprise)
        pool->step = common_divisor(holds - before, pool->step);
    if (result == CUDA_SUCCESS && surprise && memory_is_over(pool->gpu)) {
        (call->per_thread ? real.cuMemFreeAsync_ptsz : real.cuMemFreeAsync)(*call->pointer, call->stream);
        result = REFUSED;
    }
    memory_lock_give(&pool->lock);
    return result;
}

static CUresult allocate(const struct stream_allocation *call) {
    if (!tenant_active())
        return call_driver(call);
    if (memory_stream_captures(call->stream, call->per_thread)) {
        memory_graph_expect_allocations();
        return call_driver(call);
    }
    struct memory_pool *pool = charged_pool(call);
    if (!pool)
        return call_driver(call);
    uint64_t needed = memory_blocks(call->bytes);
    if (pool->step && needed < UINT64_MAX - pool->step)
        needed = (needed + pool->step - 1) / pool->step * pool->step;
    memory_begin(pool->gpu);
    CUresult result = reserve_growth(call, pool, needed) ? grow_and_settle(call, pool, needed) : REFUSED;
    memory_end(pool->gpu);
    return result;
}

CUresult cuMemAllocAsync(CUdeviceptr *dptr, size_t bytesize, CUstream hStream) {
    return allocate(&(struct stream_allocation){.pointer = dptr, .bytes = bytesize, .stream = hStream});
}

CUresult cuMemAllocAsync_ptsz(CUdeviceptr *dptr, size_t bytesize, CUstream hStream) {
    return allocate(
        &(struct stream_allocation){.pointer = dptr, .bytes = bytesize, .stream = hStream, .per_thread = true});
}

CUresult cuMemAllocFromPoolAsync(CUdeviceptr *dptr, size_t bytesize, CUmemoryPool pool, CUstream hStream) {
    if (!pool)
        return real.cuMemAllocFromPoolAsync(dptr, bytesize, pool, hStream);
    return allocate(&(struct stream_allocation){.pointer = dptr, .bytes = bytesize, .pool = pool, .stream = hStream});
}

CUresult cuMemAllocFromPoolAsync_ptsz(CUdeviceptr *dptr, size_t bytesize, CUmemoryPool pool, CUstream hStream) {
    if (!pool)
        return real.cuMemAllocFromPoolAsync_ptsz(dptr, bytesize, pool, hStream);
    return allocate(&(struct stream_allocation){
        .pointer = dptr, .bytes = bytesize, .pool = pool, .stream = hStream, .per_thread = true});
}

/* --- the pools themselves ----------------------------------------------------------------------------------- */

CUresult cuMemPoolCreate(CUmemoryPool *pool, const CUmemPoolProps *poolProps) {
    CUresult result = real.cuMemPoolCreate(pool, poolProps);
    if (result == CUDA_SUCCESS && tenant_active() && !follow(*pool, payer_at(&poolProps->location), true)) {
        real.cuMemPoolDestroy(*pool);
        return REFUSED;
    }
    return result;
}

CUresult cuMemPoolImportFromShareableHandle(CUmemoryPool *pool_out, void *handle, CUmemAllocationHandleType handleType,
                                            unsigned long long flags) {
    CUresult result = real.cuMemPoolImportFromShareableHandle(pool_out, handle, handleType, flags);
    if (result == CUDA_SUCCESS && tenant_active())
        follow(*pool_out, NULL, false);
    return result;
}

CUresult cuMemPoolTrimTo(CUmemoryPool pool, size_t minBytesToKeep) {
    struct memory_record record;
    CUresult result = real.cuMemPoolTrimTo(pool, minBytesToKeep);
    if (tenant_active() && memory_table_get(&pools, (uint64_t)(uintptr_t)pool, &record))
        settle(record.owner, false);
    return result;
}

static CUresult doom(struct memory_pool *pool) {
    cuuint64_t keep = 0;
    CUmemoryPool current = NULL, standard = NULL;
    CUdevice device = pool->gpu->device;
    /* What the driver does when a device's current pool is destroyed. */
    if (real.cuDeviceGetMemPool(&current, device) == CUDA_SUCCESS && current == pool->handle &&
        real.cuDeviceGetDefaultMemPool(&standard, device) == CUDA_SUCCESS)
        real.cuDeviceSetMemPool(device, standard);
    memory_lock_take(&pool->lock);
    real.cuMemPoolSetAttribute(pool->handle, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &keep);
    pool->doomed = true;
    memory_lock_give(&pool->lock);
    settle(pool, true);
    return CUDA_SUCCESS;
}

CUresult cuMemPoolDestroy(CUmemoryPool pool) {
    struct memory_record record;
    if (!tenant_active() || !memory_table_get(&pools, (uint64_t)(uintptr_t)pool, &record))
        return real.cuMemPoolDestroy(pool);
    struct memory_pool *known = record.owner;
    if (known->created && known->gpu)
        return doom(known);
    CUresult result = real.cuMemPoolDestroy(pool);
    if (result == CUDA_SUCCESS)
        memory_table_take(&pools, (uint64_t)(uintptr_t)pool, NULL);
    return result;
}
