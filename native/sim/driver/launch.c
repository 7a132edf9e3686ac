/* The launch calls, newest to oldest. */
#include <stdlib.h>
#include <string.h>

#include "capture.h"
#include "kernel.h"

#define OLD_ARGUMENT_BYTES 4096u

static CUresult enqueue(CUstream stream, struct work *work) {
    struct stream *found;
    CUresult result = stream_find(stream, &found);
    if (!result && found->context != work->kernel.function->module->context)
        result = CUDA_ERROR_INVALID_HANDLE;
    if (!result && work->kernel.cooperative)
        result = kernel_check_cooperative(&work->kernel);
    if (!result)
        return work_enqueue(stream, work);
    work_free(work);
    return result;
}

static CUresult launch(CUfunction function, const uint32_t grid[3], const uint32_t block[3], uint32_t shared_bytes,
                       CUstream stream, void **parameters, void **extra, bool cooperative) {
    struct context *context;
    CUresult result = current_context(&context);
    if (result)
        return result;
    struct work work = {.kind = WORK_KERNEL};
    result = kernel_fill(&work.kernel, function, grid, block, shared_bytes, parameters, extra);
    if (result)
        return result;
    work.kernel.cooperative = cooperative;
    return enqueue(stream, &work);
}

CUresult cuLaunchKernel(CUfunction function, unsigned gridX, unsigned gridY, unsigned gridZ, unsigned blockX,
                        unsigned blockY, unsigned blockZ, unsigned shared_bytes, CUstream stream, void **parameters,
                        void **extra) {
    return launch(function, (uint32_t[3]){gridX, gridY, gridZ}, (uint32_t[3]){blockX, blockY, blockZ}, shared_bytes,
                  stream, parameters, extra, false);
}

CUresult cuLaunchCooperativeKernel(CUfunction function, unsigned gridX, unsigned gridY, unsigned gridZ, unsigned blockX,
                                   unsigned blockY, unsigned blockZ, unsigned shared_bytes, CUstream stream,
                                   void **parameters) {
    return launch(function, (uint32_t[3]){gridX, gridY, gridZ}, (uint32_t[3]){blockX, blockY, blockZ}, shared_bytes,
                  stream, parameters, NULL, true);
}

CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction function, void **parameters, void **extra) {
    struct context *context;
    CUresult result = current_context(&context);
    if (result)
        return result;
    if (!config || (config->numAttrs && !config->attrs))
        return CUDA_ERROR_INVALID_VALUE;
    struct work work = {.kind = WORK_KERNEL};
    result = kernel_fill(&work.kernel, function, (uint32_t[3]){config->gridDimX, config->gridDimY, config->gridDimZ},
                         (uint32_t[3]){config->blockDimX, config->blockDimY, config->blockDimZ}, config->sharedMemBytes,
                         parameters, extra);
    if (result)
        return result;
    for (unsigned i = 0; i < config->numAttrs; i++) {
        const CUlaunchAttribute *attribute = &config->attrs[i];
        if (attribute->id == CU_LAUNCH_ATTRIBUTE_COOPERATIVE)
            work.kernel.cooperative = attribute->value.cooperative != 0;
        if (attribute->id == CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT)
            work.kernel.completion = attribute->value.programmaticEvent.event;
        if (attribute->id == CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT)
            work.kernel.completion = attribute->value.launchCompletionEvent.event;
    }
    return enqueue(config->hStream, &work);
}

