/* Streams as pacing sees them: markers in the order of the stream, and what they say about its executions. */
#ifndef GPUSLICE_SHIM_PACING_STREAM_H
#define GPUSLICE_SHIM_PACING_STREAM_H

#include "memory/lock.h"
#include "pacing/pacing.h"

#define PACING_MARKERS 32u
#define PACING_EVENTS 64u
#define PACING_INTERVALS 256u
/* Taken for work that was never measured, so that only a few of a kind are in flight before the first one is. */
#define PACING_UNKNOWN_NS UINT64_C(1000000)

/* A timing event that was recorded into a stream. */
struct pacing_marker {
    CUevent event;
    uint64_t recorded_ns;  /* host time right before it was recorded: it executes no sooner */
    uint64_t predicted_ns; /* of the work between the marker before and this one */
    uint64_t sample;       /* the key of the one launch in between; 0: several, or none */
    bool starts;           /* what lies before it is no GPU time */
};

struct pacing_context {
    CUcontext handle;
    struct pacing_gpu *gpu;
    struct memory_lock lock; /* over the events */
    CUevent events[PACING_EVENTS];
    unsigned event_count;
    /* The clock: events are measured against `base`, which lies at base_ns of CLOCK_MONOTONIC. Under gpu->lock. */
    CUevent base;
    double base_ns;
    struct pacing_context *next;
};

struct pacing_stream {
    _Alignas(GPUSLICE_CACHE_LINE) struct pacing_lane lane; /* first: a lane is its stream */
    uintptr_t handle;
    const void *thread; /* whose per-thread stream it is, or NULL */
    struct pacing_context *context;

    struct memory_lock lock; /* over what follows */
    bool open;               /* counted as in flight */
    bool needs_start;        /* the next launch follows a break */
    bool gone;               /* destroyed by the program: forgotten when its markers are done */
    bool unlimited;          /* the last launch that asked found no limit at all */
    bool overlapping;        /* has programmatic launches: no markers between them */
    uint64_t carried;        /* as lane.unmarked: taken from there, but no marker could be recorded */
    uint64_t last_end_ns;    /* GPU time of the last marker that is done */
    uint64_t known_until_ns; /* until here it is known when it executed */
    uint64_t until_ns;       /* forecast of its end */
    uint64_t marked_at_ns;   /* host time of the last marker */
    unsigned first, count;
    struct pacing_marker markers[PACING_MARKERS];
    struct pacing_stream *next;
};

struct pacing_interval {
    uint64_t from_ns, until_ns;
};

/* One GPU of which this process has a share. Lock order: gpu, stream, context. */
struct pacing_gpu {
    struct tenant_gpu *tenant;
    struct memory_lock lock;
    struct pacing_context *contexts;
    struct pacing_stream *streams;
    unsigned interval_count;
    struct pacing_interval intervals[PACING_INTERVALS]; /* executed, not yet published */
    _Atomic uint32_t open_count;                        /* streams in flight */
    _Atomic uint64_t open_since_ns;                     /* when it last went up from 0 */
    _Atomic uint64_t until_ns;                          /* forecast: the latest of its streams */
    _Atomic uint64_t swept_at_ns;
    _Atomic bool unlimited;            /* all streams in flight are: nobody waits to hear what executed */
    _Atomic uint64_t known_until_ns;   /* what executed until then is published */
    _Atomic uint64_t running_since_ns; /* what executes longest of all that is marked, began then; 0: nothing does */
};

/* --- pacing/stream.c: registry --- */

struct pacing_gpu *pacing_gpu_of(const struct tenant_gpu *tenant);
/* The stream that the handle means, made known if it was not; NULL: no share, no memory. */
struct pacing_stream *pacing_stream_find(uintptr_t handle);
/* The same, but NULL where nothing was launched into it yet. */
struct pacing_stream *pacing_stream_known(uintptr_t handle);
/* Whether the calling thread can record into it, `current` being its context. PACING_ANY_CONTEXT: it is the shim's own
 * thread, and makes the stream's context current. */
bool pacing_stream_reachable(const struct pacing_stream *stream, CUcontext current);
#define PACING_ANY_CONTEXT ((CUcontext) - 1)
/* Makes the context current if it is not; leave takes what enter returned. */
bool pacing_context_enter(CUcontext context);
void pacing_context_leave(bool entered);
/* At the start, and after fork(), when nothing of the parent's is there. */
void pacing_streams_forget(void);

/* --- pacing/clock.c --- */

/* NULL: none can be had now. */
CUevent pacing_event_take(struct pacing_context *context);
void pacing_event_give(struct pacing_context *context, CUevent event);
/* When a marker that is done executed, on CLOCK_MONOTONIC; within [recorded_ns, now_ns]. Takes the event. */
uint64_t pacing_event_time(struct pacing_context *context, const struct pacing_marker *marker, uint64_t now_ns);

/* --- pacing/marker.c; stream->lock is held --- */

/* Records a marker for all that is unmarked. Needs the stream to be reachable, and not to be capturing. */
void pacing_marker_record(struct pacing_stream *stream, bool starts);
/* Looks which markers are done, and adds what executed to the GPU's intervals (gpu->lock is held too). */
void pacing_marker_resolve(struct pacing_stream *stream, uint64_t now_ns);
/* Forgets its markers: their context is broken or gone. */
void pacing_marker_drop(struct pacing_stream *stream, uint64_t now_ns);
/* What no marker stands behind: as lane.unmarked. */
uint64_t pacing_unmarked(const struct pacing_stream *stream);
void pacing_forecast(struct pacing_stream *stream, uint64_t now_ns);

/* --- pacing/account.c --- */

void pacing_interval_add(struct pacing_gpu *gpu, uint64_t from_ns, uint64_t until_ns);
/* Looks at all streams in flight and charges what executed. `block`: wait for another thread's look to end.
 * `current` as above: unmarked tails of its streams get their marker. */
void pacing_sweep(struct pacing_gpu *gpu, CUcontext current, bool block);
void pacing_open(struct pacing_stream *stream, uint64_t now_ns);
void pacing_close(struct pacing_stream *stream);

/* --- pacing/gate.c --- */

/* Waits until the share may launch into the stream. Returns the run word it went by. */
uint32_t pacing_gate(struct pacing_stream *stream);
/* Rings if the arbiter wants to be told of this. */
void pacing_ring(struct pacing_gpu *gpu, enum gpuslice_doorbell reason);

/* --- pacing/watch.c --- */

/* Makes sure that somebody looks when the program's threads do not. */
void pacing_watch(void);
void pacing_watch_forget(void);
extern _Atomic bool pacing_stopping; /* the process exits: nobody touches the driver any more */

/* --- pacing/capture.c --- */

bool pacing_nobody_captures(void);
/* Asks the driver; needs the relaxed mode. */
bool pacing_is_capturing(uintptr_t handle);
void pacing_capture_forget(void);

/* The shim's own calls must not disturb another stream's capture. */
struct pacing_relaxed {
    CUstreamCaptureMode mode;
};
static inline struct pacing_relaxed pacing_relax(void) {
    struct pacing_relaxed relaxed = {CU_STREAM_CAPTURE_MODE_RELAXED};
    real.cuThreadExchangeStreamCaptureMode(&relaxed.mode);
    return relaxed;
}
static inline void pacing_unrelax(struct pacing_relaxed relaxed) {
    real.cuThreadExchangeStreamCaptureMode(&relaxed.mode);
}

#endif
