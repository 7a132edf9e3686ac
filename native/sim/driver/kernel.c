/* Launching a kernel.
 *
 * The cost model of a kernel that this library does not know by name: its blocks go over the GPU in waves, as many at
 * a time as the multiprocessors hold, and each wave takes WAVE_NS. A grid that does not fill the GPU leaves the rest
 * to the kernels of other streams of the process.
 */
#include "kernel.h"

#include <stdlib.h>
#include <string.h>

#include "capture.h"

#define XID_PAGE_FAULT 31
#define WAVE_NS UINT64_C(4000)
#define MAX_THREADS 1024u
#define SHARED_DEFAULT 49152u
#define REGISTERS_ALLOCATED_AT_ONCE 256u /* of a warp */

void function_init(struct function *function, struct module *module, const struct image_function *image) {
    *function =
        (struct function){.magic = MAGIC_FUNCTION, .module = module, .image = image, .body = kernel_body_find(image)};
    int *attributes = function->attributes;
    attributes[CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK] = (int)(image->max_threads ? image->max_threads : MAX_THREADS);
    attributes[CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES] = (int)image->shared_bytes;
    attributes[CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES] = (int)image->local_bytes;
    attributes[CU_FUNC_ATTRIBUTE_NUM_REGS] = (int)image->registers;
    attributes[CU_FUNC_ATTRIBUTE_PTX_VERSION] = (int)image->ptx_version;
    attributes[CU_FUNC_ATTRIBUTE_BINARY_VERSION] = (int)image->ptx_version;
    attributes[CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES] =
        (int)(image->shared_bytes < SHARED_DEFAULT ? SHARED_DEFAULT - image->shared_bytes : 0);
    attributes[CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT] = -1;
}

struct function *function_check(const void *handle) {
    if (is_live(handle, MAGIC_FUNCTION))
        return (struct function *)handle;
    struct function *function;
    if (is_live(handle, MAGIC_KERNEL) && !library_function(handle, &function))
        return function;
    return NULL;
}

