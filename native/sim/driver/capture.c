/* Which streams capture, into what, and who breaks it. */
#include "capture.h"

#include <stdlib.h>
#include <string.h>

#include "capture_life.h"
#include "event.h"

static struct capture *captures; /* that have begun and not ended */
static _Atomic unsigned capture_count;
static unsigned long long last_id;

struct capture *capture_of(struct stream *stream) {
    if (!atomic_load_explicit(&capture_count, memory_order_acquire))
        return NULL;
    lock_driver();
    struct capture *capture = stream->capture;
    unlock_driver();
    return capture;
}

struct capture *capture_begin(struct stream *stream, CUstreamCaptureMode mode, struct graph *given) {
    struct capture *capture = calloc(1, sizeof *capture);
    if (!capture)
        return NULL;
    *capture = (struct capture){.mode = mode,
                                .thread = pthread_self(),
                                .origin = stream,
                                .members = 1,
                                .graph = given ? given : graph_new(),
                                .into_given_graph = given != NULL};
    if (!capture->graph) {
        free(capture);
        return NULL;
    }
    capture->graph->captured_into = true;
    capture->id = ++last_id;
    capture->next = captures;
    captures = capture;
    stream->capture = capture;
    atomic_fetch_add(&capture_count, 1);
    return capture;
}

bool capture_set_tips(struct stream *stream, struct node *const *nodes, size_t count) {
    struct node **tips = NULL;
    if (count) {
        tips = malloc(count * sizeof *tips);
        if (!tips)
            return false;
        memcpy(tips, nodes, count * sizeof *tips);
    }
    free(stream->tips);
    stream->tips = tips;
    stream->tip_count = count;
    return true;
}

bool capture_add_tips(struct stream *stream, struct node *const *nodes, size_t count) {
    struct node **tips = realloc(stream->tips, (stream->tip_count + count + 1) * sizeof *tips);
    if (!tips)
        return false;
    stream->tips = tips;
    for (size_t i = 0; i < count; i++) {
        bool there = false;
        for (size_t j = 0; j < stream->tip_count && !there; j++)
            there = tips[j] == nodes[i];
        if (!there)
            tips[stream->tip_count++] = nodes[i];
    }
    return true;
}

/* Ends a capture: no stream is in it any more. The graph stays. */
void capture_end(struct capture *capture) {
    for (struct context *context = contexts; context; context = context->next)
        for (struct stream *stream = context->streams; stream; stream = stream->next)
            if (stream->capture == capture) {
                stream->capture = NULL;
                capture_set_tips(stream, NULL, 0);
            }
    for (struct capture **link = &captures; *link; link = &(*link)->next)
        if (*link == capture) {
            *link = capture->next;
            break;
        }
    capture->graph->captured_into = false;
    atomic_fetch_sub(&capture_count, 1);
    free(capture);
}

void capture_abandon(struct stream *stream) {
    lock_driver();
    struct capture *capture = stream->capture;
    struct graph *orphan = NULL;
    if (capture && capture->origin == stream) {
        if (!capture->into_given_graph)
            orphan = capture->graph;
        capture_end(capture);
    } else if (capture) {
        capture->invalid = true;
        capture->members--;
        stream->capture = NULL;
        capture_set_tips(stream, NULL, 0);
    }
    unlock_driver();
    if (orphan)
        graph_delete(orphan);
}

static struct capture *find(unsigned long long id) {
    struct capture *capture = captures;
    while (capture && capture->id != id)
        capture = capture->next;
    return capture;
}

CUresult capture_add(struct stream *stream, struct work *work, struct node **ret_node) {
    lock_driver();
    struct capture *capture = stream->capture;
    CUresult result = !capture           ? CUDA_ERROR_ILLEGAL_STATE
                      : capture->invalid ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED
                                         : CUDA_SUCCESS;
    struct node *node = NULL;
    if (!result)
        result = graph_add(capture->graph, stream->tips, stream->tip_count, work, &node);
    bool kept = !result;
    if (!result && !capture_set_tips(stream, &node, 1))
        result = CUDA_ERROR_OUT_OF_MEMORY;
    unlock_driver();
    if (!kept)
        work_free(work);
    if (!result && ret_node)
        *ret_node = node;
    return result;
}

void capture_point_release(struct capture_point *point) {
    if (point)
        free(point->nodes);
    free(point);
}

CUresult capture_record_event(struct stream *stream, struct event *event) {
    struct capture_point *point = calloc(1, sizeof *point);
    if (!point)
        return CUDA_ERROR_OUT_OF_MEMORY;
    lock_driver();
    struct capture *capture = stream->capture;
    CUresult result = CUDA_SUCCESS;
    if (capture->invalid)
        result = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    point->capture_id = capture->id;
    point->count = stream->tip_count;
    point->nodes = malloc((point->count + 1) * sizeof *point->nodes);
    if (!point->nodes)
        result = CUDA_ERROR_OUT_OF_MEMORY;
    if (!result && point->count)
        memcpy(point->nodes, stream->tips, point->count * sizeof *point->nodes);
    unlock_driver();
    if (result) {
        capture_point_release(point);
        return result;
    }
    pthread_mutex_lock(&event->lock);
    event_forget(event);
    event->captured = point;
    pthread_mutex_unlock(&event->lock);
    return CUDA_SUCCESS;
}

