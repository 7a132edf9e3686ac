/* Host memory that the GPU can reach: allocated pinned, or registered. */
#include "memory_host.h"

#include <stdlib.h>
#include <sys/mman.h>

#define ALLOC_FLAGS (CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP | CU_MEMHOSTALLOC_WRITECOMBINED)
#define REGISTER_FLAGS                                                                                                 \
    (CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP | CU_MEMHOSTREGISTER_IOMEMORY |                        \
     CU_MEMHOSTREGISTER_READ_ONLY)

static struct host_range *ranges;

struct host_range *host_range_find(uintptr_t address) {
    for (struct host_range *range = ranges; range; range = range->next)
        if (address - range->base < range->bytes)
            return range;
    return NULL;
}

CUresult host_range_add(uintptr_t base, size_t bytes, unsigned flags, bool registered, struct context *context) {
    struct host_range *range = malloc(sizeof *range);
    if (!range)
        return CUDA_ERROR_OUT_OF_MEMORY;
    lock_driver();
    if (registered && host_range_find(base)) {
        unlock_driver();
        free(range);
        return CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
    }
    *range = (struct host_range){base, bytes, flags, registered, (CUcontext)context, ranges};
    ranges = range;
    unlock_driver();
    return CUDA_SUCCESS;
}

size_t host_range_take(uintptr_t base, bool registered) {
    size_t bytes = 0;
    lock_driver();
    for (struct host_range **link = &ranges; *link; link = &(*link)->next) {
        struct host_range *range = *link;
        if (range->base != base || range->registered != registered)
            continue;
        *link = range->next;
        bytes = range->bytes;
        free(range);
        break;
    }
    unlock_driver();
    return bytes;
}

CUresult cuMemHostAlloc(void **ret_pointer, size_t bytes, unsigned flags) {
    struct context *context;
    CUresult result = current_context_outside_capture(&context);
    if (result)
        return result;
    if (!ret_pointer || !bytes || flags & ~(unsigned)ALLOC_FLAGS)
        return CUDA_ERROR_INVALID_VALUE;
    void *pointer = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pointer == MAP_FAILED)
        return CUDA_ERROR_OUT_OF_MEMORY;
    result = host_range_add((uintptr_t)pointer, bytes, flags, false, context);
    if (result)
        munmap(pointer, bytes);
    else
        *ret_pointer = pointer;
    return result;
}
CUresult cuMemAllocHost_v2(void **pointer, size_t bytes) {
    return cuMemHostAlloc(pointer, bytes, 0);
}
CUresult cuMemAllocHost(void **pointer, unsigned bytes) {
    return cuMemHostAlloc(pointer, bytes, 0);
}

CUresult cuMemFreeHost(void *pointer) {
    CUresult result = capture_forbids();
    if (result)
        return result;
    if (!pointer)
        return CUDA_SUCCESS;
    lock_driver();
    struct host_range *range = host_range_find((uintptr_t)pointer);
    struct context *context = range && !range->registered ? (struct context *)range->context : NULL;
    unlock_driver();
    if (!context)
        return CUDA_ERROR_INVALID_VALUE;
    if (is_live(context, MAGIC_CONTEXT))
        engine_gpu_wait(context->gpu, false);
    size_t bytes = host_range_take((uintptr_t)pointer, false);
    if (!bytes)
        return CUDA_ERROR_INVALID_VALUE;
    munmap(pointer, bytes);
    return CUDA_SUCCESS;
}

CUresult cuMemHostRegister_v2(void *pointer, size_t bytes, unsigned flags) {
    struct context *context;
    CUresult result = current_context_outside_capture(&context);
    if (result)
        return result;
    if (!pointer || !bytes || flags & ~(unsigned)REGISTER_FLAGS)
        return CUDA_ERROR_INVALID_VALUE;
    return host_range_add((uintptr_t)pointer, bytes, flags, true, context);
}
CUresult cuMemHostRegister(void *pointer, size_t bytes, unsigned flags) {
    return cuMemHostRegister_v2(pointer, bytes, flags);
}

CUresult cuMemHostUnregister(void *pointer) {
    CUresult result = capture_forbids();
    if (result)
        return result;
    if (!pointer)
        return CUDA_ERROR_INVALID_VALUE;
    return host_range_take((uintptr_t)pointer, true) ? CUDA_SUCCESS : CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
}

CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr *address, void *pointer, unsigned flags) {
    CUresult result = require_init();
    if (result)
        return result;
    if (!address || flags)
        return CUDA_ERROR_INVALID_VALUE;
    lock_driver();
    bool known = host_range_find((uintptr_t)pointer) != NULL;
    unlock_driver();
    if (!known)
        return CUDA_ERROR_INVALID_VALUE;
    *address = (CUdeviceptr)pointer; /* one address for both: unified addressing */
    return CUDA_SUCCESS;
}

CUresult cuMemHostGetFlags(unsigned *flags, void *pointer) {
    CUresult result = require_init();
    if (result)
        return result;
    lock_driver();
    struct host_range *range = host_range_find((uintptr_t)pointer);
    if (range && flags)
        *flags = range->flags | (range->registered ? 0 : CU_MEMHOSTALLOC_DEVICEMAP);
    else
        result = CUDA_ERROR_INVALID_VALUE;
    unlock_driver();
    return result;
}
