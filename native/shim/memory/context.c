/* Contexts: made only if what they cost fits, and when one ends everything that was allocated in it is gone. */
#include "memory/memory.h"
#include "pacing/pacing.h"

#define REFUSED CUDA_ERROR_OUT_OF_MEMORY

/* Contexts by handle, with the GPU they are on: the end of one is told by its handle alone. */
static struct memory_table contexts;

void memory_contexts_forget(void) {
    memory_table_reset(&contexts);
}

struct opening {
    struct memory_gpu *gpu; /* NULL: only call the driver */
    uint64_t reserved;
};

static bool opening_begin(struct opening *opening, CUdevice device) {
    opening->gpu = tenant_active() ? memory_gpu(device) : NULL;
    if (!opening->gpu)
        return true;
    memory_begin(opening->gpu);
    if (memory_context_reserve(opening->gpu, &opening->reserved))
        return true;
    memory_end(opening->gpu);
    return false;
}

static void opening_failed(const struct opening *opening) {
    memory_refund(opening->gpu, opening->reserved, GPUSLICE_MEMORY_CONTEXT);
    memory_end(opening->gpu);
}

/* False: it turned out to cost more than fits, and the caller must end it again. */
static bool opening_done(const struct opening *opening, CUcontext context) {
    struct memory_record stale, record = {.key = (uint64_t)(uintptr_t)context, .gpu = (uint16_t)opening->gpu->device};
    memory_end(opening->gpu);
    memory_table_put(&contexts, &record, &stale);
    memory_context_opened(opening->gpu, opening->reserved);
    return !memory_is_over(opening->gpu);
}

/* --- contexts of the program -------------------------------------------------------------------------------- */

/* Ends a context by `destroy`, and with it what the account has for it. While the driver works, the records belong
 * to `doomed`: the address of the context may already be that of a new one. */
static CUresult end_context(CUcontext context, CUresult (*destroy)(CUcontext)) {
    struct memory_record record;
    if (!tenant_active() || !memory_table_take(&contexts, (uint64_t)(uintptr_t)context, &record))
        return destroy(context);
    struct memory_gpu *gpu = memory_gpu(record.gpu);
    int doomed;
    memory_begin(gpu);
    memory_table_reown(&memory_allocations, context, &doomed);
    memory_frees_reown(context, &doomed);
    struct pacing_gpu *paced = pacing_context_ending(context);
    CUresult result = destroy(context);
    pacing_context_ended(paced, context, result == CUDA_SUCCESS);
    if (result == CUDA_SUCCESS) {
        memory_allocations_forget(&doomed);
        memory_frees_forget(&doomed);
    } else {
        struct memory_record stale;
        memory_table_put(&contexts, &record, &stale);
        memory_table_reown(&memory_allocations, &doomed, context);
        memory_frees_reown(&doomed, context);
    }
    memory_end(gpu);
    if (result == CUDA_SUCCESS)
        memory_context_closed(gpu);
    return result;
}

static CUresult created(const struct opening *opening, CUresult result, const CUcontext *context) {
    if (!opening->gpu)
        return result;
    if (result != CUDA_SUCCESS) {
        opening_failed(opening);
        return result;
    }
    if (opening_done(opening, *context))
        return CUDA_SUCCESS;
    end_context(*context, real.cuCtxDestroy_v2);
    return REFUSED;
}

CUresult cuCtxCreate(CUcontext *pctx, unsigned int flags, CUdevice dev) {
    struct opening opening;
    if (!opening_begin(&opening, dev))
        return REFUSED;
    return created(&opening, real.cuCtxCreate(pctx, flags, dev), pctx);
}

CUresult cuCtxCreate_v2(CUcontext *pctx, unsigned int flags, CUdevice dev) {
    struct opening opening;
    if (!opening_begin(&opening, dev))
        return REFUSED;
    return created(&opening, real.cuCtxCreate_v2(pctx, flags, dev), pctx);
}

CUresult cuCtxCreate_v3(CUcontext *pctx, CUexecAffinityParam *paramsArray, int numParams, unsigned int flags,
                        CUdevice dev) {
    struct opening opening;
    if (!opening_begin(&opening, dev))
        return REFUSED;
    return created(&opening, real.cuCtxCreate_v3(pctx, paramsArray, numParams, flags, dev), pctx);
}

CUresult cuCtxCreate_v4(CUcontext *pctx, CUctxCreateParams *ctxCreateParams, unsigned int flags, CUdevice dev) {
    struct opening opening;
    if (!opening_begin(&opening, dev))
        return REFUSED;
    return created(&opening, real.cuCtxCreate_v4(pctx, ctxCreateParams, flags, dev), pctx);
}

