/* The slow way of a launch, and what else a program does with its streams. */
#include "pacing/pacing.h"

#include "memory/memory.h"
#include "pacing/stream.h"

#define SETTLE_AGAIN_NS UINT64_C(200000)
#define SETTLE_UNLIMITED_NS UINT64_C(1000000)

static struct pacing_stream *stream_of(const struct pacing_work *work) {
    return (struct pacing_stream *)work->lane;
}

/* What must stand in the stream before the launch, so that its execution is known from its beginning. */
static void mark_before(struct pacing_stream *stream, const struct pacing_work *work) {
    if (!stream->open)
        pacing_open(stream, gpuslice_now_ns());
    stream->overlapping |= work->overlaps;
    if (stream->needs_start) {
        if (pacing_unmarked(stream) > 0) /* launched while the stream was being closed */
            pacing_marker_record(stream, false);
        pacing_marker_record(stream, true);
        stream->needs_start = false;
    } else if (pacing_unmarked(stream) > 0 && !work->overlaps) {
        pacing_marker_record(stream, false);
    }
}

void pacing_begin_slow(struct pacing_work *work, CUstream handle, enum pacing_default meaning) {
    struct pacing_stream *stream = NULL;
    if (!atomic_load_explicit(&pacing_stopping, memory_order_relaxed))
        stream = pacing_stream_find(pacing_handle(handle, meaning));
    if (!stream)
        return;
    struct pacing_relaxed relaxed = pacing_relax();
    if (!pacing_is_capturing(stream->handle)) { /* what is captured executes later, as part of a graph */
        if (!pacing_cost_known(work->key, &work->predicted_ns))
            work->predicted_ns = PACING_UNKNOWN_NS;
        work->word = pacing_gate(stream);
        memory_lock_take(&stream->lock);
        mark_before(stream, work);
        memory_lock_give(&stream->lock);
        work->lane = &stream->lane;
    }
    pacing_unrelax(relaxed);
}

static void announce(struct pacing_stream *stream) {
    struct pacing_gpu *gpu = stream->context->gpu;
    struct gpuslice_slot *slot = gpuslice_slot_own(&gpu->tenant->share);
    if (stream->until_ns <= atomic_load_explicit(&gpu->until_ns, memory_order_relaxed))
        return;
    atomic_store_explicit(&gpu->until_ns, stream->until_ns, memory_order_relaxed);
    if (slot)
        atomic_store_explicit(&slot->in_flight_until_ns, stream->until_ns, memory_order_relaxed);
}

void pacing_end_slow(struct pacing_work *work, bool launched) {
    struct pacing_stream *stream = stream_of(work);
    uint64_t known_ns;
    bool known = pacing_cost_known(work->key, &known_ns);
    if (launched && !known)
        memory_overhead_touch_current(); /* the driver may have loaded its code just now */
    memory_lock_take(&stream->lock);
    if (launched) {
        struct pacing_relaxed relaxed = pacing_relax();
        stream->carried += PACING_ONE_LAUNCH + work->predicted_ns;
        atomic_store_explicit(&stream->lane.last_key, work->key, memory_order_relaxed);
        /* Between overlapping launches a marker would part them; what was never measured is worth it once. */
        if (!stream->overlapping || !known)
            pacing_marker_record(stream, false);
        pacing_unrelax(relaxed);
        pacing_forecast(stream, gpuslice_now_ns());
        announce(stream);
        atomic_store_explicit(&stream->lane.pass, PACING_OPEN | work->word, memory_order_relaxed);
    }
    memory_lock_give(&stream->lock);
}

/* The stream the handle means, locked, if something was launched into it that is not done; NULL otherwise. */
static struct pacing_stream *take_open(uintptr_t handle) {
    if (!tenant_active() || atomic_load_explicit(&pacing_stopping, memory_order_relaxed))
        return NULL;
    struct pacing_stream *stream = pacing_stream_known(handle);
    if (!stream)
        return NULL;
    memory_lock_take(&stream->lock);
    if (stream->open)
        return stream;
    memory_lock_give(&stream->lock);
    return NULL;
}

