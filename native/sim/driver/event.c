/* Events: a mark in a stream that says when it was passed. */
#include "event.h"

#include <stdlib.h>
#include <string.h>

#include "capture.h"

#define FLAGS_KNOWN (CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING | CU_EVENT_INTERPROCESS)

struct event *event_check(CUevent handle) {
    return is_live(handle, MAGIC_EVENT) ? (struct event *)handle : NULL;
}

static void release_times(struct event_times *times) {
    if (times && atomic_fetch_sub(&times->references, 1) == 1)
        free(times);
}

static CUresult event_new(struct context *context, unsigned flags, struct event **ret_event) {
    struct event *event = object_new(MAGIC_EVENT, sizeof *event);
    if (!event)
        return CUDA_ERROR_OUT_OF_MEMORY;
    *event = (struct event){.magic = MAGIC_EVENT, .flags = flags, .context = context};
    pthread_mutex_init(&event->lock, NULL);
    *ret_event = event;
    return CUDA_SUCCESS;
}

CUresult cuEventCreate(CUevent *handle, unsigned flags) {
    struct context *context;
    CUresult result = current_context(&context);
    if (result)
        return result;
    if (!handle || flags & ~(unsigned)FLAGS_KNOWN)
        return CUDA_ERROR_INVALID_VALUE;
    if (flags & CU_EVENT_INTERPROCESS && !(flags & CU_EVENT_DISABLE_TIMING))
        return CUDA_ERROR_INVALID_VALUE;
    struct event *event;
    result = event_new(context, flags, &event);
    if (result)
        return result;
    if (flags & CU_EVENT_INTERPROCESS) {
        result = from_errno(engine_shared_ticket_create(&event->shared_id));
        event->shared = !result;
    }
    if (result)
        object_delete(MAGIC_EVENT, event);
    else
        *handle = (CUevent)event;
    return result;
}

CUresult cuEventDestroy_v2(CUevent handle) {
    CUresult result = require_init();
    if (result)
        return result;
    struct event *event = event_check(handle);
    if (!event)
        return CUDA_ERROR_INVALID_HANDLE;
    event->magic = MAGIC_DEAD;
    if (event->shared && !event->imported)
        engine_shared_ticket_destroy(event->shared_id);
    release_times(event->times);
    capture_point_release(event->captured);
    pthread_mutex_destroy(&event->lock);
    object_delete(MAGIC_EVENT, event);
    return CUDA_SUCCESS;
}
CUresult cuEventDestroy(CUevent handle) {
    return cuEventDestroy_v2(handle);
}

static void note_time(void *arg, const struct engine_times *times) {
    struct event_times *noted = arg;
    atomic_store(&noted->end_ns, times->end_ns);
    release_times(noted);
}

void event_forget(struct event *event) {
    capture_point_release(event->captured);
    event->captured = NULL;
}

CUresult event_record(struct stream *stream, struct event *event) {
    struct event_times *times = calloc(1, sizeof *times);
    if (!times)
        return CUDA_ERROR_OUT_OF_MEMORY;
    atomic_store(&times->references, 2);
    struct engine_op op = {.kind = ENGINE_OP_MARK, .effect = note_time, .arg = times};
    struct engine_ticket ticket;
    CUresult result = stream_submit(stream, &op, &ticket);
    if (result) {
        free(times);
        return result;
    }
    pthread_mutex_lock(&event->lock);
    release_times(event->times);
    event_forget(event);
    event->times = times;
    event->ticket = ticket;
    event->recorded = true;
    pthread_mutex_unlock(&event->lock);
    if (event->shared)
        engine_shared_ticket_put(event->shared_id, ticket, NULL);
    return CUDA_SUCCESS;
}

/* false: never recorded, so there is nothing to wait for. */
static bool last_record(struct event *event, struct engine_ticket *ret_ticket) {
    if (event->shared)
        return engine_shared_ticket_get(event->shared_id, ret_ticket, NULL) == 0;
    pthread_mutex_lock(&event->lock);
    *ret_ticket = event->ticket;
    bool recorded = event->recorded;
    pthread_mutex_unlock(&event->lock);
    return recorded;
}

CUresult event_wait(struct stream *stream, struct event *event) {
    struct engine_ticket ticket;
    return last_record(event, &ticket) ? stream_wait_ticket(stream, ticket) : CUDA_SUCCESS;
}

static CUresult record(CUevent handle, CUstream stream_handle, unsigned flags) {
    CUresult result = require_init();
    if (result)
        return result;
    struct event *event = event_check(handle);
    if (!event)
        return CUDA_ERROR_INVALID_HANDLE;
    if (flags & ~(unsigned)CU_EVENT_RECORD_EXTERNAL)
        return CUDA_ERROR_INVALID_VALUE;
    struct stream *stream;
    result = stream_find(stream_handle, &stream);
    if (result)
        return result;
    if (!(flags & CU_EVENT_RECORD_EXTERNAL) && capture_of(stream))
        return capture_record_event(stream, event);
    if (stream->context->gpu != event->context->gpu)
        return CUDA_ERROR_INVALID_HANDLE;
    struct work work = {.kind = WORK_EVENT_RECORD, .event = event};
    return work_enqueue(stream_handle, &work);
}

