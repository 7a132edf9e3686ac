/* What a context can be asked and told, apart from its work. */
#include "sim.h"

CUresult cuCtxGetFlags(unsigned *flags) {
    struct context *context;
    CUresult result = current_context(&context);
    if (result)
        return result;
    if (!flags)
        return CUDA_ERROR_INVALID_VALUE;
    *flags = context->flags;
    return CUDA_SUCCESS;
}

CUresult cuCtxSetFlags(unsigned flags) {
    struct context *context;
    CUresult result = current_context(&context);
    if (result)
        return result;
    if (flags & ~(unsigned)CU_CTX_FLAGS_MASK)
        return CUDA_ERROR_INVALID_VALUE;
    context->flags = flags;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetId(CUcontext handle, unsigned long long *id) {
    struct context *context;
    CUresult result = handle ? context_check(handle, &context) : current_context(&context);
    if (result)
        return result;
    if (!id)
        return CUDA_ERROR_INVALID_VALUE;
    *id = context->id;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetApiVersion(CUcontext handle, unsigned *version) {
    struct context *context;
    CUresult result = handle ? context_check(handle, &context) : current_context(&context);
    if (result)
        return result;
    if (!version)
        return CUDA_ERROR_INVALID_VALUE;
    *version = 3020;
    return CUDA_SUCCESS;
}

static bool limit_is_kept(CUlimit limit) {
    return limit <= CU_LIMIT_PERSISTING_L2_CACHE_SIZE;
}

CUresult cuCtxSetLimit(CUlimit limit, size_t value) {
    struct context *context;
    CUresult result = current_context(&context);
    if (result)
        return result;
    if (!limit_is_kept(limit))
        return CUDA_ERROR_UNSUPPORTED_LIMIT;
    context->limits[limit] = value;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetLimit(size_t *value, CUlimit limit) {
    struct context *context;
    CUresult result = current_context(&context);
    if (result)
        return result;
    if (!value)
        return CUDA_ERROR_INVALID_VALUE;
    if (!limit_is_kept(limit))
        return CUDA_ERROR_UNSUPPORTED_LIMIT;
    *value = context->limits[limit];
    return CUDA_SUCCESS;
}

CUresult cuCtxGetCacheConfig(CUfunc_cache *config) {
    struct context *context;
    CUresult result = current_context(&context);
    if (result)
        return result;
    if (!config)
        return CUDA_ERROR_INVALID_VALUE;
    *config = context->cache;
    return CUDA_SUCCESS;
}

CUresult cuCtxSetCacheConfig(CUfunc_cache config) {
    struct context *context;
    CUresult result = current_context(&context);
    if (!result)
        context->cache = config;
    return result;
}

CUresult cuCtxGetSharedMemConfig(CUsharedconfig *config) {
    struct context *context;
    CUresult result = current_context(&context);
    if (result)
        return result;
    if (!config)
        return CUDA_ERROR_INVALID_VALUE;
    *config = context->shared_config;
    return CUDA_SUCCESS;
}

CUresult cuCtxSetSharedMemConfig(CUsharedconfig config) {
    struct context *context;
    CUresult result = current_context(&context);
    if (!result)
        context->shared_config = config;
    return result;
}

CUresult cuCtxGetStreamPriorityRange(int *least, int *greatest) {
    struct context *context;
    CUresult result = current_context(&context);
    if (result)
        return result;
    if (least)
        *least = 0;
    if (greatest)
        *greatest = -5;
    return CUDA_SUCCESS;
}

CUresult cuCtxResetPersistingL2Cache(void) {
    struct context *context;
    return current_context(&context);
}

CUresult cuCtxGetExecAffinity(CUexecAffinityParam *affinity, CUexecAffinityType type) {
    struct context *context;
    CUresult result = current_context(&context);
    if (result)
        return result;
    if (!affinity)
        return CUDA_ERROR_INVALID_VALUE;
    if (type != CU_EXEC_AFFINITY_TYPE_SM_COUNT)
        return CUDA_ERROR_UNSUPPORTED_EXEC_AFFINITY;
    affinity->type = type;
    affinity->param.smCount.val = engine_gpu(context->gpu)->sm_count;
    return CUDA_SUCCESS;
}
