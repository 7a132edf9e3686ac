/* Streams: which engine queue a handle means, and the order the default streams impose. */
#include <stdlib.h>
#include <string.h>

#include "capture.h"

#define PRIORITY_GREATEST (-5)
#define LEGACY_WAITS_MAX 64

static _Atomic unsigned long long last_id;

/* A thread's own default streams, one a context; the list ends with the thread. */
struct thread_stream {
    struct context *context;
    unsigned long long context_id;
    struct stream *stream;
    struct thread_stream *next;
};
static _Thread_local struct thread_stream *thread_streams;
static pthread_key_t thread_exit;
static pthread_once_t thread_exit_once = PTHREAD_ONCE_INIT;

CUresult stream_create(struct context *context, unsigned flags, int priority, struct stream **ret_stream) {
    struct stream *stream = object_new(MAGIC_STREAM, sizeof *stream);
    if (!stream)
        return CUDA_ERROR_OUT_OF_MEMORY;
    *stream = (struct stream){.magic = MAGIC_STREAM, .context = context, .flags = flags, .priority = priority};
    CUresult result = from_errno(engine_stream_create(context->gpu, &stream->engine));
    if (result) {
        object_delete(MAGIC_STREAM, stream);
        return result;
    }
    pthread_mutex_init(&stream->lock, NULL);
    stream->id = ++last_id;
    lock_driver();
    stream->next = context->streams;
    context->streams = stream;
    unlock_driver();
    *ret_stream = stream;
    return CUDA_SUCCESS;
}

void stream_delete(struct stream *stream) {
    lock_driver();
    for (struct stream **link = &stream->context->streams; *link; link = &(*link)->next)
        if (*link == stream) {
            *link = stream->next;
            break;
        }
    stream->magic = MAGIC_DEAD;
    unlock_driver();
    engine_stream_destroy(stream->engine);
    pthread_mutex_destroy(&stream->lock);
    object_delete(MAGIC_STREAM, stream);
}

static void end_thread(void *list) {
    for (struct thread_stream *entry = list, *next; entry; entry = next) {
        next = entry->next;
        if (is_live(entry->context, MAGIC_CONTEXT))
            stream_delete(entry->stream);
        free(entry);
    }
}
static void make_thread_exit(void) {
    pthread_key_create(&thread_exit, end_thread);
}

static CUresult thread_stream(struct context *context, struct stream **ret_stream) {
    for (struct thread_stream *entry = thread_streams; entry; entry = entry->next)
        if (entry->context == context) {
            *ret_stream = entry->stream;
            return CUDA_SUCCESS;
        }
    struct thread_stream *entry = calloc(1, sizeof *entry);
    if (!entry)
        return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult result = stream_create(context, 0, 0, &entry->stream);
    if (result) {
        free(entry);
        return result;
    }
    pthread_once(&thread_exit_once, make_thread_exit);
    entry->context = context;
    entry->next = thread_streams;
    thread_streams = entry;
    pthread_setspecific(thread_exit, entry);
    *ret_stream = entry->stream;
    return CUDA_SUCCESS;
}

CUresult stream_find(CUstream handle, struct stream **ret_stream) {
    struct context *context;
    if (handle == CU_STREAM_PER_THREAD || handle == CU_STREAM_LEGACY || !handle) {
        CUresult result = current_context(&context);
        if (result)
            return result;
        if (handle == CU_STREAM_PER_THREAD)
            return thread_stream(context, ret_stream);
        *ret_stream = context->legacy;
        return CUDA_SUCCESS;
    }
    CUresult result = require_init();
    if (result)
        return result;
    struct stream *stream = (struct stream *)handle;
    if (!is_live(stream, MAGIC_STREAM))
        return CUDA_ERROR_INVALID_HANDLE;
    *ret_stream = stream;
    return (CUresult)atomic_load_explicit(&stream->context->error, memory_order_relaxed);
}

static bool same_ticket(struct engine_ticket a, struct engine_ticket b) {
    return a.channel == b.channel && a.generation == b.generation && a.sequence == b.sequence;
}
static bool is_ticket(struct engine_ticket ticket) {
    return ticket.sequence != 0;
}

/* The last operations of the blocking streams that the legacy stream does not wait for yet; up to `capacity`. */
static unsigned tickets_before_legacy(struct context *context, struct engine_ticket *tickets, unsigned capacity,
                                      bool take) {
    unsigned count = 0;
    lock_driver();
    for (struct stream *stream = context->streams; stream && count < capacity; stream = stream->next) {
        if (stream->legacy || stream->flags & CU_STREAM_NON_BLOCKING)
            continue;
        struct engine_ticket last = engine_stream_last(stream->engine);
        if (!is_ticket(last) || same_ticket(last, stream->before_legacy))
            continue;
        if (take)
            stream->before_legacy = last;
        tickets[count++] = last;
    }
    unlock_driver();
    return count;
}

/* Puts what the default-stream rules order before this stream's next operation. */
static int wait_for_the_others(struct stream *stream) {
    int error = 0;
    if (stream->legacy) {
        struct engine_ticket tickets[LEGACY_WAITS_MAX];
        unsigned count;
        do {
            count = tickets_before_legacy(stream->context, tickets, LEGACY_WAITS_MAX, true);
            for (unsigned i = 0; !error && i < count; i++)
                error = engine_stream_wait(stream->engine, tickets[i]);
        } while (!error && count == LEGACY_WAITS_MAX);
    } else if (!(stream->flags & CU_STREAM_NON_BLOCKING)) {
        struct engine_ticket legacy = engine_stream_last(stream->context->legacy->engine);
        if (!is_ticket(legacy) || same_ticket(legacy, stream->after_legacy))
            return 0;
        stream->after_legacy = legacy;
        error = engine_stream_wait(stream->engine, legacy);
    }
    return error;
}

