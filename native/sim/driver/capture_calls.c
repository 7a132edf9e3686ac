/* Beginning, ending and looking at a capture. */
#include <stdlib.h>
#include <string.h>

#include "capture_life.h"

static CUresult begin(CUstream handle, CUstreamCaptureMode mode, struct graph *given, struct node *const *tips,
                      size_t count) {
    struct stream *stream;
    CUresult result = stream_find(handle, &stream);
    if (result)
        return result;
    if (mode > CU_STREAM_CAPTURE_MODE_RELAXED)
        return CUDA_ERROR_INVALID_VALUE;
    if (stream->legacy)
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    lock_driver();
    if (stream->capture)
        result = CUDA_ERROR_ILLEGAL_STATE;
    else if (!capture_begin(stream, mode, given) || !capture_set_tips(stream, tips, count))
        result = CUDA_ERROR_OUT_OF_MEMORY;
    unlock_driver();
    return result;
}

CUresult cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode) {
    return begin(stream, mode, NULL, NULL, 0);
}
CUresult cuStreamBeginCapture(CUstream stream) {
    return begin(stream, CU_STREAM_CAPTURE_MODE_GLOBAL, NULL, NULL, 0);
}

CUresult cuStreamBeginCaptureToGraph(CUstream stream, CUgraph handle, const CUgraphNode *dependencies,
                                     const CUgraphEdgeData *edges, size_t count, CUstreamCaptureMode mode) {
    (void)edges;
    CUresult result = require_init();
    if (result)
        return result;
    struct graph *graph = graph_check(handle);
    if (!graph || (count && !dependencies))
        return CUDA_ERROR_INVALID_VALUE;
    for (size_t i = 0; i < count; i++) {
        struct node *node = node_check(dependencies[i]);
        if (!node || node->graph != graph)
            return CUDA_ERROR_INVALID_VALUE;
    }
    return begin(stream, mode, graph, (struct node *const *)dependencies, count);
}

static void mark_ancestors(struct node *node, unsigned mark) {
    if (node->mark == mark)
        return;
    node->mark = mark;
    for (size_t i = 0; i < node->dependency_count; i++)
        mark_ancestors(node->dependencies[i], mark);
}

/* Whether every stream that joined has been joined back: all that was captured leads to the origin's tips. */
static bool is_joined(const struct capture *capture) {
    static unsigned mark = 0;
    mark++;
    struct stream *origin = capture->origin;
    for (size_t i = 0; i < origin->tip_count; i++)
        mark_ancestors(origin->tips[i], mark);
    for (struct context *context = contexts; context; context = context->next)
        for (struct stream *stream = context->streams; stream; stream = stream->next) {
            if (stream->capture != capture || stream == origin)
                continue;
            for (size_t i = 0; i < stream->tip_count; i++)
                if (stream->tips[i]->mark != mark)
                    return false;
        }
    return true;
}

CUresult cuStreamEndCapture(CUstream handle, CUgraph *ret_graph) {
    struct stream *stream;
    CUresult result = stream_find(handle, &stream);
    if (result)
        return result;
    if (!ret_graph)
        return CUDA_ERROR_INVALID_VALUE;
    *ret_graph = NULL;
    lock_driver();
    struct capture *capture = stream->capture;
    bool foreign =
        capture && capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED && !pthread_equal(capture->thread, pthread_self());
    if (!capture)
        result = CUDA_ERROR_ILLEGAL_STATE;
    else if (capture->origin != stream)
        result = CUDA_ERROR_STREAM_CAPTURE_UNMATCHED;
    else if (foreign)
        result = CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
    if (result) {
        if (capture)
            capture->invalid = true;
        unlock_driver();
        return result;
    }
    if (capture->invalid)
        result = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    else if (!is_joined(capture))
        result = CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
    struct graph *graph = capture->graph;
    bool given = capture->into_given_graph;
    capture_end(capture);
    unlock_driver();
    if (!result)
        *ret_graph = (CUgraph)graph;
    else if (!given)
        graph_delete(graph);
    return result;
}

static CUresult look(CUstream handle, CUstreamCaptureStatus *status, cuuint64_t *id, CUgraph *graph,
                     const CUgraphNode **tips, size_t *count) {
    struct stream *stream;
    CUresult result = stream_find(handle, &stream);
    if (result)
        return result;
    if (!status)
        return CUDA_ERROR_INVALID_VALUE;
    result = capture_hides_legacy(stream);
    if (result)
        return result;
    lock_driver();
    struct capture *capture = stream->capture;
    *status = !capture           ? CU_STREAM_CAPTURE_STATUS_NONE
              : capture->invalid ? CU_STREAM_CAPTURE_STATUS_INVALIDATED
                                 : CU_STREAM_CAPTURE_STATUS_ACTIVE;
    if (*status == CU_STREAM_CAPTURE_STATUS_ACTIVE) {
        if (id)
            *id = capture->id;
        if (graph)
            *graph = (CUgraph)capture->graph;
        if (tips)
            *tips = (const CUgraphNode *)stream->tips;
        if (count)
            *count = stream->tip_count;
    }
    unlock_driver();
    return CUDA_SUCCESS;
}

CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus *status) {
    return look(stream, status, NULL, NULL, NULL, NULL);
}
CUresult cuStreamGetCaptureInfo(CUstream stream, CUstreamCaptureStatus *status, cuuint64_t *id) {
    return look(stream, status, id, NULL, NULL, NULL);
}
CUresult cuStreamGetCaptureInfo_v2(CUstream stream, CUstreamCaptureStatus *status, cuuint64_t *id, CUgraph *graph,
                                   const CUgraphNode **tips, size_t *count) {
    return look(stream, status, id, graph, tips, count);
}
CUresult cuStreamGetCaptureInfo_v3(CUstream stream, CUstreamCaptureStatus *status, cuuint64_t *id, CUgraph *graph,
                                   const CUgraphNode **tips, const CUgraphEdgeData **edges, size_t *count) {
    if (edges)
        *edges = NULL; /* no edge carries data */
    return look(stream, status, id, graph, tips, count);
}

CUresult cuStreamUpdateCaptureDependencies(CUstream handle, CUgraphNode *nodes, size_t count, unsigned flags) {
    struct stream *stream;
    CUresult result = stream_find(handle, &stream);
    if (result)
        return result;
    if (flags > CU_STREAM_SET_CAPTURE_DEPENDENCIES || (count && !nodes))
        return CUDA_ERROR_INVALID_VALUE;
    lock_driver();
    struct node *const *tips = (struct node *const *)nodes;
    if (!stream->capture)
        result = CUDA_ERROR_ILLEGAL_STATE;
    else if (stream->capture->invalid)
        result = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    else if (!(flags == CU_STREAM_SET_CAPTURE_DEPENDENCIES ? capture_set_tips(stream, tips, count)
                                                           : capture_add_tips(stream, tips, count)))
        result = CUDA_ERROR_OUT_OF_MEMORY;
    unlock_driver();
    return result;
}
CUresult cuStreamUpdateCaptureDependencies_v2(CUstream handle, CUgraphNode *nodes, const CUgraphEdgeData *edges,
                                              size_t count, unsigned flags) {
    (void)edges;
    return cuStreamUpdateCaptureDependencies(handle, nodes, count, flags);
}
