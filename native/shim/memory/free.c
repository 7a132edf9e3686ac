/* Frees, in any pairing that the driver takes: cuMemFree of what cuMemAllocAsync gave, and the other way round.
 *
 * What the account does not know (pool and graph memory, which is charged as the pool or the graph grows) is only
 * handed on. A record goes before the call, because another thread can get the address as soon as it is free.
 */
#include "memory/memory.h"

#include <stdlib.h>

/* Memory of cuMemAlloc that cuMemFreeAsync has freed. The driver gives it back when its stream is synchronised, so
 * it is charged until then. */
struct queued_free {
    struct queued_free *next;
    struct memory_record record;
    CUstream stream;
    bool per_thread;
};

static struct memory_lock queue_lock;
static struct queued_free *queue;
static _Atomic uint32_t queue_length; /* so that synchronisations without any are not held up */

void memory_free_forget(void) {
    queue_lock = (struct memory_lock){0};
    queue = NULL;
    atomic_store_explicit(&queue_length, 0, memory_order_relaxed);
}

bool memory_frees_are_queued(void) {
    return atomic_load_explicit(&queue_length, memory_order_acquire) != 0;
}

static CUresult free_unrecorded(CUdeviceptr pointer) {
    CUresult result = real.cuMemFree_v2(pointer);
    if (result == CUDA_SUCCESS)
        memory_settle_shrinking();
    return result;
}

CUresult cuMemFree_v2(CUdeviceptr dptr) {
    struct memory_record record;
    if (!tenant_active())
        return real.cuMemFree_v2(dptr);
    if (!memory_table_take(&memory_allocations, dptr, &record))
        return free_unrecorded(dptr);
    if (record.flags & MEMORY_EXPORTED)
        return memory_export_free(&record);
    struct memory_gpu *gpu = memory_gpu(record.gpu);
    memory_begin(gpu);
    CUresult result = real.cuMemFree_v2(dptr);
    if (result == CUDA_SUCCESS)
        memory_allocation_release(&record);
    else
        memory_allocation_remember(&record);
    memory_end(gpu);
    return result;
}

CUresult cuMemFree(CUdeviceptr_v1 dptr) {
    return cuMemFree_v2(dptr);
}

/* --- in stream order ---------------------------------------------------------------------------------------- */

static bool enqueue(const struct memory_record *record, CUstream stream, bool per_thread) {
    struct queued_free *entry = malloc(sizeof(*entry));
    if (!entry)
        return false;
    *entry = (struct queued_free){.record = *record, .stream = stream, .per_thread = per_thread};
    memory_lock_take(&queue_lock);
    entry->next = queue;
    queue = entry;
    memory_lock_give(&queue_lock);
    atomic_fetch_add_explicit(&queue_length, 1, memory_order_relaxed);
    return true;
}

static CUresult call_free_async(CUdeviceptr pointer, CUstream stream, bool per_thread) {
    return (per_thread ? real.cuMemFreeAsync_ptsz : real.cuMemFreeAsync)(pointer, stream);
}

static CUresult free_async(CUdeviceptr pointer, CUstream stream, bool per_thread) {
    struct memory_record record;
    if (!tenant_active() || memory_stream_captures(stream, per_thread) ||
        !memory_table_take(&memory_allocations, pointer, &record))
        return call_free_async(pointer, stream, per_thread);
    if (record.flags & MEMORY_EXPORTED) { /* in order, but at once: what becomes of it must be seen */
        (per_thread ? real.cuStreamSynchronize_ptsz : real.cuStreamSynchronize)(stream);
        return memory_export_free(&record);
    }
    struct memory_gpu *gpu = memory_gpu(record.gpu);
    memory_begin(gpu);
    CUresult result = call_free_async(pointer, stream, per_thread);
    if (result != CUDA_SUCCESS)
        memory_allocation_remember(&record);
    else if (!enqueue(&record, stream, per_thread)) {
        /* No host memory to wait with: wait here. */
        (per_thread ? real.cuStreamSynchronize_ptsz : real.cuStreamSynchronize)(stream);
        memory_allocation_release(&record);
    }
    memory_end(gpu);
    return result;
}

CUresult cuMemFreeAsync(CUdeviceptr dptr, CUstream hStream) {
    return free_async(dptr, hStream, false);
}

CUresult cuMemFreeAsync_ptsz(CUdeviceptr dptr, CUstream hStream) {
    return free_async(dptr, hStream, true);
}

/* --- what a synchronisation gives back ----------------------------------------------------------------------- */