CUresult cuEventRecord(CUevent handle, CUstream stream) {
    return record(handle, stream, 0);
}
CUresult cuEventRecordWithFlags(CUevent handle, CUstream stream, unsigned flags) {
    return record(handle, stream, flags);
}

CUresult cuStreamWaitEvent(CUstream stream_handle, CUevent handle, unsigned flags) {
    CUresult result = require_init();
    if (result)
        return result;
    struct event *event = event_check(handle);
    if (!event)
        return CUDA_ERROR_INVALID_HANDLE;
    if (flags & ~(unsigned)CU_EVENT_WAIT_EXTERNAL)
        return CUDA_ERROR_INVALID_VALUE;
    struct stream *stream;
    result = stream_find(stream_handle, &stream);
    if (result)
        return result;
    if (!(flags & CU_EVENT_WAIT_EXTERNAL)) {
        if (event->captured)
            return capture_wait_event(stream, event);
        if (capture_of(stream))
            return capture_invalidate(stream, CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
    }
    struct work work = {.kind = WORK_EVENT_WAIT, .event = event};
    return work_enqueue(stream_handle, &work);
}

CUresult cuEventQuery(CUevent handle) {
    CUresult result = capture_forbids();
    if (result)
        return result;
    struct event *event = event_check(handle);
    if (!event)
        return CUDA_ERROR_INVALID_HANDLE;
    if (event->captured)
        return capture_invalidate_event(event);
    struct engine_ticket ticket;
    if (!last_record(event, &ticket))
        return CUDA_SUCCESS;
    int done = engine_ticket_query(ticket);
    if (done < 0)
        return from_errno(done);
    return done ? (CUresult)atomic_load(&event->context->error) : CUDA_ERROR_NOT_READY;
}

CUresult cuEventSynchronize(CUevent handle) {
    CUresult result = capture_forbids();
    if (result)
        return result;
    struct event *event = event_check(handle);
    if (!event)
        return CUDA_ERROR_INVALID_HANDLE;
    if (event->captured)
        return capture_invalidate_event(event);
    struct engine_ticket ticket;
    if (!last_record(event, &ticket))
        return CUDA_SUCCESS;
    bool spin = context_spins(event->context) && !(event->flags & CU_EVENT_BLOCKING_SYNC);
    result = from_errno(engine_ticket_wait(ticket, spin));
    if (result)
        return result;
    pools_trim_after_sync();
    return (CUresult)atomic_load(&event->context->error);
}

static CUresult time_of(struct event *event, uint64_t *ret_ns) {
    if (event->captured)
        return CUDA_ERROR_CAPTURED_EVENT;
    if (event->flags & CU_EVENT_DISABLE_TIMING || !event->recorded)
        return CUDA_ERROR_INVALID_HANDLE;
    int done = engine_ticket_query(event->ticket);
    if (done < 0)
        return from_errno(done);
    *ret_ns = atomic_load(&event->times->end_ns);
    return done ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}

CUresult cuEventElapsedTime_v2(float *milliseconds, CUevent from, CUevent to) {
    CUresult result = require_init();
    if (result)
        return result;
    struct event *start = event_check(from), *end = event_check(to);
    if (!start || !end)
        return CUDA_ERROR_INVALID_HANDLE;
    if (!milliseconds)
        return CUDA_ERROR_INVALID_VALUE;
    uint64_t start_ns, end_ns;
    result = time_of(start, &start_ns);
    if (!result)
        result = time_of(end, &end_ns);
    if (!result)
        *milliseconds = (float)((double)(int64_t)(end_ns - start_ns) / 1e6);
    return result;
}
CUresult cuEventElapsedTime(float *milliseconds, CUevent from, CUevent to) {
    return cuEventElapsedTime_v2(milliseconds, from, to);
}

CUresult cuIpcGetEventHandle(CUipcEventHandle *ret_handle, CUevent handle) {
    CUresult result = require_init();
    if (result)
        return result;
    struct event *event = event_check(handle);
    if (!event)
        return CUDA_ERROR_INVALID_HANDLE;
    if (!ret_handle || !event->shared)
        return CUDA_ERROR_INVALID_VALUE;
    memset(ret_handle, 0, sizeof *ret_handle);
    memcpy(ret_handle, &event->shared_id, sizeof event->shared_id);
    return CUDA_SUCCESS;
}

CUresult cuIpcOpenEventHandle(CUevent *ret_event, CUipcEventHandle handle) {
    struct context *context;
    CUresult result = current_context(&context);
    if (result)
        return result;
    if (!ret_event)
        return CUDA_ERROR_INVALID_VALUE;
    uint32_t id;
    memcpy(&id, &handle, sizeof id);
    struct engine_ticket ticket;
    if (engine_shared_ticket_get(id, &ticket, NULL))
        return CUDA_ERROR_INVALID_VALUE;
    struct event *event;
    result = event_new(context, CU_EVENT_INTERPROCESS | CU_EVENT_DISABLE_TIMING, &event);
    if (result)
        return result;
    event->shared = event->imported = true;
    event->shared_id = id;
    *ret_event = (CUevent)event;
    return CUDA_SUCCESS;
}
