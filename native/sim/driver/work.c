/* One piece of work: run by a stream now, or kept in a node of a graph. */
#include <stdlib.h>
#include <string.h>

#include "capture.h"
#include "event.h"
#include "image.h"
#include "values.h"

CUresult work_enqueue(CUstream handle, struct work *work) {
    struct stream *stream;
    CUresult result = stream_find(handle, &stream);
    if (!result)
        result = capture_forbids_legacy(stream);
    if (!result && capture_of(stream))
        return capture_add(stream, work, NULL);
    if (!result)
        result = work_run(stream, work);
    work_free(work);
    return result;
}

struct host_call {
    CUhostFn function;
    void *data;
};
static void call_host(void *arg, const struct engine_times *times) {
    (void)times;
    struct host_call call = *(struct host_call *)arg;
    free(arg);
    call.function(call.data);
}

static CUresult host_run(struct stream *stream, const CUDA_HOST_NODE_PARAMS *host) {
    struct host_call *call = malloc(sizeof *call);
    if (!call)
        return CUDA_ERROR_OUT_OF_MEMORY;
    *call = (struct host_call){host->fn, host->userData};
    struct engine_op op = {.kind = ENGINE_OP_HOST_CALL, .effect = call_host, .arg = call};
    CUresult result = stream_submit(stream, &op, NULL);
    if (result)
        free(call);
    return result;
}

CUresult work_run(struct stream *stream, const struct work *work) {
    switch (work->kind) {
    case WORK_EMPTY:
        return CUDA_SUCCESS;
    case WORK_KERNEL:
        return kernel_run(stream, &work->kernel);
    case WORK_COPY:
        return copy_run(stream, &work->copy);
    case WORK_SET:
        return set_run(stream, &work->set);
    case WORK_HOST:
        return host_run(stream, &work->host);
    case WORK_EVENT_RECORD:
        return event_record(stream, work->event);
    case WORK_EVENT_WAIT:
        return event_wait(stream, work->event);
    case WORK_CHILD:
        return graph_run(stream, work->child);
    case WORK_ALLOC:
        return CUDA_SUCCESS; /* its memory was taken when the launch began */
    case WORK_FREE:
        return graph_memory_free(stream, work->free);
    case WORK_VALUES:
        return values_run(stream, work->values.count, work->values.ops);
    }
    return CUDA_ERROR_UNKNOWN;
}

static void *copy_of(const void *data, size_t bytes) {
    void *copy = malloc(bytes ? bytes : 1);
    if (copy && bytes)
        memcpy(copy, data, bytes);
    return copy;
}

static CUresult clone_kernel(const struct work_kernel *kernel, struct work_kernel *clone) {
    uint32_t count = kernel->function->image->parameter_count;
    clone->arguments = copy_of(kernel->arguments, kernel->argument_bytes);
    clone->parameters = kernel->parameters ? copy_of(kernel->parameters, count * sizeof(void *)) : NULL;
    if (!clone->arguments || (kernel->parameters && !clone->parameters))
        return CUDA_ERROR_OUT_OF_MEMORY;
    for (uint32_t i = 0; clone->parameters && i < count; i++)
        clone->parameters[i] = clone->arguments + kernel->function->image->parameters[i].offset;
    return CUDA_SUCCESS;
}

CUresult work_clone(const struct work *work, struct work *ret_clone) {
    *ret_clone = *work;
    CUresult result = CUDA_SUCCESS;
    if (work->kind == WORK_KERNEL) {
        result = clone_kernel(&work->kernel, &ret_clone->kernel);
    } else if (work->kind == WORK_VALUES) {
        ret_clone->values.ops = copy_of(work->values.ops, work->values.count * sizeof *work->values.ops);
        if (!ret_clone->values.ops)
            result = CUDA_ERROR_OUT_OF_MEMORY;
    } else if (work->kind == WORK_CHILD) {
        result = graph_clone(work->child, &ret_clone->child);
        if (!result)
            ret_clone->child->child = true;
    } else if (work->kind == WORK_ALLOC) {
        graph_memory_retain(work->alloc.parameters.dptr);
    }
    if (result)
        *ret_clone = (struct work){.kind = WORK_EMPTY};
    return result;
}

void work_free(struct work *work) {
    if (work->kind == WORK_KERNEL) {
        free(work->kernel.arguments);
        free(work->kernel.parameters);
    } else if (work->kind == WORK_VALUES) {
        free(work->values.ops);
    } else if (work->kind == WORK_CHILD && work->child) {
        graph_delete(work->child);
    } else if (work->kind == WORK_ALLOC) {
        graph_memory_release(work->alloc.parameters.dptr);
    }
    *work = (struct work){.kind = WORK_EMPTY};
}

static CUresult launch_host(CUstream stream, CUhostFn function, void *data) {
    CUresult result = require_init();
    if (result)
        return result;
    if (!function)
        return CUDA_ERROR_INVALID_VALUE;
    struct work work = {.kind = WORK_HOST, .host = {.fn = function, .userData = data}};
    return work_enqueue(stream, &work);
}

CUresult cuLaunchHostFunc(CUstream stream, CUhostFn function, void *data) {
    return launch_host(stream, function, data);
}
CUresult cuLaunchHostFunc_v2(CUstream stream, CUhostFn function, void *data, unsigned mode) {
    (void)mode;
    return launch_host(stream, function, data);
}

struct callback {
    CUstream stream;
    CUstreamCallback function;
    void *data;
};
static void call_back(void *arg) {
    struct callback callback = *(struct callback *)arg;
    free(arg);
    callback.function(callback.stream, CUDA_SUCCESS, callback.data);
}

CUresult cuStreamAddCallback(CUstream handle, CUstreamCallback function, void *data, unsigned flags) {
    struct stream *stream;
    CUresult result = stream_find(handle, &stream);
    if (result)
        return result;
    if (!function || flags)
        return CUDA_ERROR_INVALID_VALUE;
    if (capture_of(stream))
        return capture_invalidate(stream, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    struct callback *callback = malloc(sizeof *callback);
    if (!callback)
        return CUDA_ERROR_OUT_OF_MEMORY;
    *callback = (struct callback){handle, function, data};
    result = launch_host(handle, call_back, callback);
    if (result)
        free(callback);
    return result;
}