CUresult cuCtxDestroy_v2(CUcontext ctx) {
    return end_context(ctx, real.cuCtxDestroy_v2);
}

CUresult cuCtxDestroy(CUcontext ctx) {
    return end_context(ctx, real.cuCtxDestroy);
}

/* --- green contexts: they live beside the primary one, which the driver makes if it is not there -------------- */

CUresult cuGreenCtxCreate(CUgreenCtx *phCtx, CUdevResourceDesc desc, CUdevice dev, unsigned int flags) {
    struct opening opening;
    if (!opening_begin(&opening, dev))
        return REFUSED;
    CUresult result = real.cuGreenCtxCreate(phCtx, desc, dev, flags);
    if (!opening.gpu)
        return result;
    if (result != CUDA_SUCCESS) {
        opening_failed(&opening);
        return result;
    }
    if (opening_done(&opening, (CUcontext)*phCtx))
        return CUDA_SUCCESS;
    cuGreenCtxDestroy(*phCtx);
    return REFUSED;
}

/* What was allocated while it was current stays charged until it is freed: no document says that it goes with it. */
CUresult cuGreenCtxDestroy(CUgreenCtx hCtx) {
    struct memory_record record;
    CUresult result = real.cuGreenCtxDestroy(hCtx);
    if (tenant_active() && result == CUDA_SUCCESS && memory_table_take(&contexts, (uint64_t)(uintptr_t)hCtx, &record))
        memory_context_closed(memory_gpu(record.gpu));
    return result;
}

/* --- primary contexts: counted by the driver; only the first retain and the last release do anything ---------- */

static bool primary_is_active(CUdevice device) {
    unsigned flags;
    int active = 0;
    return real.cuDevicePrimaryCtxGetState(device, &flags, &active) == CUDA_SUCCESS && active;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *pctx, CUdevice dev) {
    struct opening opening = {0};
    struct memory_gpu *gpu = tenant_active() ? memory_gpu(dev) : NULL;
    if (!gpu)
        return real.cuDevicePrimaryCtxRetain(pctx, dev);
    /* Two threads must not both take the first retain for theirs. */
    memory_lock_take(&gpu->primary_lock);
    CUresult result = REFUSED;
    if (primary_is_active(dev) && gpu->primary) {
        result = real.cuDevicePrimaryCtxRetain(pctx, dev);
    } else if (opening_begin(&opening, dev)) {
        result = real.cuDevicePrimaryCtxRetain(pctx, dev);
        if (result != CUDA_SUCCESS) {
            opening_failed(&opening);
        } else if (opening_done(&opening, *pctx)) {
            gpu->primary = *pctx;
        } else {
            real.cuDevicePrimaryCtxRelease_v2(dev);
            memory_context_closed(gpu);
            result = REFUSED;
        }
    }
    memory_lock_give(&gpu->primary_lock);
    return result;
}

/* Ends or lowers the count by `release`; whether that ended the context the driver says. */
static CUresult release_primary(CUdevice device, CUresult (*release)(CUdevice)) {
    struct memory_gpu *gpu = tenant_active() ? memory_gpu(device) : NULL;
    if (!gpu)
        return release(device);
    memory_lock_take(&gpu->primary_lock);
    CUcontext primary = gpu->primary;
    int doomed;
    memory_begin(gpu);
    struct pacing_gpu *paced = pacing_context_ending(primary);
    CUresult result = release(device);
    bool ended = result == CUDA_SUCCESS && primary && !primary_is_active(device);
    pacing_context_ended(paced, primary, ended);
    if (ended) {
        memory_table_reown(&memory_allocations, primary, &doomed);
        memory_allocations_forget(&doomed);
        memory_frees_forget(primary);
        memory_table_take(&contexts, (uint64_t)(uintptr_t)primary, NULL);
        gpu->primary = NULL;
    }
    memory_end(gpu);
    if (ended)
        memory_context_closed(gpu);
    memory_lock_give(&gpu->primary_lock);
    return result;
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice dev) {
    return release_primary(dev, real.cuDevicePrimaryCtxRelease_v2);
}

CUresult cuDevicePrimaryCtxRelease(CUdevice dev) {
    return release_primary(dev, real.cuDevicePrimaryCtxRelease);
}

CUresult cuDevicePrimaryCtxReset_v2(CUdevice dev) {
    return release_primary(dev, real.cuDevicePrimaryCtxReset_v2);
}

CUresult cuDevicePrimaryCtxReset(CUdevice dev) {
    return release_primary(dev, real.cuDevicePrimaryCtxReset);
}
