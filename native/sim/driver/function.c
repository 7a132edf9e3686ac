/* What a kernel can be asked and told, and how many of its blocks fit. */
#include <string.h>

#include "kernel.h"

static CUresult find(const void *handle, struct function **ret_function) {
    CUresult result = require_init();
    if (result)
        return result;
    *ret_function = function_check(handle);
    return *ret_function ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

static CUresult get_attribute(int *value, CUfunction_attribute attribute, const void *handle) {
    struct function *function;
    CUresult result = find(handle, &function);
    if (result)
        return result;
    if (!value || attribute < 0 || attribute >= CU_FUNC_ATTRIBUTE_MAX)
        return CUDA_ERROR_INVALID_VALUE;
    *value = function->attributes[attribute];
    return CUDA_SUCCESS;
}

static CUresult set_attribute(const void *handle, CUfunction_attribute attribute, int value) {
    struct function *function;
    CUresult result = find(handle, &function);
    if (result)
        return result;
    if (attribute < CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES || attribute >= CU_FUNC_ATTRIBUTE_MAX)
        return CUDA_ERROR_INVALID_VALUE;
    const struct sim_gpu *gpu = engine_gpu(function->module->context->gpu);
    if (attribute == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES &&
        (value < 0 || (uint32_t)value + function->image->shared_bytes > gpu->shared_bytes_per_block_optin))
        return CUDA_ERROR_INVALID_VALUE;
    function->attributes[attribute] = value;
    return CUDA_SUCCESS;
}

static CUresult parameter(const void *handle, size_t index, size_t *offset, size_t *bytes) {
    struct function *function;
    CUresult result = find(handle, &function);
    if (result)
        return result;
    if (!offset || index >= function->image->parameter_count)
        return CUDA_ERROR_INVALID_VALUE;
    *offset = function->image->parameters[index].offset;
    if (bytes)
        *bytes = function->image->parameters[index].size;
    return CUDA_SUCCESS;
}

static CUresult parameter_count(const void *handle, size_t *count) {
    struct function *function;
    CUresult result = find(handle, &function);
    if (result)
        return result;
    if (!count)
        return CUDA_ERROR_INVALID_VALUE;
    *count = function->image->parameter_count;
    return CUDA_SUCCESS;
}

CUresult cuFuncGetAttribute(int *value, CUfunction_attribute attribute, CUfunction function) {
    return get_attribute(value, attribute, function);
}
CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value) {
    return set_attribute(function, attribute, value);
}
CUresult cuFuncGetParamInfo(CUfunction function, size_t index, size_t *offset, size_t *bytes) {
    return parameter(function, index, offset, bytes);
}
CUresult cuFuncGetParamCount(CUfunction function, size_t *count) {
    return parameter_count(function, count);
}
CUresult cuKernelGetAttribute(int *value, CUfunction_attribute attribute, CUkernel kernel, CUdevice device) {
    if (!require_init() && device_gpu(device) < 0)
        return CUDA_ERROR_INVALID_DEVICE;
    return get_attribute(value, attribute, kernel);
}
CUresult cuKernelSetAttribute(CUfunction_attribute attribute, int value, CUkernel kernel, CUdevice device) {
    if (!require_init() && device_gpu(device) < 0)
        return CUDA_ERROR_INVALID_DEVICE;
    return set_attribute(kernel, attribute, value);
}
CUresult cuKernelGetParamInfo(CUkernel kernel, size_t index, size_t *offset, size_t *bytes) {
    return parameter(kernel, index, offset, bytes);
}
CUresult cuKernelGetParamCount(CUkernel kernel, size_t *count) {
    return parameter_count(kernel, count);
}

CUresult cuFuncSetCacheConfig(CUfunction handle, CUfunc_cache config) {
    struct function *function;
    CUresult result = find(handle, &function);
    if (!result)
        function->cache = config;
    return result;
}
CUresult cuKernelSetCacheConfig(CUkernel kernel, CUfunc_cache config, CUdevice device) {
    if (!require_init() && device_gpu(device) < 0)
        return CUDA_ERROR_INVALID_DEVICE;
    return cuFuncSetCacheConfig((CUfunction)kernel, config);
}
CUresult cuFuncSetSharedMemConfig(CUfunction handle, CUsharedconfig config) {
    struct function *function;
    (void)config;
    return find(handle, &function);
}

CUresult cuFuncGetModule(CUmodule *module, CUfunction handle) {
    struct function *function;
    CUresult result = find(handle, &function);
    if (result)
        return result;
    if (!module)
        return CUDA_ERROR_INVALID_VALUE;
    *module = (CUmodule)function->module;
    return CUDA_SUCCESS;
}