static void mark_locked(struct pacing_stream *stream, bool breaks) {
    if (pacing_unmarked(stream) > 0) {
        struct pacing_relaxed relaxed = pacing_relax();
        if (!pacing_is_capturing(stream->handle))
            pacing_marker_record(stream, false);
        pacing_unrelax(relaxed);
    }
    if (!breaks)
        return;
    stream->needs_start = true;
    atomic_store_explicit(&stream->lane.pass, 0, memory_order_relaxed);
}

static void mark_context(struct pacing_gpu *gpu, CUcontext context, bool breaks) {
    for (struct pacing_stream *stream = gpu->streams; stream; stream = stream->next) {
        if (!stream->handle || !pacing_stream_reachable(stream, context))
            continue;
        memory_lock_take(&stream->lock);
        if (stream->open && !stream->gone && (breaks || !stream->unlimited))
            mark_locked(stream, breaks);
        memory_lock_give(&stream->lock);
    }
}

/* The GPU of the current context, if it has work of this process in flight; NULL otherwise. */
static struct pacing_gpu *busy_gpu(CUcontext *ret_context) {
    if (atomic_load_explicit(&pacing_stopping, memory_order_relaxed))
        return NULL;
    struct tenant_gpu *share = tenant_current();
    struct pacing_gpu *gpu = share ? pacing_gpu_of(share) : NULL;
    if (!gpu || atomic_load_explicit(&gpu->open_count, memory_order_relaxed) == 0)
        return NULL;
    return real.cuCtxGetCurrent(ret_context) == CUDA_SUCCESS ? gpu : NULL;
}

static void mark_all(bool breaks) {
    CUcontext context;
    struct pacing_gpu *gpu = busy_gpu(&context);
    if (!gpu)
        return;
    memory_lock_take(&gpu->lock);
    mark_context(gpu, context, breaks);
    memory_lock_give(&gpu->lock);
}

void pacing_break(CUstream handle, enum pacing_default meaning) {
    if (pacing_handle(handle, meaning) == (uintptr_t)CU_STREAM_LEGACY) {
        mark_all(true);
        return;
    }
    struct pacing_stream *stream = take_open(pacing_handle(handle, meaning));
    if (!stream)
        return;
    mark_locked(stream, true);
    memory_lock_give(&stream->lock);
}

void pacing_mark(CUstream handle, enum pacing_default meaning) {
    struct pacing_stream *stream = take_open(pacing_handle(handle, meaning));
    if (!stream)
        return;
    if (!stream->unlimited) /* otherwise predictions and the tails are exact enough, and cost nothing here */
        mark_locked(stream, false);
    memory_lock_give(&stream->lock);
}

void pacing_mark_context(void) {
    mark_all(false);
}

void pacing_settle(void) {
    CUcontext context;
    struct pacing_gpu *gpu = busy_gpu(&context);
    if (!gpu)
        return;
    bool unlimited = atomic_load_explicit(&gpu->unlimited, memory_order_relaxed);
    uint64_t since_ns = gpuslice_now_ns() - atomic_load_explicit(&gpu->swept_at_ns, memory_order_relaxed);
    if (since_ns < (unlimited ? SETTLE_UNLIMITED_NS : SETTLE_AGAIN_NS))
        return;
    struct pacing_relaxed relaxed = pacing_relax();
    pacing_sweep(gpu, context, false);
    pacing_unrelax(relaxed);
}

