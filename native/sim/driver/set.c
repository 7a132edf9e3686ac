/* Memsets: a word of 1, 2 or 4 bytes, over rows. */
#include <stdlib.h>
#include <string.h>

#include "capture.h"

static void set_rows(void *arg, const struct engine_times *times) {
    (void)times;
    struct work_set *set = arg;
    for (size_t row = 0; row < set->height; row++) {
        unsigned char *at = set->target + row * set->pitch;
        if (set->element == 1) {
            memset(at, (int)set->value, set->width);
        } else if (set->element == 2) {
            for (size_t i = 0; i < set->width; i++)
                ((uint16_t *)at)[i] = (uint16_t)set->value;
        } else {
            for (size_t i = 0; i < set->width; i++)
                ((uint32_t *)at)[i] = set->value;
        }
    }
    engine_memory_written(set->gpu, (uint64_t)set->target, set->pitch * (set->height - 1) + set->width * set->element);
    free(set);
}

CUresult set_fill(struct work_set *ret_set, const CUDA_MEMSET_NODE_PARAMS *asked) {
    struct work_set set = {.target = (unsigned char *)asked->dst,
                           .pitch = asked->pitch,
                           .width = asked->width,
                           .height = asked->height,
                           .element = asked->elementSize,
                           .value = asked->value};
    if (set.element != 1 && set.element != 2 && set.element != 4)
        return CUDA_ERROR_INVALID_VALUE;
    size_t row = set.width * set.element;
    if (set.height <= 1)
        set.pitch = row;
    if (set.pitch < row || asked->dst % set.element || set.pitch % set.element)
        return CUDA_ERROR_INVALID_VALUE;
    if (row && set.height) {
        size_t bytes = set.pitch * (set.height - 1) + row;
        lock_driver();
        struct host_range *host = host_range_find(asked->dst);
        bool pinned = host && asked->dst + bytes <= host->base + host->bytes;
        unlock_driver();
        if (!pinned && !device_range(asked->dst, bytes, &set.gpu))
            return CUDA_ERROR_INVALID_VALUE;
    }
    *ret_set = set;
    return CUDA_SUCCESS;
}

CUresult set_run(struct stream *stream, const struct work_set *set) {
    if (!set->width || !set->height)
        return CUDA_SUCCESS;
    struct work_set *copy = malloc(sizeof *copy);
    if (!copy)
        return CUDA_ERROR_OUT_OF_MEMORY;
    *copy = *set;
    struct engine_op op = {.kind = ENGINE_OP_DEVICE_COPY,
                           .bytes = set->width * set->element * set->height,
                           .effect = set_rows,
                           .arg = copy};
    CUresult result = stream_submit(stream, &op, NULL);
    if (result)
        free(copy);
    return result;
}

static CUresult set(CUdeviceptr target, size_t pitch, unsigned value, unsigned element, size_t width, size_t height,
                    CUstream stream) {
    struct context *context;
    CUresult result = current_context(&context);
    if (result)
        return result;
    CUDA_MEMSET_NODE_PARAMS asked = {target, pitch, value, element, width, height};
    struct work work = {.kind = WORK_SET};
    result = set_fill(&work.set, &asked);
    return result ? result : work_enqueue(stream, &work);
}

static CUresult set_now(CUdeviceptr target, size_t pitch, unsigned value, unsigned element, size_t width, size_t height,
                        CUstream handle) {
    struct stream *stream;
    CUresult result = stream_find(handle, &stream);
    if (!result)
        result = capture_forbids_stream(stream);
    return result ? result : set(target, pitch, value, element, width, height, handle);
}

#define WIDTH(bits, type)                                                                                              \
    CUresult cuMemsetD##bits##_v2(CUdeviceptr target, type value, size_t count) {                                      \
        return set_now(target, 0, value, bits / 8, count, 1, CU_STREAM_LEGACY);                                        \
    }                                                                                                                  \
    CUresult cuMemsetD##bits##_v2_ptds(CUdeviceptr target, type value, size_t count) {                                 \
        return set_now(target, 0, value, bits / 8, count, 1, CU_STREAM_PER_THREAD);                                    \
    }                                                                                                                  \
    CUresult cuMemsetD##bits##Async(CUdeviceptr target, type value, size_t count, CUstream stream) {                   \
        return set(target, 0, value, bits / 8, count, 1, stream);                                                      \
    }                                                                                                                  \
    CUresult cuMemsetD2D##bits##_v2(CUdeviceptr target, size_t pitch, type value, size_t width, size_t height) {       \
        return set_now(target, pitch, value, bits / 8, width, height, CU_STREAM_LEGACY);                               \
    }                                                                                                                  \
    CUresult cuMemsetD2D##bits##_v2_ptds(CUdeviceptr target, size_t pitch, type value, size_t width, size_t height) {  \
        return set_now(target, pitch, value, bits / 8, width, height, CU_STREAM_PER_THREAD);                           \
    }                                                                                                                  \
    CUresult cuMemsetD2D##bits##Async(CUdeviceptr target, size_t pitch, type value, size_t width, size_t height,       \
                                      CUstream stream) {                                                               \
        return set(target, pitch, value, bits / 8, width, height, stream);                                             \
    }

WIDTH(8, unsigned char)
WIDTH(16, unsigned short)
WIDTH(32, unsigned)