CUresult stream_submit(struct stream *stream, const struct engine_op *op, struct engine_ticket *ret_ticket) {
    pthread_mutex_lock(&stream->lock);
    int error = wait_for_the_others(stream);
    if (!error)
        error = engine_submit(stream->engine, op, ret_ticket);
    pthread_mutex_unlock(&stream->lock);
    return from_errno(error);
}

CUresult stream_wait_ticket(struct stream *stream, struct engine_ticket ticket) {
    if (!is_ticket(ticket))
        return CUDA_SUCCESS;
    pthread_mutex_lock(&stream->lock);
    int error = engine_stream_wait(stream->engine, ticket);
    pthread_mutex_unlock(&stream->lock);
    /* The mark makes the wait itself something that a query of the stream, or a legacy operation, waits for. */
    return error ? from_errno(error) : stream_submit(stream, &(struct engine_op){.kind = ENGINE_OP_MARK}, NULL);
}

CUresult stream_synchronize(struct stream *stream) {
    CUresult result = capture_forbids_stream(stream);
    if (result)
        return result;
    struct context *context = stream->context;
    bool spin = context_spins(context);
    int error = engine_ticket_wait(engine_stream_last(stream->engine), spin);
    if (stream->legacy) {
        struct engine_ticket tickets[LEGACY_WAITS_MAX];
        unsigned count = tickets_before_legacy(context, tickets, LEGACY_WAITS_MAX, false);
        for (unsigned i = 0; !error && i < count; i++)
            error = engine_ticket_wait(tickets[i], spin);
    }
    if (error)
        return from_errno(error);
    pools_trim_after_sync();
    return (CUresult)atomic_load(&context->error);
}

CUresult stream_query(struct stream *stream) {
    CUresult result = capture_forbids_stream(stream);
    if (result)
        return result;
    int done = engine_ticket_query(engine_stream_last(stream->engine));
    if (done == 1 && stream->legacy) {
        struct engine_ticket tickets[LEGACY_WAITS_MAX];
        unsigned count = tickets_before_legacy(stream->context, tickets, LEGACY_WAITS_MAX, false);
        for (unsigned i = 0; done == 1 && i < count; i++)
            done = engine_ticket_query(tickets[i]);
    }
    if (done < 0)
        return from_errno(done);
    return done ? (CUresult)atomic_load(&stream->context->error) : CUDA_ERROR_NOT_READY;
}

/* As driver 580 on an H200: a quarter of a block each, the first two within what the context took. */
static CUresult pay_for_one(struct context *context) {
    lock_driver();
    unsigned blocks = (atomic_fetch_add(&context->stream_count, 1) + 3) / 4;
    int error = 0;
    if (blocks > context->stream_blocks)
        error = engine_memory_reserve(context->gpu, ENGINE_BLOCK_BYTES);
    if (!error && blocks > context->stream_blocks)
        context->stream_blocks = blocks;
    if (error)
        atomic_fetch_sub(&context->stream_count, 1);
    unlock_driver();
    return from_errno(error);
}

CUresult cuStreamCreateWithPriority(CUstream *handle, unsigned flags, int priority) {
    struct context *context;
    CUresult result = current_context(&context);
    if (result)
        return result;
    if (!handle || flags & ~(unsigned)CU_STREAM_NON_BLOCKING)
        return CUDA_ERROR_INVALID_VALUE;
    if (priority > 0)
        priority = 0;
    if (priority < PRIORITY_GREATEST)
        priority = PRIORITY_GREATEST;
    struct stream *stream;
    result = pay_for_one(context);
    if (result)
        return result;
    result = stream_create(context, flags, priority, &stream);
    if (result)
        atomic_fetch_sub(&context->stream_count, 1);
    else
        *handle = (CUstream)stream;
    return result;
}

CUresult cuStreamCreate(CUstream *handle, unsigned flags) {
    return cuStreamCreateWithPriority(handle, flags, 0);
}

CUresult cuStreamDestroy_v2(CUstream handle) {
    CUresult result = require_init();
    if (result)
        return result;
    if (!handle || handle == CU_STREAM_LEGACY || handle == CU_STREAM_PER_THREAD)
        return CUDA_ERROR_INVALID_HANDLE;
    struct stream *stream = (struct stream *)handle;
    if (!is_live(stream, MAGIC_STREAM))
        return CUDA_ERROR_INVALID_HANDLE;
    capture_abandon(stream);
    atomic_fetch_sub(&stream->context->stream_count, 1);
    stream_delete(stream);
    return CUDA_SUCCESS;
}
CUresult cuStreamDestroy(CUstream handle) {
    return cuStreamDestroy_v2(handle);
}

CUresult cuStreamSynchronize(CUstream handle) {
    struct stream *stream;
    CUresult result = stream_find(handle, &stream);
    return result ? result : stream_synchronize(stream);
}

CUresult cuStreamQuery(CUstream handle) {
    struct stream *stream;
    CUresult result = stream_find(handle, &stream);
    return result ? result : stream_query(stream);
}
