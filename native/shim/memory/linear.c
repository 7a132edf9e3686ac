/* Linear memory: cuMemAlloc, pitched, managed.
 *
 * The driver takes physical memory in blocks of 2 MiB. Small allocations share blocks, larger ones have blocks of
 * their own; either way an allocation costs what its blocks cost, and a block that several share is charged once:
 * when the first touches it, until the last has left. Which blocks those are shows in the address. (Assumed of the
 * driver: a block that nothing lies in goes back at once. tests/gpu compares it with NVML.)
 */
#include "memory/memory.h"

#define REFUSED CUDA_ERROR_OUT_OF_MEMORY

struct memory_table memory_allocations;
static struct memory_table blocks; /* by number of the block; only those that one allocation does not fill */

struct request {
    struct memory_gpu *gpu; /* NULL: no share, only call the driver */
    CUcontext context;
    uint64_t reserved;
    enum gpuslice_memory_kind kind;
};

void memory_linear_forget(void) {
    memory_table_reset(&memory_allocations);
    memory_table_reset(&blocks);
}

/* --- blocks ------------------------------------------------------------------------------------------------- */

struct span {
    uint64_t first, last;           /* blocks */
    bool shares_first, shares_last; /* it fills them only in part, so that others may lie there too */
};

static struct span span_of(uint64_t pointer, uint64_t bytes) {
    uint64_t end = pointer + bytes;
    struct span span = {.first = pointer / MEMORY_BLOCK, .last = (end - 1) / MEMORY_BLOCK};
    span.shares_first = pointer % MEMORY_BLOCK != 0;
    span.shares_last = end % MEMORY_BLOCK != 0;
    if (span.first == span.last) {
        span.shares_first |= span.shares_last;
        span.shares_last = false;
    }
    return span;
}

static uint64_t own_bytes(const struct span *span) {
    return (span->last - span->first + 1 - span->shares_first - span->shares_last) * MEMORY_BLOCK;
}

/* Adds up what the allocation takes that was not charged before. False: no host memory to remember it. */
static bool enter_blocks(uint64_t pointer, uint64_t bytes, enum gpuslice_memory_kind kind, uint64_t *ret_taken) {
    struct span span = span_of(pointer, bytes);
    uint16_t block_kind = (uint16_t)kind;
    int64_t in_first = 0, in_last = 0;
    if (span.shares_first && (in_first = memory_table_count(&blocks, span.first, 1, &block_kind)) < 0)
        return false;
    block_kind = (uint16_t)kind;
    if (span.shares_last && (in_last = memory_table_count(&blocks, span.last, 1, &block_kind)) < 0) {
        if (span.shares_first)
            memory_table_count(&blocks, span.first, -1, &block_kind);
        return false;
    }
    *ret_taken = own_bytes(&span) + (in_first == 1 ? MEMORY_BLOCK : 0) + (in_last == 1 ? MEMORY_BLOCK : 0);
    return true;
}

static void leave_shared_block(struct memory_gpu *gpu, uint64_t block, enum gpuslice_memory_kind kind) {
    uint16_t block_kind = (uint16_t)kind; /* it is refunded as what it was charged as */
    if (memory_table_count(&blocks, block, -1, &block_kind) != 0)
        return;
    if (atomic_load_explicit(&gpu->scattered_arrays, memory_order_relaxed))
        memory_overhead_take_over(gpu, MEMORY_BLOCK, block_kind); /* one of them may lie there still */
    else
        memory_refund(gpu, MEMORY_BLOCK, block_kind);
}

/* Refunds what only this allocation still held. */
static void leave_blocks(struct memory_gpu *gpu, uint64_t pointer, uint64_t bytes, enum gpuslice_memory_kind kind) {
    struct span span = span_of(pointer, bytes);
    if (span.shares_first)
        leave_shared_block(gpu, span.first, kind);
    if (span.shares_last)
        leave_shared_block(gpu, span.last, kind);
    memory_refund(gpu, own_bytes(&span), kind);
}

/* --- allocations -------------------------------------------------------------------------------------------- */

/* False: refused. */
static bool request_begin(struct request *request, uint64_t bytes, enum gpuslice_memory_kind kind) {
    request->gpu = memory_current(&request->context);
    if (!request->gpu)
        return true;
    request->kind = kind;
    request->reserved = memory_blocks(bytes);
    memory_begin(request->gpu);
    if (memory_reserve(request->gpu, request->reserved, kind))
        return true;
    memory_end(request->gpu);
    return false;
}

void memory_allocation_release(const struct memory_record *record) {
    struct memory_gpu *gpu = memory_gpu(record->gpu);
    if (!gpu)
        return;
    if (record->kind == GPUSLICE_MEMORY_ARRAY)
        memory_array_release(gpu, record);
    else if (record->kind == GPUSLICE_MEMORY_PINNED)
        memory_refund(gpu, record->bytes, GPUSLICE_MEMORY_PINNED);
    else
        leave_blocks(gpu, record->key, record->bytes, record->kind);
}