CUresult cuFuncGetName(const char **name, CUfunction handle) {
    struct function *function;
    CUresult result = find(handle, &function);
    if (result)
        return result;
    if (!name)
        return CUDA_ERROR_INVALID_VALUE;
    *name = function->image->name;
    return CUDA_SUCCESS;
}

CUresult cuFuncIsLoaded(CUfunctionLoadingState *state, CUfunction handle) {
    struct function *function;
    CUresult result = find(handle, &function);
    if (result)
        return result;
    if (!state)
        return CUDA_ERROR_INVALID_VALUE;
    *state = function->module->loaded ? CU_FUNCTION_LOADING_STATE_LOADED : CU_FUNCTION_LOADING_STATE_UNLOADED;
    return CUDA_SUCCESS;
}
CUresult cuFuncLoad(CUfunction handle) {
    struct function *function;
    CUresult result = find(handle, &function);
    return result ? result : function_load(function);
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *count, CUfunction handle, int threads,
                                                              size_t shared_bytes, unsigned flags) {
    struct function *function;
    CUresult result = find(handle, &function);
    if (result)
        return result;
    if (!count || threads <= 0 || flags > CU_OCCUPANCY_DISABLE_CACHING_OVERRIDE)
        return CUDA_ERROR_INVALID_VALUE;
    const struct sim_gpu *gpu = engine_gpu(function->module->context->gpu);
    bool fits = threads <= function->attributes[CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK];
    *count = fits ? (int)kernel_blocks_per_sm(gpu, function, (uint32_t)threads, shared_bytes) : 0;
    return CUDA_SUCCESS;
}
CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *count, CUfunction function, int threads,
                                                     size_t shared_bytes) {
    return cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(count, function, threads, shared_bytes, 0);
}

CUresult cuOccupancyMaxPotentialBlockSizeWithFlags(int *ret_grid, int *ret_block, CUfunction handle,
                                                   CUoccupancyB2DSize shared_of, size_t shared_bytes, int limit,
                                                   unsigned flags) {
    struct function *function;
    CUresult result = find(handle, &function);
    if (result)
        return result;
    if (!ret_grid || !ret_block || flags > CU_OCCUPANCY_DISABLE_CACHING_OVERRIDE)
        return CUDA_ERROR_INVALID_VALUE;
    const struct sim_gpu *gpu = engine_gpu(function->module->context->gpu);
    int most = function->attributes[CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK];
    if (limit > 0 && limit < most)
        most = limit;
    uint32_t best_threads = 0, best_blocks = 0, best_size = 0;
    for (int size = (most + 31) / 32 * 32; size > 0; size -= 32) {
        uint32_t threads = (uint32_t)(size < most ? size : most);
        size_t shared = shared_of ? shared_of((int)threads) : shared_bytes;
        uint32_t blocks = kernel_blocks_per_sm(gpu, function, threads, shared);
        if (blocks * threads <= best_threads)
            continue;
        best_threads = blocks * threads;
        best_blocks = blocks;
        best_size = threads;
    }
    if (!best_size)
        return CUDA_ERROR_INVALID_VALUE;
    *ret_block = (int)best_size;
    *ret_grid = (int)(best_blocks * gpu->sm_count);
    return CUDA_SUCCESS;
}
CUresult cuOccupancyMaxPotentialBlockSize(int *grid, int *block, CUfunction function, CUoccupancyB2DSize shared_of,
                                          size_t shared_bytes, int limit) {
    return cuOccupancyMaxPotentialBlockSizeWithFlags(grid, block, function, shared_of, shared_bytes, limit, 0);
}

CUresult cuOccupancyAvailableDynamicSMemPerBlock(size_t *bytes, CUfunction handle, int blocks, int threads) {
    struct function *function;
    CUresult result = find(handle, &function);
    if (result)
        return result;
    if (!bytes || blocks <= 0 || threads <= 0)
        return CUDA_ERROR_INVALID_VALUE;
    const struct sim_gpu *gpu = engine_gpu(function->module->context->gpu);
    size_t each = gpu->shared_bytes_per_sm / (uint32_t)blocks, most = gpu->shared_bytes_per_block_optin;
    if (each > most)
        each = most;
    *bytes = each > function->image->shared_bytes ? each - function->image->shared_bytes : 0;
    return CUDA_SUCCESS;
}

/* A cluster needs Hopper; 8 blocks are the portable most. */
CUresult cuOccupancyMaxPotentialClusterSize(int *size, CUfunction handle, const CUlaunchConfig *config) {
    struct function *function;
    CUresult result = find(handle, &function);
    if (result)
        return result;
    if (!size || !config)
        return CUDA_ERROR_INVALID_VALUE;
    if (engine_gpu(function->module->context->gpu)->compute_major < 9)
        return CUDA_ERROR_NOT_SUPPORTED;
    *size = function->attributes[CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED] ? 16 : 8;
    return CUDA_SUCCESS;
}