static uint32_t least(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

uint32_t kernel_blocks_per_sm(const struct sim_gpu *gpu, const struct function *function, uint32_t threads,
                              uint64_t dynamic_shared_bytes) {
    uint32_t warps = (threads + 31) / 32;
    uint32_t blocks = least(gpu->blocks_per_sm, gpu->threads_per_sm / 32 / warps);
    uint64_t shared = function->image->shared_bytes + dynamic_shared_bytes;
    if (shared)
        blocks = least(blocks, (uint32_t)(gpu->shared_bytes_per_sm / shared));
    uint32_t registers = function->image->registers * 32 + REGISTERS_ALLOCATED_AT_ONCE - 1;
    registers -= registers % REGISTERS_ALLOCATED_AT_ONCE;
    if (registers)
        blocks = least(blocks, gpu->registers_per_sm / (registers * warps));
    return blocks;
}

struct body_call {
    const struct kernel_body *body;
    struct context *context;
    _Alignas(16) unsigned char arguments[];
};
static void run_body(void *arg, const struct engine_times *times) {
    (void)times;
    struct body_call *call = arg;
    /* The real one ends the context the same way: every later call answers the error. */
    if (!call->body->run(call->context->gpu, call->arguments)) {
        atomic_store(&call->context->error, CUDA_ERROR_ILLEGAL_ADDRESS);
        engine_gpu_report(call->context->gpu, XID_PAGE_FAULT);
    }
    free(call);
}

static void model(const struct sim_gpu *gpu, const struct work_kernel *kernel, struct engine_op *op) {
    const struct function *function = kernel->function;
    if (function->body) {
        op->cost_ns = function->body->cost_ns(gpu, kernel->arguments);
        op->occupancy = function->body->occupancy;
        return;
    }
    uint64_t blocks = (uint64_t)kernel->grid[0] * kernel->grid[1] * kernel->grid[2];
    uint32_t threads = kernel->block[0] * kernel->block[1] * kernel->block[2];
    uint32_t per_sm = kernel_blocks_per_sm(gpu, function, threads, kernel->shared_bytes);
    uint64_t at_once = (uint64_t)(per_sm ? per_sm : 1) * gpu->sm_count;
    op->cost_ns = (blocks + at_once - 1) / at_once * WAVE_NS;
    op->occupancy = blocks < at_once ? (double)blocks / (double)at_once : 1.0;
}

CUresult kernel_run(struct stream *stream, const struct work_kernel *kernel) {
    const struct kernel_body *body = kernel->function->body;
    struct engine_op op = {.kind = ENGINE_OP_KERNEL};
    CUresult result = function_load(kernel->function);
    if (result)
        return result;
    model(engine_gpu(stream->context->gpu), kernel, &op);
    struct body_call *call = NULL;
    if (body && body->run) {
        call = malloc(sizeof *call + kernel->argument_bytes);
        if (!call)
            return CUDA_ERROR_OUT_OF_MEMORY;
        *call = (struct body_call){.body = body, .context = stream->context};
        memcpy(call->arguments, kernel->arguments, kernel->argument_bytes);
        op.effect = run_body;
        op.arg = call;
    }
    result = stream_submit(stream, &op, NULL);
    if (result) {
        free(call);
        return result;
    }
    struct event *completion = kernel->completion ? event_check(kernel->completion) : NULL;
    return completion ? event_record(stream, completion) : CUDA_SUCCESS;
}

static CUresult check_shape(const struct function *function, const struct work_kernel *kernel) {
    const uint32_t *grid = kernel->grid, *block = kernel->block;
    const struct sim_gpu *gpu = engine_gpu(function->module->context->gpu);
    for (int i = 0; i < 3; i++)
        if (!grid[i] || !block[i])
            return CUDA_ERROR_INVALID_VALUE;
    if (grid[0] > INT32_MAX || grid[1] > 65535 || grid[2] > 65535)
        return CUDA_ERROR_INVALID_VALUE;
    if (block[0] > MAX_THREADS || block[1] > MAX_THREADS || block[2] > 64)
        return CUDA_ERROR_INVALID_VALUE;
    uint32_t threads = block[0] * block[1] * block[2];
    if (threads > (uint32_t)function->attributes[CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK])
        return CUDA_ERROR_INVALID_VALUE;
    if (kernel->shared_bytes > (uint32_t)function->attributes[CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES])
        return CUDA_ERROR_INVALID_VALUE;
    uint32_t per_sm = kernel_blocks_per_sm(gpu, function, threads, kernel->shared_bytes);
    if (!per_sm)
        return CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
    return CUDA_SUCCESS;
}

CUresult kernel_check_cooperative(const struct work_kernel *kernel) {
    const struct sim_gpu *gpu = engine_gpu(kernel->function->module->context->gpu);
    uint32_t threads = kernel->block[0] * kernel->block[1] * kernel->block[2];
    uint64_t at_once =
        (uint64_t)kernel_blocks_per_sm(gpu, kernel->function, threads, kernel->shared_bytes) * gpu->sm_count;
    uint64_t blocks = (uint64_t)kernel->grid[0] * kernel->grid[1] * kernel->grid[2];
    return blocks > at_once ? CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE : CUDA_SUCCESS;
}

/* The block of arguments that `extra` names: pairs of a key and a value, then CU_LAUNCH_PARAM_END. */
static CUresult take_extra(void **extra, unsigned char *arguments, uint32_t bytes) {
    const void *buffer = NULL;
    size_t size = 0;
    for (void **at = extra; *at != CU_LAUNCH_PARAM_END; at += 2) {
        if (*at == CU_LAUNCH_PARAM_BUFFER_POINTER)
            buffer = at[1];
        else if (*at == CU_LAUNCH_PARAM_BUFFER_SIZE && at[1])
            size = *(size_t *)at[1];
        else
            return CUDA_ERROR_INVALID_VALUE;
    }
    if ((!buffer || !size) && bytes)
        return CUDA_ERROR_INVALID_VALUE;
    if (buffer)
        memcpy(arguments, buffer, size < bytes ? size : bytes);
    return CUDA_SUCCESS;
}

CUresult kernel_fill(struct work_kernel *ret_kernel, CUfunction handle, const uint32_t grid[3], const uint32_t block[3],
                     uint32_t shared_bytes, void **parameters, void **extra) {
    struct function *function = function_check(handle);
    if (!function)
        return CUDA_ERROR_INVALID_HANDLE;
    if (parameters && extra)
        return CUDA_ERROR_INVALID_VALUE;
    const struct image_function *image = function->image;
    uint32_t count = image->parameter_count, bytes = 0;
    if (count)
        bytes = image->parameters[count - 1].offset + image->parameters[count - 1].size;
    if (bytes && !parameters && !extra)
        return CUDA_ERROR_INVALID_VALUE;
    struct work_kernel kernel = {.function = function,
                                 .grid = {grid[0], grid[1], grid[2]},
                                 .block = {block[0], block[1], block[2]},
                                 .shared_bytes = shared_bytes,
                                 .argument_bytes = bytes};
    CUresult result = check_shape(function, &kernel);
    if (result)
        return result;
    kernel.arguments = calloc(1, bytes + 16);
    kernel.parameters = calloc(count + 1, sizeof *kernel.parameters);
    if (!kernel.arguments || !kernel.parameters)
        result = CUDA_ERROR_OUT_OF_MEMORY;
    for (uint32_t i = 0; !result && i < count; i++) {
        kernel.parameters[i] = kernel.arguments + image->parameters[i].offset;
        if (!parameters)
            continue;
        if (!parameters[i])
            result = CUDA_ERROR_INVALID_VALUE;
        else
            memcpy(kernel.parameters[i], parameters[i], image->parameters[i].size);
    }
    if (!result && extra)
        result = take_extra(extra, kernel.arguments, bytes);
    if (result) {
        free(kernel.arguments);
        free(kernel.parameters);
    } else {
        *ret_kernel = kernel;
    }
    return result;
}
