/* Charging: the union of what the streams of this process executed, published in the order of time. */
#include "pacing/stream.h"

/* A drained stream stays open for a moment: the next launch of a program that waits for each one needs no new
 * start. */
#define CLOSE_AFTER_NS UINT64_C(300000)
/* Launches that the program left without a marker get one after this. */
#define TAIL_AFTER_NS UINT64_C(1000000)

void pacing_interval_add(struct pacing_gpu *gpu, uint64_t from_ns, uint64_t until_ns) {
    if (from_ns >= until_ns)
        return;
    struct pacing_interval *last = &gpu->intervals[gpu->interval_count];
    if (gpu->interval_count > 0 && last[-1].until_ns == from_ns) {
        last[-1].until_ns = until_ns;
        return;
    }
    if (gpu->interval_count == PACING_INTERVALS) { /* out of order rather than not at all */
        gpuslice_busy_add(&gpu->tenant->share, from_ns, until_ns);
        return;
    }
    *last = (struct pacing_interval){from_ns, until_ns};
    gpu->interval_count++;
}

static void sort(struct pacing_interval *intervals, unsigned count) {
    for (unsigned i = 1; i < count; i++) {
        struct pacing_interval moved = intervals[i];
        unsigned at = i;
        for (; at > 0 && intervals[at - 1].from_ns > moved.from_ns; at--)
            intervals[at] = intervals[at - 1];
        intervals[at] = moved;
    }
}

/* Charges what lies before the horizon: beyond it some stream may still turn out to have executed earlier than
 * another's interval. */
static void publish(struct pacing_gpu *gpu, uint64_t horizon_ns) {
    unsigned kept = 0;
    sort(gpu->intervals, gpu->interval_count);
    if (gpu->interval_count > PACING_INTERVALS / 2)
        horizon_ns = UINT64_MAX;
    for (unsigned i = 0; i < gpu->interval_count; i++) {
        struct pacing_interval *interval = &gpu->intervals[i];
        uint64_t until_ns = interval->until_ns < horizon_ns ? interval->until_ns : horizon_ns;
        if (interval->from_ns < until_ns)
            gpuslice_busy_add(&gpu->tenant->share, interval->from_ns, until_ns);
        if (interval->until_ns > horizon_ns)
            gpu->intervals[kept++] = (struct pacing_interval){
                interval->from_ns > horizon_ns ? interval->from_ns : horizon_ns, interval->until_ns};
    }
    gpu->interval_count = kept;
}

void pacing_open(struct pacing_stream *stream, uint64_t now_ns) {
    struct pacing_gpu *gpu = stream->context->gpu;
    struct gpuslice_slot *slot = gpuslice_slot_own(&gpu->tenant->share);
    stream->open = true;
    if (atomic_fetch_add_explicit(&gpu->open_count, 1, memory_order_relaxed) == 0)
        atomic_store_explicit(&gpu->open_since_ns, now_ns, memory_order_relaxed);
    if (slot) {
        atomic_store_explicit(&slot->in_flight_until_ns, stream->until_ns, memory_order_relaxed);
        /* Sequentially consistent: see pacing_ring(). */
        atomic_fetch_add_explicit(&slot->in_flight, 1, memory_order_seq_cst);
    }
    pacing_ring(gpu, GPUSLICE_DOORBELL_WORK);
    pacing_watch();
}

void pacing_close(struct pacing_stream *stream) {
    struct pacing_gpu *gpu = stream->context->gpu;
    struct gpuslice_slot *slot = gpuslice_slot_own(&gpu->tenant->share);
    atomic_store_explicit(&stream->lane.pass, 0, memory_order_relaxed);
    stream->open = false;
    stream->needs_start = true;
    atomic_fetch_sub_explicit(&gpu->open_count, 1, memory_order_relaxed);
    if (slot)
        atomic_fetch_sub_explicit(&slot->in_flight, 1, memory_order_relaxed);
}

/* Another thread's own default stream cannot be marked from here, nor can one that is destroyed: the tail is charged
 * as predicted. */