/* Takes out those whose stream (or context) has been synchronised. */
static struct queued_free *take_queued(bool (*is_done)(const struct queued_free *, void *), void *argument) {
    struct queued_free *taken = NULL;
    memory_lock_take(&queue_lock);
    for (struct queued_free **link = &queue; *link;) {
        struct queued_free *entry = *link;
        if (is_done(entry, argument)) {
            *link = entry->next;
            entry->next = taken;
            taken = entry;
        } else {
            link = &entry->next;
        }
    }
    memory_lock_give(&queue_lock);
    return taken;
}

static void release(struct queued_free *entry) {
    memory_allocation_release(&entry->record);
    free(entry);
    /* Release: who finds none queued sees the refund. */
    atomic_fetch_sub_explicit(&queue_length, 1, memory_order_release);
}

static void release_queued(bool (*is_done)(const struct queued_free *, void *), void *argument) {
    struct queued_free *next, *entry = take_queued(is_done, argument);
    for (; entry; entry = next) {
        next = entry->next;
        release(entry);
    }
}

struct synchronised {
    CUstream stream;
    bool per_thread;
};

static bool is_of_stream(const struct queued_free *entry, void *argument) {
    const struct synchronised *done = argument;
    return entry->stream == done->stream && entry->per_thread == done->per_thread;
}

static bool is_of_handle(const struct queued_free *entry, void *stream) {
    return entry->stream == stream;
}

static bool is_queued_in(CUstream stream) {
    bool queued = false;
    memory_lock_take(&queue_lock);
    for (const struct queued_free *entry = queue; entry && !queued; entry = entry->next)
        queued = entry->stream == stream;
    memory_lock_give(&queue_lock);
    return queued;
}

static bool is_of_context(const struct queued_free *entry, void *context) {
    return entry->record.owner == context;
}

void memory_stream_synchronised(CUstream stream, bool per_thread) {
    if (!tenant_active())
        return;
    if (memory_frees_are_queued())
        release_queued(is_of_stream, &(struct synchronised){stream, per_thread});
    memory_settle_shrinking();
}

void memory_context_synchronised(CUcontext context) {
    if (!tenant_active())
        return;
    if (memory_frees_are_queued())
        release_queued(is_of_context, context);
    memory_settle_shrinking();
}

/* Once its stream is destroyed nobody can see when a queued free is over, so it is waited for before. */
void memory_stream_ends(CUstream stream) {
    if (!tenant_active() || !memory_frees_are_queued() || !is_queued_in(stream) ||
        memory_stream_captures(stream, false))
        return;
    if (real.cuStreamSynchronize(stream) == CUDA_SUCCESS)
        release_queued(is_of_handle, stream);
}

/* Where that could not be: what is left is released at the end of the context. */
void memory_stream_destroyed(CUstream stream) {
    if (!tenant_active() || !memory_frees_are_queued())
        return;
    memory_lock_take(&queue_lock);
    for (struct queued_free *entry = queue; entry; entry = entry->next)
        if (entry->stream == stream)
            entry->stream = MEMORY_NO_STREAM;
    memory_lock_give(&queue_lock);
}

void memory_frees_reown(const void *owner, void *heir) {
    memory_lock_take(&queue_lock);
    for (struct queued_free *entry = queue; entry; entry = entry->next)
        if (entry->record.owner == owner) {
            entry->record.owner = heir;
            entry->stream = MEMORY_NO_STREAM; /* it may go with its context at any moment: nobody may ask it */
        }
    memory_lock_give(&queue_lock);
}

void memory_frees_forget(void *owner) {
    if (memory_frees_are_queued())
        release_queued(is_of_context, owner);
}

/* A stream whose work is over is synchronised, which then waits for nothing. */
static bool is_over(const struct queued_free *entry) {
    CUstream stream = entry->stream;
    if (stream == MEMORY_NO_STREAM || memory_stream_captures(stream, entry->per_thread))
        return false;
    if (entry->per_thread)
        return real.cuStreamQuery_ptsz(stream) == CUDA_SUCCESS && real.cuStreamSynchronize_ptsz(stream) == CUDA_SUCCESS;
    return real.cuStreamQuery(stream) == CUDA_SUCCESS && real.cuStreamSynchronize(stream) == CUDA_SUCCESS;
}

static bool is_on(const struct queued_free *entry, void *gpu) {
    return entry->record.gpu == ((struct memory_gpu *)gpu)->device;
}

void memory_queued_settle(struct memory_gpu *gpu) {
    if (!memory_frees_are_queued())
        return;
    struct queued_free *next, *entry = take_queued(is_on, gpu);
    for (; entry; entry = next) {
        next = entry->next;
        if (is_over(entry)) {
            release(entry);
            continue;
        }
        memory_lock_take(&queue_lock);
        entry->next = queue;
        queue = entry;
        memory_lock_give(&queue_lock);
    }
}