static void release_visited(const struct memory_record *record, void *unused) {
    (void)unused;
    memory_allocation_release(record);
}

void memory_allocations_forget(const void *owner) {
    memory_table_take_all(&memory_allocations, owner, release_visited, NULL);
}

bool memory_allocation_remember(const struct memory_record *record) {
    struct memory_record stale;
    if (!memory_table_put(&memory_allocations, record, &stale))
        return false;
    if (stale.key) /* the driver says it is new, so what the table still had died unseen */
        memory_allocation_release(&stale);
    return true;
}

static CUresult request_end(const struct request *request, CUresult result, const CUdeviceptr *pointer,
                            uint64_t bytes) {
    struct memory_gpu *gpu = request->gpu;
    if (!gpu)
        return result;
    uint64_t taken = 0;
    if (result == CUDA_SUCCESS && !enter_blocks(*pointer, bytes, request->kind, &taken)) {
        real.cuMemFree_v2(*pointer);
        result = REFUSED;
    }
    memory_adjust(gpu, request->reserved, taken, request->kind);
    if (atomic_load_explicit(&gpu->scattered_arrays, memory_order_relaxed))
        memory_overhead_touch(gpu); /* one of them may have paid for the block already */
    if (result == CUDA_SUCCESS) {
        struct memory_record record = {.key = *pointer,
                                       .bytes = bytes,
                                       .owner = request->context,
                                       .gpu = (uint16_t)gpu->device,
                                       .kind = (uint16_t)request->kind};
        if (!memory_allocation_remember(&record)) {
            real.cuMemFree_v2(*pointer);
            memory_allocation_release(&record);
            result = REFUSED;
        }
    }
    memory_end(gpu);
    return result;
}

CUresult cuMemAlloc_v2(CUdeviceptr *dptr, size_t bytesize) {
    struct request request;
    if (!request_begin(&request, bytesize, GPUSLICE_MEMORY_DATA))
        return REFUSED;
    CUresult result = real.cuMemAlloc_v2(dptr, bytesize);
    return request_end(&request, result, dptr, bytesize);
}

CUresult cuMemAlloc(CUdeviceptr_v1 *dptr, unsigned int bytesize) {
    struct request request;
    if (!request_begin(&request, bytesize, GPUSLICE_MEMORY_DATA))
        return REFUSED;
    CUresult result = real.cuMemAlloc(dptr, bytesize);
    CUdeviceptr pointer = result == CUDA_SUCCESS ? *dptr : 0;
    return request_end(&request, result, &pointer, bytesize);
}

/* Rows are padded to the pitch, which is known only afterwards. Every GPU so far pads to 512 bytes; where that
 * guess falls short, the rest is charged when the true pitch is known. */
static uint64_t pitched_bytes(uint64_t width, uint64_t height) {
    uint64_t bytes;
    if (__builtin_mul_overflow((width + 511) & ~UINT64_C(511), height, &bytes))
        return UINT64_MAX;
    return bytes;
}

CUresult cuMemAllocPitch_v2(CUdeviceptr *dptr, size_t *pPitch, size_t WidthInBytes, size_t Height,
                            unsigned int ElementSizeBytes) {
    struct request request;
    if (!request_begin(&request, pitched_bytes(WidthInBytes, Height), GPUSLICE_MEMORY_DATA))
        return REFUSED;
    CUresult result = real.cuMemAllocPitch_v2(dptr, pPitch, WidthInBytes, Height, ElementSizeBytes);
    return request_end(&request, result, dptr, result == CUDA_SUCCESS ? *pPitch * Height : 0);
}

CUresult cuMemAllocPitch(CUdeviceptr_v1 *dptr, unsigned int *pPitch, unsigned int WidthInBytes, unsigned int Height,
                         unsigned int ElementSizeBytes) {
    struct request request;
    if (!request_begin(&request, pitched_bytes(WidthInBytes, Height), GPUSLICE_MEMORY_DATA))
        return REFUSED;
    CUresult result = real.cuMemAllocPitch(dptr, pPitch, WidthInBytes, Height, ElementSizeBytes);
    CUdeviceptr pointer = result == CUDA_SUCCESS ? *dptr : 0;
    return request_end(&request, result, &pointer, result == CUDA_SUCCESS ? (uint64_t)*pPitch * Height : 0);
}

/* Managed memory is charged in full from the start, wherever its pages are at the moment: the GPU may ask for all
 * of them at any time, and by then it is too late to refuse. */
CUresult cuMemAllocManaged(CUdeviceptr *dptr, size_t bytesize, unsigned int flags) {
    struct request request;
    if (!request_begin(&request, bytesize, GPUSLICE_MEMORY_MANAGED))
        return REFUSED;
    CUresult result = real.cuMemAllocManaged(dptr, bytesize, flags);
    return request_end(&request, result, dptr, bytesize);
}
