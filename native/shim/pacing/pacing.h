/* GPU time, seen from the hooks: every call that puts work on the GPU does
 *
 *     struct pacing_work work;
 *     pacing_begin(&work, stream, PACING_LEGACY, key);     may wait until the share may launch
 *     CUresult result = real.…;
 *     return pacing_end(&work, result);
 *
 * Most launches go the fast way: the stream is known, the run word is what it was, and what was launched since the
 * last marker is little. The rest, and everything that is slow, is pacing_begin_slow() and pacing_end_slow().
 */
#ifndef GPUSLICE_SHIM_PACING_H
#define GPUSLICE_SHIM_PACING_H

#include "pacing/cost.h"
#include "tenant.h"

/* Markers are sparse: one for so much predicted work, and one for so many launches. Where there is no limit nobody
 * waits to hear what executed, and each costs the GPU a microsecond. */
#define PACING_MARK_NS UINT64_C(500000)
#define PACING_MARK_UNLIMITED_NS UINT64_C(4000000)
#define PACING_MARK_LAUNCHES 64u

/* What a stream handle of 0 means, and with it whether a thread has its own. */
enum pacing_default { PACING_LEGACY, PACING_PER_THREAD };

struct pacing_stream;
struct pacing_gpu;

/* What the fast way reads and writes of a stream, on one line. */
struct pacing_lane {
    _Atomic uint64_t pass;     /* PACING_OPEN | run word under which launches may go unasked; 0: ask */
    _Atomic uint64_t unmarked; /* launched since the last marker: launches << 48 | predicted ns */
    _Atomic uint64_t last_key; /* what was launched last */
    _Atomic uint64_t mark_ns;  /* PACING_MARK_NS or PACING_MARK_UNLIMITED_NS */
    const struct gpuslice_grant *grant;
};
#define PACING_OPEN (UINT64_C(1) << 32)
#define PACING_ONE_LAUNCH (UINT64_C(1) << 48)
#define PACING_NS_MASK (PACING_ONE_LAUNCH - 1)

/* A piece of work on its way into a stream. */
struct pacing_work {
    struct pacing_lane *lane; /* NULL: not paced */
    uint64_t key;
    uint64_t predicted_ns;
    uint32_t word; /* slow: the run word it goes by */
    bool slow;
    bool overlaps; /* programmatic launch: may start before its predecessor ends, so no marker goes between */
};

/* Grows when a stream or a context goes, and when a capture begins or ends: what threads remember is void. */
extern _Atomic uint32_t pacing_epoch;

/* The streams this thread launched into last. */
struct pacing_recent {
    uintptr_t handle; /* never 0 for a stream: see pacing_handle() */
    CUcontext context;
    struct pacing_lane *lane;
    uint32_t epoch;
};
#define PACING_RECENT 4u
extern _Thread_local struct pacing_recent pacing_recent[PACING_RECENT] __attribute__((visibility("hidden")));

static inline uintptr_t pacing_handle(CUstream stream, enum pacing_default meaning) {
    uintptr_t handle = (uintptr_t)stream;
    if (handle)
        return handle;
    return (uintptr_t)(meaning == PACING_PER_THREAD ? CU_STREAM_PER_THREAD : CU_STREAM_LEGACY);
}

static inline struct pacing_recent *pacing_recent_of(uintptr_t handle) {
    return &pacing_recent[(handle >> 4 ^ handle >> 10 ^ handle) & (PACING_RECENT - 1)];
}

/* The lane that this thread remembers for the stream, or NULL. A default stream is another one in every context. */
static inline struct pacing_lane *pacing_lane_of(uintptr_t handle) {
    const struct pacing_recent *recent = pacing_recent_of(handle);
    if (recent->handle != handle || recent->epoch != atomic_load_explicit(&pacing_epoch, memory_order_relaxed))
        return NULL;
    if (handle <= (uintptr_t)CU_STREAM_PER_THREAD) {
        CUcontext context;
        if (real.cuCtxGetCurrent(&context) != CUDA_SUCCESS || context != recent->context)
            return NULL;
    }
    return recent->lane;
}

void pacing_begin_slow(struct pacing_work *work, CUstream stream, enum pacing_default meaning);
void pacing_end_slow(struct pacing_work *work, bool launched);

static inline bool pacing_begin_fast(struct pacing_work *work, uintptr_t handle) {
    struct pacing_lane *lane = pacing_lane_of(handle);
    if (!lane || !pacing_cost_known(work->key, &work->predicted_ns))
        return false;
    uint32_t word = atomic_load_explicit(&lane->grant->run_word, memory_order_relaxed);
    uint64_t unmarked = atomic_load_explicit(&lane->unmarked, memory_order_relaxed);
    if (atomic_load_explicit(&lane->pass, memory_order_relaxed) != (PACING_OPEN | word) ||
        (unmarked & PACING_NS_MASK) + work->predicted_ns > atomic_load_explicit(&lane->mark_ns, memory_order_relaxed) ||
        unmarked >= PACING_MARK_LAUNCHES * PACING_ONE_LAUNCH)
        return false;
    work->lane = lane;
    return true;
}

static inline void pacing_begin(struct pacing_work *work, CUstream stream, enum pacing_default meaning, uint64_t key) {
    *work = (struct pacing_work){.key = key};
    if (!tenant_active() || pacing_begin_fast(work, pacing_handle(stream, meaning)))
        return;
    work->slow = true;
    pacing_begin_slow(work, stream, meaning);
}

/* As pacing_begin, for a launch that overlaps its predecessor. */
static inline void pacing_begin_overlapping(struct pacing_work *work, CUstream stream, enum pacing_default meaning,
                                            uint64_t key) {
    *work = (struct pacing_work){.key = key, .slow = true, .overlaps = true};
    if (tenant_active())
        pacing_begin_slow(work, stream, meaning);
}

static inline CUresult pacing_end(struct pacing_work *work, CUresult result) {
    if (!work->lane)
        return result;
    if (work->slow)
        pacing_end_slow(work, result == CUDA_SUCCESS);
    else if (result == CUDA_SUCCESS) {
        atomic_store_explicit(&work->lane->last_key, work->key, memory_order_relaxed);
        /* Counted after the launch: a marker that was recorded after seeing the count stands behind the launch. */
        atomic_fetch_add_explicit(&work->lane->unmarked, PACING_ONE_LAUNCH + work->predicted_ns, memory_order_release);
    }
    return result;
}

/* What follows on the stream is no GPU time (a host copy, a wait): ends the account of what came before. On the
 * legacy stream: of all streams of the context, which wait for it. */
void pacing_break(CUstream stream, enum pacing_default meaning);
/* The program is about to wait for the stream, or asks about it: marks what is unmarked, so that its end is known
 * exactly. Of all streams of the current context: pacing_mark_context(). */
void pacing_mark(CUstream stream, enum pacing_default meaning);
void pacing_mark_context(void);
/* The program has waited: what ended meanwhile is charged. */
void pacing_settle(void);

/* The stream is about to be destroyed. */
void pacing_stream_ends(CUstream stream);
/* The context is about to be destroyed, perhaps: nobody looks at its streams until pacing_context_ended() says
 * whether it was. Takes the GPU's lock and returns it; NULL: nothing was launched in the context. */
struct pacing_gpu *pacing_context_ending(CUcontext context);
void pacing_context_ended(struct pacing_gpu *gpu, CUcontext context, bool ended);
/* A capture is about to begin; it did not; it has ended. While there is one nobody marks a stream that captures. */
void pacing_capture_begins(void);
void pacing_capture_ended(void);

#endif