CUresult capture_wait_event(struct stream *stream, struct event *event) {
    lock_driver();
    struct capture *capture = find(event->captured->capture_id);
    CUresult result = CUDA_SUCCESS;
    if (!capture || stream->legacy) {
        result = CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
        if (stream->capture)
            stream->capture->invalid = true;
        if (capture)
            capture->invalid = true;
    } else if (capture->invalid) {
        result = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    } else if (stream->capture && stream->capture != capture) {
        result = CUDA_ERROR_STREAM_CAPTURE_MERGE;
        stream->capture->invalid = capture->invalid = true;
    } else {
        if (!stream->capture)
            capture->members++; /* the stream joins by waiting */
        stream->capture = capture;
        if (!capture_add_tips(stream, event->captured->nodes, event->captured->count))
            result = CUDA_ERROR_OUT_OF_MEMORY;
    }
    unlock_driver();
    return result;
}

CUresult capture_invalidate(struct stream *stream, CUresult error) {
    lock_driver();
    if (stream->capture)
        stream->capture->invalid = true;
    unlock_driver();
    return error;
}

CUresult capture_invalidate_event(struct event *event) {
    lock_driver();
    struct capture *capture = find(event->captured->capture_id);
    if (capture)
        capture->invalid = true;
    unlock_driver();
    return CUDA_ERROR_CAPTURED_EVENT;
}

/* --- what may not be called while something captures ----------------------------------------------------------- */

static _Thread_local CUstreamCaptureMode thread_mode = CU_STREAM_CAPTURE_MODE_GLOBAL;

CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode *mode) {
    CUresult result = require_init();
    if (result)
        return result;
    if (!mode || *mode > CU_STREAM_CAPTURE_MODE_RELAXED)
        return CUDA_ERROR_INVALID_VALUE;
    CUstreamCaptureMode before = thread_mode;
    thread_mode = *mode;
    *mode = before;
    return CUDA_SUCCESS;
}

static bool protects(const struct capture *capture) {
    bool own = pthread_equal(capture->thread, pthread_self());
    if (thread_mode == CU_STREAM_CAPTURE_MODE_RELAXED || capture->mode == CU_STREAM_CAPTURE_MODE_RELAXED)
        return false;
    if (own)
        return true;
    return thread_mode == CU_STREAM_CAPTURE_MODE_GLOBAL && capture->mode == CU_STREAM_CAPTURE_MODE_GLOBAL;
}

CUresult capture_forbids(void) {
    CUresult result = require_init();
    if (result || !atomic_load_explicit(&capture_count, memory_order_acquire))
        return result;
    lock_driver();
    for (struct capture *capture = captures; capture; capture = capture->next)
        if (protects(capture)) {
            capture->invalid = true;
            result = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
        }
    unlock_driver();
    return result;
}

/* A blocking stream of the context captures, so that the legacy stream would have to wait for what does not run. */
static CUresult legacy_use(struct stream *stream, bool invalidates) {
    CUresult result = CUDA_SUCCESS;
    if (!stream->legacy || !atomic_load_explicit(&capture_count, memory_order_acquire))
        return result;
    lock_driver();
    for (struct stream *other = stream->context->streams; other; other = other->next)
        if (other->capture && !(other->flags & CU_STREAM_NON_BLOCKING)) {
            other->capture->invalid |= invalidates;
            result = CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
        }
    unlock_driver();
    return result;
}
CUresult capture_forbids_legacy(struct stream *stream) {
    return legacy_use(stream, true);
}
CUresult capture_hides_legacy(struct stream *stream) {
    return legacy_use(stream, false);
}

CUresult current_context_outside_capture(struct context **ret_context) {
    CUresult result = capture_forbids();
    return result ? result : current_context(ret_context);
}

CUresult capture_forbids_stream(struct stream *stream) {
    if (!atomic_load_explicit(&capture_count, memory_order_acquire))
        return CUDA_SUCCESS;
    if (capture_of(stream))
        return capture_invalidate(stream, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    CUresult result = capture_forbids_legacy(stream);
    return result ? result : capture_forbids();
}

CUresult capture_forbids_context(struct context *context) {
    if (!atomic_load_explicit(&capture_count, memory_order_acquire))
        return CUDA_SUCCESS;
    CUresult result = CUDA_SUCCESS;
    lock_driver();
    for (struct stream *stream = context->streams; stream; stream = stream->next)
        if (stream->capture) {
            stream->capture->invalid = true;
            result = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
        }
    unlock_driver();
    return result ? result : capture_forbids();
}