static void charge_tail(struct pacing_stream *stream) {
    uint64_t unmarked = stream->carried + atomic_exchange_explicit(&stream->lane.unmarked, 0, memory_order_acquire);
    uint64_t from_ns = stream->until_ns - (unmarked & PACING_NS_MASK);
    stream->carried = 0;
    pacing_interval_add(stream->context->gpu, from_ns > stream->last_end_ns ? from_ns : stream->last_end_ns,
                        stream->until_ns);
    stream->last_end_ns = stream->known_until_ns = stream->until_ns;
}

static void mark_tail(struct pacing_stream *stream, CUcontext current, uint64_t now_ns) {
    if (pacing_unmarked(stream) == 0 || stream->count > 0)
        return;
    if (stream->gone) {
        charge_tail(stream);
        return;
    }
    if (now_ns < stream->until_ns && now_ns - stream->marked_at_ns < TAIL_AFTER_NS)
        return;
    if (pacing_stream_reachable(stream, current)) {
        if (pacing_nobody_captures()) /* holds while the GPU is locked: see pacing_capture_begins() */
            pacing_marker_record(stream, false);
    } else if (stream->thread && stream->thread != pacing_recent && now_ns > stream->until_ns) {
        charge_tail(stream);
    }
}

static void look_at(struct pacing_stream *stream, CUcontext current, uint64_t now_ns) {
    pacing_marker_resolve(stream, now_ns);
    pacing_forecast(stream, now_ns);
    mark_tail(stream, current, now_ns);
    bool drained = stream->count == 0 && pacing_unmarked(stream) == 0;
    if (stream->open && drained && (stream->gone || now_ns - stream->marked_at_ns > CLOSE_AFTER_NS))
        pacing_close(stream);
    if (stream->gone && drained)
        stream->handle = 0;
}

/* When what stands first in the stream began to execute, as far as is known; UINT64_MAX: nothing does. */
static uint64_t running_since(const struct pacing_stream *stream) {
    const struct pacing_marker *marker = &stream->markers[stream->first];
    if (stream->count == 0 || marker->starts)
        return UINT64_MAX;
    return marker->recorded_ns > stream->last_end_ns ? marker->recorded_ns : stream->last_end_ns;
}

static void report(struct pacing_gpu *gpu, uint64_t until_ns, uint64_t now_ns) {
    struct gpuslice_slot *slot = gpuslice_slot_own(&gpu->tenant->share);
    atomic_store_explicit(&gpu->until_ns, until_ns, memory_order_relaxed);
    atomic_store_explicit(&gpu->swept_at_ns, now_ns, memory_order_relaxed);
    if (!slot)
        return;
    atomic_store_explicit(&slot->in_flight_until_ns, until_ns, memory_order_relaxed);
    if (until_ns)
        atomic_store_explicit(&slot->last_activity_ns, now_ns, memory_order_relaxed);
}

void pacing_sweep(struct pacing_gpu *gpu, CUcontext current, bool block) {
    if (block)
        memory_lock_take(&gpu->lock);
    else if (!memory_lock_try(&gpu->lock))
        return;
    uint64_t now_ns = gpuslice_now_ns(), horizon_ns = now_ns, until_ns = 0, since_ns = UINT64_MAX;
    bool unlimited = true;
    for (struct pacing_stream *stream = gpu->streams; stream; stream = stream->next) {
        if (!stream->handle || !(stream->open || stream->gone))
            continue;
        bool ours = memory_lock_try(&stream->lock); /* its thread may be in the driver, with a full queue */
        if (ours)
            look_at(stream, current, now_ns);
        if (stream->open) {
            until_ns = stream->until_ns > until_ns ? stream->until_ns : until_ns;
            horizon_ns = stream->known_until_ns < horizon_ns ? stream->known_until_ns : horizon_ns;
            unlimited &= ours && stream->unlimited;
        }
        if (ours && running_since(stream) < since_ns)
            since_ns = running_since(stream);
        if (ours)
            memory_lock_give(&stream->lock);
    }
    publish(gpu, horizon_ns);
    atomic_store_explicit(&gpu->known_until_ns, horizon_ns, memory_order_relaxed);
    atomic_store_explicit(&gpu->running_since_ns, since_ns == UINT64_MAX ? 0 : since_ns, memory_order_relaxed);
    atomic_store_explicit(&gpu->unlimited, unlimited, memory_order_relaxed);
    report(gpu, until_ns, now_ns);
    memory_lock_give(&gpu->lock);
}
