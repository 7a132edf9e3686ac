/* Markers: recording them, and reading out of them when the stream executed.
 *
 * Between two markers lies work that was launched in between. When the first one was done only after the second was
 * recorded, the queue never ran dry, and the whole interval is execution. Otherwise the stream may have been idle in
 * between: then it executed for as long as the work is predicted to take, and certainly from the moment the second
 * marker was recorded until it was done. */
#include "pacing/stream.h"

#define LATE_NS UINT64_C(200000) /* work that outlives its forecast is asked for again after this */

static uint32_t launches_of(uint64_t unmarked) {
    return (uint32_t)(unmarked >> 48);
}

uint64_t pacing_unmarked(const struct pacing_stream *stream) {
    return stream->carried + atomic_load_explicit(&stream->lane.unmarked, memory_order_relaxed);
}

static struct pacing_marker *marker_at(struct pacing_stream *stream, unsigned index) {
    return &stream->markers[(stream->first + index) % PACING_MARKERS];
}

void pacing_marker_drop(struct pacing_stream *stream, uint64_t now_ns) {
    while (stream->count > 0)
        pacing_event_give(stream->context, marker_at(stream, --stream->count)->event);
    stream->carried = 0;
    atomic_store_explicit(&stream->lane.unmarked, 0, memory_order_relaxed);
    stream->known_until_ns = stream->last_end_ns = now_ns;
}

static void count_launches(const struct pacing_stream *stream, uint32_t launches) {
    struct gpuslice_slot *slot = gpuslice_slot_own(&stream->context->gpu->tenant->share);
    if (slot)
        atomic_fetch_add_explicit(&slot->launches, launches, memory_order_relaxed);
}

void pacing_marker_record(struct pacing_stream *stream, bool starts) {
    /* What counts towards the next marker counts towards the next asking, too: begin both again. */
    atomic_store_explicit(&stream->lane.pass, 0, memory_order_relaxed);
    /* Acquire: pairs with the count after the launch; all that is counted stands in the stream. */
    stream->carried += atomic_exchange_explicit(&stream->lane.unmarked, 0, memory_order_acquire);
    uint32_t launches = launches_of(stream->carried);
    CUevent event = stream->count < PACING_MARKERS ? pacing_event_take(stream->context) : NULL;
    if (!event)
        return; /* the next marker stands for this one too */
    uint64_t now_ns = gpuslice_now_ns();
    if (real.cuEventRecord(event, (CUstream)stream->handle) != CUDA_SUCCESS) {
        pacing_event_give(stream->context, event);
        pacing_marker_drop(stream, now_ns);
        return;
    }
    *marker_at(stream, stream->count++) = (struct pacing_marker){
        .event = event,
        .recorded_ns = now_ns,
        .predicted_ns = stream->carried & PACING_NS_MASK,
        .sample = launches == 1 ? atomic_load_explicit(&stream->lane.last_key, memory_order_relaxed) : 0,
        .starts = starts,
    };
    stream->carried = 0;
    stream->marked_at_ns = now_ns;
    count_launches(stream, launches);
}

static uint64_t least(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

static uint64_t most(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

/* How long the stream executed between the marker before and this one, which was done at `end_ns`. */
static uint64_t executed(const struct pacing_stream *stream, const struct pacing_marker *marker, uint64_t end_ns) {
    uint64_t whole_ns = end_ns - least(stream->last_end_ns, end_ns), known_ns;
    uint64_t backlog_ns = end_ns - least(marker->recorded_ns, end_ns);
    if (stream->last_end_ns >= marker->recorded_ns)
        return whole_ns;
    if (marker->sample && !pacing_cost_known(marker->sample, &known_ns))
        return whole_ns;
    return least(whole_ns, most(backlog_ns, marker->predicted_ns));
}

/* One launch between two markers teaches what it costs. */
static void learn(const struct pacing_stream *stream, const struct pacing_marker *marker, uint64_t end_ns) {
    uint64_t whole_ns = end_ns - least(stream->last_end_ns, end_ns);
    uint64_t backlog_ns = end_ns - least(marker->recorded_ns, end_ns);
    if (!marker->sample)
        return;
    if (stream->last_end_ns >= marker->recorded_ns)
        pacing_cost_learn(marker->sample, whole_ns);
    else if (backlog_ns > 0) /* the marker followed the launch at once, the launch perhaps not the marker before it */
        pacing_cost_learn(marker->sample, least(whole_ns, backlog_ns));
    else
        pacing_cost_bound(marker->sample, whole_ns);
}

static void finish(struct pacing_stream *stream, uint64_t now_ns) {
    struct pacing_marker *marker = marker_at(stream, 0);
    uint64_t end_ns = pacing_event_time(stream->context, marker, now_ns);
    if (!marker->starts) {
        uint64_t executed_ns = executed(stream, marker, end_ns);
        /* Not again what was charged while it ran: beyond half a second nobody remembers that it was. */
        pacing_interval_add(stream->context->gpu, most(end_ns - executed_ns, stream->known_until_ns), end_ns);
        learn(stream, marker, end_ns);
    }
    stream->last_end_ns = most(stream->last_end_ns, end_ns);
    stream->known_until_ns = most(stream->known_until_ns, end_ns);
    stream->first = (stream->first + 1) % PACING_MARKERS;
    stream->count--;
}

/* The first marker is not done: what certainly executes is charged while it does, so that nobody waits for the end of
 * a long kernel to hear of it. */
static void charge_running(struct pacing_stream *stream, uint64_t now_ns) {
    const struct pacing_marker *marker = marker_at(stream, 0);
    uint64_t from_ns = most(stream->last_end_ns, marker->recorded_ns);
    bool certain = stream->last_end_ns >= marker->recorded_ns;
    if (marker->starts) {
        stream->known_until_ns = now_ns; /* what it waits for is no GPU time */
    } else if (now_ns > from_ns && (certain || now_ns - from_ns >= marker->predicted_ns)) {
        pacing_interval_add(stream->context->gpu, most(from_ns, stream->known_until_ns), now_ns);
        stream->known_until_ns = now_ns;
    }
}

void pacing_marker_resolve(struct pacing_stream *stream, uint64_t now_ns) {
    while (stream->count > 0) {
        uint64_t before_ns = gpuslice_now_ns();
        CUresult result = real.cuEventQuery(marker_at(stream, 0)->event);
        if (result == CUDA_ERROR_NOT_READY) {
            charge_running(stream, before_ns);
            return;
        }
        if (result != CUDA_SUCCESS) {
            pacing_marker_drop(stream, now_ns);
            return;
        }
        finish(stream, gpuslice_now_ns());
    }
    if (pacing_unmarked(stream) == 0)
        stream->known_until_ns = most(stream->known_until_ns, now_ns);
}

void pacing_forecast(struct pacing_stream *stream, uint64_t now_ns) {
    uint64_t left_ns = pacing_unmarked(stream) & PACING_NS_MASK;
    uint64_t from_ns = most(stream->last_end_ns, stream->needs_start ? now_ns : 0);
    if (stream->count > 0) {
        const struct pacing_marker *first = marker_at(stream, 0);
        from_ns = most(from_ns, first->recorded_ns - first->predicted_ns);
    }
    for (unsigned i = 0; i < stream->count; i++)
        left_ns += marker_at(stream, i)->predicted_ns;
    stream->until_ns = from_ns + left_ns;
    if (stream->until_ns < now_ns)
        stream->until_ns = now_ns + (stream->count > 0 ? LATE_NS : 0);
}
