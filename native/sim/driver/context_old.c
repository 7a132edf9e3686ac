/* Contexts as CUDA 2 counted them. */
#include "context.h"

CUresult cuCtxAttach(CUcontext *handle, unsigned flags) {
    struct context *context;
    CUresult result = current_context(&context);
    if (result)
        return result;
    if (!handle || flags)
        return CUDA_ERROR_INVALID_VALUE;
    lock_driver();
    context->attached++;
    unlock_driver();
    *handle = (CUcontext)context;
    return CUDA_SUCCESS;
}

CUresult cuCtxDetach(CUcontext handle) {
    struct context *context;
    CUresult result = require_init();
    if (!result)
        result = context_check(handle, &context);
    if (result)
        return result;
    lock_driver();
    bool counted = context->attached != 0;
    if (counted)
        context->attached--;
    unlock_driver();
    return counted ? CUDA_SUCCESS : cuCtxDestroy_v2(handle);
}
