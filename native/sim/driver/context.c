/* Contexts: what they cost, when they live, and which of them a thread works in. */
#include <stdlib.h>
#include <string.h>

#include "context.h"
#include "module.h"

#define STACK_DEPTH 32 /* thread-local, see CMakeLists.txt */
#define FLAGS_KNOWN (CU_CTX_SCHED_MASK | CU_CTX_FLAGS_MASK)

struct context *contexts;
static unsigned long long last_id;

/* Ended contexts stay here, so that a handle or a thread's stack that still names one finds it dead. */
static struct context *ended;

static _Thread_local struct {
    struct context *contexts[STACK_DEPTH];
    unsigned depth;
} stack;

void context_forget_child(void) {
    stack.depth = 0;
    contexts = NULL;
}

static struct context *top(void) {
    return stack.depth ? stack.contexts[stack.depth - 1] : NULL;
}

CUresult context_check(CUcontext handle, struct context **ret_context) {
    struct context *context = (struct context *)handle;
    if (!is_live(context, MAGIC_CONTEXT))
        return CUDA_ERROR_INVALID_CONTEXT;
    *ret_context = context;
    return CUDA_SUCCESS;
}

/* What a program is told of the Xid that ended its context. */
static CUresult error_of_xid(int xid) {
    switch (xid) {
    case 31:
        return CUDA_ERROR_ILLEGAL_ADDRESS;
    case 48:
    case 95:
        return CUDA_ERROR_ECC_UNCORRECTABLE;
    case 94:
        return CUDA_ERROR_CONTAINED;
    default:
        return CUDA_ERROR_LAUNCH_FAILED;
    }
}

CUresult gpu_check(unsigned gpu) {
    int fault = engine_gpu_fault(gpu);
    if (fault == 0)
        return CUDA_SUCCESS;
    return fault < 0 ? CUDA_ERROR_UNKNOWN : error_of_xid(fault);
}

static void context_feel(struct context *context) {
    CUresult fault = gpu_check(context->gpu);
    int none = CUDA_SUCCESS;
    if (fault) /* the first error stays */
        atomic_compare_exchange_strong(&context->error, &none, (int)fault);
}

CUresult current_context(struct context **ret_context) {
    CUresult result = require_init();
    if (result)
        return result;
    struct context *context = top();
    if (!context)
        return CUDA_ERROR_INVALID_CONTEXT;
    if (!is_live(context, MAGIC_CONTEXT))
        return CUDA_ERROR_CONTEXT_IS_DESTROYED;
    *ret_context = context;
    context_feel(context);
    return (CUresult)atomic_load_explicit(&context->error, memory_order_relaxed);
}