CUresult cuLaunchCooperativeKernelMultiDevice(CUDA_LAUNCH_PARAMS *launches, unsigned count, unsigned flags) {
    CUresult result = require_init();
    if (result)
        return result;
    if (!launches || !count || flags > 3)
        return CUDA_ERROR_INVALID_VALUE;
    for (unsigned i = 0; !result && i < count; i++) {
        const CUDA_LAUNCH_PARAMS *one = &launches[i];
        struct work work = {.kind = WORK_KERNEL};
        result = kernel_fill(&work.kernel, one->function, (uint32_t[3]){one->gridDimX, one->gridDimY, one->gridDimZ},
                             (uint32_t[3]){one->blockDimX, one->blockDimY, one->blockDimZ}, one->sharedMemBytes,
                             one->kernelParams, NULL);
        if (result)
            break;
        work.kernel.cooperative = true;
        result = enqueue(one->hStream, &work);
    }
    return result;
}

/* --- the interface of CUDA 2 and 3: a function carries its own block shape and arguments ------------------------- */

static CUresult old_function(CUfunction handle, struct function **ret_function) {
    CUresult result = require_init();
    if (result)
        return result;
    *ret_function = function_check(handle);
    return *ret_function ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuFuncSetBlockShape(CUfunction handle, int x, int y, int z) {
    struct function *function;
    CUresult result = old_function(handle, &function);
    if (result)
        return result;
    if (x <= 0 || y <= 0 || z <= 0)
        return CUDA_ERROR_INVALID_VALUE;
    function->old.block[0] = (uint32_t)x;
    function->old.block[1] = (uint32_t)y;
    function->old.block[2] = (uint32_t)z;
    return CUDA_SUCCESS;
}

CUresult cuFuncSetSharedSize(CUfunction handle, unsigned bytes) {
    struct function *function;
    CUresult result = old_function(handle, &function);
    if (!result)
        function->old.shared_bytes = bytes;
    return result;
}

CUresult cuParamSetSize(CUfunction handle, unsigned bytes) {
    struct function *function;
    CUresult result = old_function(handle, &function);
    if (result)
        return result;
    if (bytes > OLD_ARGUMENT_BYTES)
        return CUDA_ERROR_INVALID_VALUE;
    function->old.argument_bytes = bytes;
    return CUDA_SUCCESS;
}

CUresult cuParamSetv(CUfunction handle, int offset, void *data, unsigned bytes) {
    struct function *function;
    CUresult result = old_function(handle, &function);
    if (result)
        return result;
    if (!data || offset < 0 || (size_t)offset + bytes > OLD_ARGUMENT_BYTES)
        return CUDA_ERROR_INVALID_VALUE;
    if (!function->old.arguments)
        function->old.arguments = calloc(1, OLD_ARGUMENT_BYTES);
    if (!function->old.arguments)
        return CUDA_ERROR_OUT_OF_MEMORY;
    memcpy(function->old.arguments + offset, data, bytes);
    return CUDA_SUCCESS;
}
CUresult cuParamSeti(CUfunction handle, int offset, unsigned value) {
    return cuParamSetv(handle, offset, &value, sizeof value);
}
CUresult cuParamSetf(CUfunction handle, int offset, float value) {
    return cuParamSetv(handle, offset, &value, sizeof value);
}

CUresult cuLaunchGridAsync(CUfunction handle, int width, int height, CUstream stream) {
    struct function *function;
    CUresult result = old_function(handle, &function);
    if (result)
        return result;
    if (width <= 0 || height <= 0)
        return CUDA_ERROR_INVALID_VALUE;
    size_t bytes = function->old.argument_bytes;
    void *extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, function->old.arguments, CU_LAUNCH_PARAM_BUFFER_SIZE, &bytes,
                     CU_LAUNCH_PARAM_END};
    return launch(handle, (uint32_t[3]){(uint32_t)width, (uint32_t)height, 1}, function->old.block,
                  function->old.shared_bytes, stream, NULL, bytes ? extra : NULL, false);
}
CUresult cuLaunchGrid(CUfunction handle, int width, int height) {
    return cuLaunchGridAsync(handle, width, height, CU_STREAM_LEGACY);
}
CUresult cuLaunch(CUfunction handle) {
    return cuLaunchGridAsync(handle, 1, 1, CU_STREAM_LEGACY);
}
