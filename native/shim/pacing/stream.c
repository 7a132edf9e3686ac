/* Which streams and contexts there are. Their memory is never given back, only used again: a thread may look at a
 * stream that another one destroys. */
#include <stdlib.h>
#include <string.h>

#include "pacing/stream.h"

static struct pacing_gpu gpus[TENANT_GPUS_MAX]; /* in the order of tenant.gpus; zero pages until used */

_Thread_local struct pacing_recent pacing_recent[PACING_RECENT] __attribute__((visibility("hidden")));
_Atomic uint32_t pacing_epoch = 1;

struct pacing_gpu *pacing_gpu_of(const struct tenant_gpu *share) {
    return &gpus[share - tenant.gpus];
}

void pacing_streams_forget(void) {
    for (unsigned i = 0; i < tenant.gpu_count; i++) {
        memset(&gpus[i], 0, sizeof(gpus[i])); /* what it pointed to is lost, with the parent's contexts */
        gpus[i].tenant = &tenant.gpus[i];
    }
    atomic_fetch_add_explicit(&pacing_epoch, 1, memory_order_relaxed);
}

static struct pacing_context *find_context(struct pacing_gpu *gpu, CUcontext handle) {
    struct pacing_context *spare = NULL;
    for (struct pacing_context *context = gpu->contexts; context; context = context->next) {
        if (context->handle == handle)
            return context;
        if (!context->handle)
            spare = context;
    }
    if (!spare) {
        spare = calloc(1, sizeof(*spare));
        if (!spare)
            return NULL;
        spare->gpu = gpu;
        spare->next = gpu->contexts;
        gpu->contexts = spare;
    }
    spare->handle = handle;
    return spare;
}

static const void *this_thread(uintptr_t handle) {
    return handle == (uintptr_t)CU_STREAM_PER_THREAD ? pacing_recent : NULL;
}

static struct pacing_stream *find_stream(struct pacing_gpu *gpu, CUcontext context, uintptr_t handle) {
    for (struct pacing_stream *stream = gpu->streams; stream; stream = stream->next)
        if (stream->handle == handle && !stream->gone && stream->context->handle == context &&
            stream->thread == this_thread(handle))
            return stream;
    return NULL;
}

static struct pacing_stream *spare_stream(struct pacing_gpu *gpu) {
    struct pacing_stream *stream = gpu->streams, *next = gpu->streams;
    while (stream && stream->handle)
        stream = stream->next;
    if (stream) {
        next = stream->next;
    } else {
        stream = aligned_alloc(GPUSLICE_CACHE_LINE, sizeof(*stream));
        if (!stream)
            return NULL;
        gpu->streams = stream;
    }
    memset(stream, 0, sizeof(*stream));
    stream->lane.grant = gpu->tenant->share.grant;
    stream->next = next;
    return stream;
}

static struct pacing_stream *add_stream(struct pacing_gpu *gpu, CUcontext handle, uintptr_t stream_handle) {
    struct pacing_context *context = find_context(gpu, handle);
    struct pacing_stream *stream = context ? spare_stream(gpu) : NULL;
    if (!stream)
        return NULL;
    stream->context = context;
    stream->thread = this_thread(stream_handle);
    stream->handle = stream_handle;
    stream->needs_start = true;
    return stream;
}

/* The context a stream handle belongs to. A graph may be launched into a stream of another context than the current
 * one; default streams are the current one's, and so is a stream whose context the driver does not tell (a green
 * one's).
 */
static bool context_of(uintptr_t handle, CUcontext *ret_context) {
    if (handle > (uintptr_t)CU_STREAM_PER_THREAD &&
        real.cuStreamGetCtx((CUstream)handle, ret_context) == CUDA_SUCCESS && *ret_context)
        return true;
    return real.cuCtxGetCurrent(ret_context) == CUDA_SUCCESS;
}

static struct tenant_gpu *share_of(CUcontext context) {
    bool other = pacing_context_enter(context);
    struct tenant_gpu *share = tenant_current();
    pacing_context_leave(other);
    return share;
}

bool pacing_context_enter(CUcontext context) {
    CUcontext current;
    if (real.cuCtxGetCurrent(&current) == CUDA_SUCCESS && current == context)
        return false;
    return real.cuCtxPushCurrent_v2(context) == CUDA_SUCCESS;
}

void pacing_context_leave(bool entered) {
    CUcontext context;
    if (entered)
        real.cuCtxPopCurrent_v2(&context);
}

static struct pacing_stream *look_up(uintptr_t handle, bool add) {
    CUcontext context;
    struct pacing_lane *lane = pacing_lane_of(handle);
    if (lane)
        return (struct pacing_stream *)lane;
    /* Before the lookup: a stream that is destroyed meanwhile is not remembered as alive. */
    uint32_t epoch = atomic_load_explicit(&pacing_epoch, memory_order_acquire);
    struct tenant_gpu *share = context_of(handle, &context) ? share_of(context) : NULL;
    if (!share)
        return NULL;
    struct pacing_gpu *gpu = pacing_gpu_of(share);
    memory_lock_take(&gpu->lock);
    struct pacing_stream *stream = find_stream(gpu, context, handle);
    if (!stream && add)
        stream = add_stream(gpu, context, handle);
    memory_lock_give(&gpu->lock);
    if (stream && pacing_nobody_captures())
        *pacing_recent_of(handle) = (struct pacing_recent){handle, context, &stream->lane, epoch};
    return stream;
}

struct pacing_stream *pacing_stream_find(uintptr_t handle) {
    return look_up(handle, true);
}

struct pacing_stream *pacing_stream_known(uintptr_t handle) {
    return look_up(handle, false);
}

bool pacing_stream_reachable(const struct pacing_stream *stream, CUcontext current) {
    if (stream->thread && stream->thread != pacing_recent)
        return false;
    if (current == PACING_ANY_CONTEXT)
        return real.cuCtxSetCurrent(stream->context->handle) == CUDA_SUCCESS;
    return stream->context->handle == current;
}