CUresult context_new(CUdevice device, unsigned flags, bool primary, struct context **ret_context) {
    int gpu = device_gpu(device);
    if (gpu < 0)
        return CUDA_ERROR_INVALID_DEVICE;
    CUresult result = gpu_check((unsigned)gpu);
    if (!result)
        result = from_errno(engine_context_open((unsigned)gpu));
    if (result)
        return result;
    struct context *context = object_new(MAGIC_CONTEXT, sizeof *context);
    if (!context) {
        engine_context_close((unsigned)gpu);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    *context = (struct context){
        .magic = MAGIC_CONTEXT, .gpu = (unsigned)gpu, .device = device, .flags = flags, .primary = primary};
    context->limits[CU_LIMIT_STACK_SIZE] = 1024;
    context->limits[CU_LIMIT_PRINTF_FIFO_SIZE] = 8650752; /* as driver 580 says */
    context->limits[CU_LIMIT_MALLOC_HEAP_SIZE] = 8 << 20;
    context->limits[CU_LIMIT_DEV_RUNTIME_SYNC_DEPTH] = 2;
    context->limits[CU_LIMIT_DEV_RUNTIME_PENDING_LAUNCH_COUNT] = 2048;
    context->limits[CU_LIMIT_MAX_L2_FETCH_GRANULARITY] = 64;
    result = stream_create(context, 0, 0, &context->legacy);
    if (result) {
        engine_context_close((unsigned)gpu);
        object_delete(MAGIC_CONTEXT, context);
        return result;
    }
    context->legacy->legacy = true;
    lock_driver();
    context->id = ++last_id;
    context->next = contexts;
    contexts = context;
    unlock_driver();
    *ret_context = context;
    return CUDA_SUCCESS;
}

void context_end(struct context *context) {
    engine_gpu_wait(context->gpu, false);
    lock_driver();
    context->magic = MAGIC_DEAD;
    for (struct context **link = &contexts; *link; link = &(*link)->next)
        if (*link == context) {
            *link = context->next;
            break;
        }
    modules_unload(context);
    allocations_release(context);
    unlock_driver();
    while (context->streams)
        stream_delete(context->streams);
    engine_memory_release(context->gpu, context->stream_blocks * ENGINE_BLOCK_BYTES);
    engine_context_close(context->gpu);
    lock_driver();
    context->next = ended;
    ended = context;
    unlock_driver();
}

static CUresult push(struct context *context) {
    if (stack.depth == STACK_DEPTH)
        return CUDA_ERROR_INVALID_CONTEXT;
    stack.contexts[stack.depth++] = context;
    return CUDA_SUCCESS;
}

CUresult cuCtxCreate_v4(CUcontext *handle, CUctxCreateParams *parameters, unsigned flags, CUdevice device) {
    CUresult result = require_init();
    if (result)
        return result;
    if (!handle || flags & ~(unsigned)FLAGS_KNOWN)
        return CUDA_ERROR_INVALID_VALUE;
    if (parameters && (parameters->numExecAffinityParams || parameters->cigParams))
        return CUDA_ERROR_NOT_SUPPORTED;
    struct context *context;
    result = context_new(device, flags, false, &context);
    if (!result && (result = push(context)))
        context_end(context);
    if (!result)
        *handle = (CUcontext)context;
    return result;
}

CUresult cuCtxCreate_v3(CUcontext *handle, CUexecAffinityParam *affinity, int count, unsigned flags, CUdevice device) {
    if (affinity || count)
        return CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY;
    return cuCtxCreate_v4(handle, NULL, flags, device);
}
CUresult cuCtxCreate_v2(CUcontext *handle, unsigned flags, CUdevice device) {
    return cuCtxCreate_v4(handle, NULL, flags, device);
}
CUresult cuCtxCreate(CUcontext *handle, unsigned flags, CUdevice device) {
    return cuCtxCreate_v4(handle, NULL, flags, device);
}

CUresult cuCtxDestroy_v2(CUcontext handle) {
    CUresult result = require_init();
    if (result)
        return result;
    struct context *context;
    result = context_check(handle, &context);
    if (result)
        return result;
    if (context->primary)
        return CUDA_ERROR_INVALID_CONTEXT;
    if (top() == context)
        stack.depth--;
    context_end(context);
    return CUDA_SUCCESS;
}
CUresult cuCtxDestroy(CUcontext handle) {
    return cuCtxDestroy_v2(handle);
}

CUresult cuCtxPushCurrent_v2(CUcontext handle) {
    struct context *context;
    CUresult result = require_init();
    if (!result)
        result = context_check(handle, &context);
    return result ? result : push(context);
}
CUresult cuCtxPushCurrent(CUcontext handle) {
    return cuCtxPushCurrent_v2(handle);
}

CUresult cuCtxPopCurrent_v2(CUcontext *handle) {
    CUresult result = require_init();
    if (result)
        return result;
    if (!stack.depth)
        return CUDA_ERROR_INVALID_CONTEXT;
    struct context *context = stack.contexts[--stack.depth];
    if (handle)
        *handle = (CUcontext)context;
    return CUDA_SUCCESS;
}
CUresult cuCtxPopCurrent(CUcontext *handle) {
    return cuCtxPopCurrent_v2(handle);
}

CUresult cuCtxSetCurrent(CUcontext handle) {
    CUresult result = require_init();
    if (result)
        return result;
    if (!handle) {
        if (stack.depth)
            stack.depth--;
        return CUDA_SUCCESS;
    }
    struct context *context;
    result = context_check(handle, &context);
    if (result)
        return result;
    if (!stack.depth)
        return push(context);
    stack.contexts[stack.depth - 1] = context;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext *handle) {
    CUresult result = require_init();
    if (result)
        return result;
    if (!handle)
        return CUDA_ERROR_INVALID_VALUE;
    *handle = (CUcontext)top();
    return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice_v2(CUdevice *device, CUcontext handle) {
    struct context *context;
    CUresult result = handle ? context_check(handle, &context) : current_context(&context);
    if (result)
        return result;
    if (!device)
        return CUDA_ERROR_INVALID_VALUE;
    *device = context->device;
    return CUDA_SUCCESS;
}
CUresult cuCtxGetDevice(CUdevice *device) {
    return cuCtxGetDevice_v2(device, NULL);
}

CUresult cuCtxSynchronize_v2(CUcontext handle) {
    struct context *context;
    CUresult result = handle ? context_check(handle, &context) : current_context(&context);
    return result ? result : context_wait(context);
}
CUresult cuCtxSynchronize(void) {
    return cuCtxSynchronize_v2(NULL);
}

bool context_spins(const struct context *context) {
    return (context->flags & CU_CTX_SCHED_MASK) == CU_CTX_SCHED_SPIN;
}

CUresult context_wait(struct context *context) {
    CUresult result = capture_forbids_context(context);
    if (result)
        return result;
    result = from_errno(engine_gpu_wait(context->gpu, context_spins(context)));
    if (result)
        return result;
    pools_trim_after_sync();
    return (CUresult)atomic_load(&context->error);
}
