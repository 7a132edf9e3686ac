/* Events of a whole context: everything submitted to it so far, or from now on. */
#include "context.h"
#include "event.h"

#define STREAMS_MAX 256

/* The context's streams. They stay as long as the program destroys none meanwhile, which it must not. */
static unsigned streams_of(struct context *context, struct stream *streams[STREAMS_MAX]) {
    unsigned count = 0;
    lock_driver();
    for (struct stream *stream = context->streams; stream && count < STREAMS_MAX; stream = stream->next)
        streams[count++] = stream;
    unlock_driver();
    return count;
}

static CUresult find(CUcontext handle, CUevent event_handle, struct context **ret_context, struct event **ret_event) {
    CUresult result = require_init();
    if (!result)
        result = context_check(handle, ret_context);
    if (!result)
        result = capture_forbids_context(*ret_context);
    if (result)
        return result;
    *ret_event = event_check(event_handle);
    return *ret_event ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuCtxRecordEvent(CUcontext handle, CUevent event_handle) {
    struct context *context;
    struct event *event;
    struct stream *streams[STREAMS_MAX], *gathering;
    CUresult result = find(handle, event_handle, &context, &event);
    if (!result)
        result = stream_create(context, CU_STREAM_NON_BLOCKING, 0, &gathering);
    if (result)
        return result;
    unsigned count = streams_of(context, streams);
    for (unsigned i = 0; !result && i < count; i++)
        if (streams[i] != gathering)
            result = stream_wait_ticket(gathering, engine_stream_last(streams[i]->engine));
    if (!result)
        result = event_record(gathering, event);
    stream_delete(gathering);
    return result;
}

CUresult cuCtxWaitEvent(CUcontext handle, CUevent event_handle) {
    struct context *context;
    struct event *event;
    struct stream *streams[STREAMS_MAX];
    CUresult result = find(handle, event_handle, &context, &event);
    if (result)
        return result;
    unsigned count = streams_of(context, streams);
    for (unsigned i = 0; !result && i < count; i++)
        result = event_wait(streams[i], event);
    return result;
}