/* A program may destroy a stream of a context that is not current; an event belongs to the current one. */
static void end_stream(struct pacing_stream *stream) {
    CUcontext popped;
    bool pushed = real.cuCtxPushCurrent_v2(stream->context->handle) == CUDA_SUCCESS;
    memory_lock_take(&stream->lock);
    if (pushed && !stream->open && pacing_unmarked(stream) > 0) /* launched while the stream was being closed */
        pacing_open(stream, gpuslice_now_ns());
    if (pushed && stream->open)
        mark_locked(stream, true);
    stream->gone = true; /* nothing is recorded into it from now on */
    memory_lock_give(&stream->lock);
    if (pushed)
        real.cuCtxPopCurrent_v2(&popped);
}

void pacing_stream_ends(CUstream handle) {
    if (!tenant_active() || (uintptr_t)handle <= (uintptr_t)CU_STREAM_PER_THREAD)
        return;
    for (unsigned i = 0; i < tenant.gpu_count; i++) {
        struct pacing_gpu *gpu = pacing_gpu_of(&tenant.gpus[i]);
        memory_lock_take(&gpu->lock);
        for (struct pacing_stream *stream = gpu->streams; stream; stream = stream->next)
            if (stream->handle == (uintptr_t)handle && !stream->gone)
                end_stream(stream);
        memory_lock_give(&gpu->lock);
    }
    atomic_fetch_add_explicit(&pacing_epoch, 1, memory_order_relaxed);
}

/* --- contexts --------------------------------------------------------------------------------------------------- */

/* The GPU that has streams of the context, or NULL. */
static struct pacing_gpu *gpu_with(CUcontext handle) {
    for (unsigned i = 0; i < tenant.gpu_count; i++) {
        struct pacing_gpu *gpu = pacing_gpu_of(&tenant.gpus[i]);
        for (struct pacing_context *context = gpu->contexts; context; context = context->next)
            if (context->handle == handle)
                return gpu;
    }
    return NULL;
}

struct pacing_gpu *pacing_context_ending(CUcontext handle) {
    struct pacing_gpu *gpu = handle && tenant_active() ? gpu_with(handle) : NULL;
    if (!gpu)
        return NULL;
    struct pacing_relaxed relaxed = pacing_relax();
    pacing_sweep(gpu, handle, true);
    pacing_unrelax(relaxed);
    memory_lock_take(&gpu->lock);
    return gpu;
}

static void forget_context(struct pacing_gpu *gpu, CUcontext handle) {
    uint64_t now_ns = gpuslice_now_ns();
    for (struct pacing_stream *stream = gpu->streams; stream; stream = stream->next) {
        if (!stream->handle || stream->context->handle != handle)
            continue;
        stream->count = 0; /* its events went with the context */
        if (stream->open)
            pacing_close(stream);
        stream->handle = 0;
        pacing_marker_drop(stream, now_ns);
    }
    for (struct pacing_context *context = gpu->contexts; context; context = context->next)
        if (context->handle == handle) {
            context->handle = NULL;
            context->event_count = 0;
            context->base = NULL;
        }
    atomic_fetch_add_explicit(&pacing_epoch, 1, memory_order_relaxed);
}

void pacing_context_ended(struct pacing_gpu *gpu, CUcontext handle, bool ended) {
    if (!gpu)
        return;
    if (ended)
        forget_context(gpu, handle);
    memory_lock_give(&gpu->lock);
}

/* --- start ------------------------------------------------------------------------------------------------------ */

static void forget_parent(void) {
    pacing_streams_forget();
    pacing_watch_forget();
    pacing_capture_forget();
}

/* See tenant.c: pthread_atfork is not in libc before glibc 2.34. */
extern int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *dso);
extern void *__dso_handle __attribute__((visibility("hidden")));

void pacing_start(void) {
    pacing_streams_forget();
    __register_atfork(NULL, NULL, forget_parent, &__dso_handle);
    /* The arbiter does not beat for a share without processes: it must hear that there is one now. */
    for (unsigned i = 0; i < tenant.gpu_count; i++)
        gpuslice_doorbell_ring(&tenant.gpus[i].share);
}
