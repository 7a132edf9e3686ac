/* Memory of cuMemAlloc in two processes. Linear memory is private to its process, so what is shared changes its kind
 * under its address: a physical handle of the node takes its bytes and its place. */
#include "ipc.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SHAREABLE_BYTES (UINT64_C(1) << 20) /* what is smaller lies in a block with other allocations */

/* What a CUipcMemHandle holds. */
struct ipc_handle {
    uint64_t id, bytes;
};
_Static_assert(sizeof(struct ipc_handle) <= sizeof(CUipcMemHandle), "an IPC handle has 64 bytes");

static uint64_t whole_blocks(uint64_t bytes) {
    return (bytes + ENGINE_BLOCK_BYTES - 1) / ENGINE_BLOCK_BYTES * ENGINE_BLOCK_BYTES;
}

void restore_private(uint64_t address, uint64_t bytes) {
    mmap((void *)address, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
         0);
    madvise((void *)address, bytes, MADV_DONTFORK);
    madvise((void *)address, bytes, MADV_DONTDUMP);
}

/* Moves the bytes at [base, base + bytes) into the file of `physical` and maps it in their place. */
static CUresult replace(uint64_t base, uint64_t bytes, struct engine_physical *physical) {
    int file;
    CUresult result = from_errno(engine_physical_export_fd(physical, &file));
    if (result)
        return result;
    void *copy = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (copy != MAP_FAILED) {
        memcpy(copy, (void *)base, bytes);
        munmap(copy, bytes);
        if (mmap((void *)base, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0) == MAP_FAILED)
            result = CUDA_ERROR_OUT_OF_MEMORY;
    } else {
        result = CUDA_ERROR_OUT_OF_MEMORY;
    }
    close(file);
    return result;
}

static CUresult share(struct allocation *allocation) {
    uint64_t bytes = whole_blocks(allocation->bytes);
    struct engine_physical *physical;
    /* The handle pays for the blocks from here on; nobody can take them in between who would not also without us. */
    engine_memory_release(allocation->gpu, bytes);
    CUresult result = from_errno(engine_physical_create(allocation->gpu, bytes, &physical));
    if (!result && (result = replace(allocation->base, bytes, physical)))
        engine_physical_release(physical);
    if (result)
        engine_memory_reserve(allocation->gpu, bytes);
    else
        allocation->owner = physical;
    return result;
}

CUresult cuIpcGetMemHandle(CUipcMemHandle *handle, CUdeviceptr address) {
    CUresult result = require_init();
    if (result)
        return result;
    if (!handle)
        return CUDA_ERROR_INVALID_VALUE;
    for (unsigned device = 0; device < device_count(); device++) /* nothing may write while the bytes move */
        engine_gpu_wait((unsigned)device_gpu((CUdevice)device), false);
    lock_driver();
    struct allocation *allocation = allocation_find(address);
    if (!allocation || allocation->kind != ALLOCATION_LINEAR)
        result = CUDA_ERROR_INVALID_VALUE;
    else if (allocation->bytes < SHAREABLE_BYTES)
        result = CUDA_ERROR_NOT_SUPPORTED;
    else if (!allocation->owner)
        result = share(allocation);
    if (!result) {
        struct ipc_handle named = {engine_physical_id(allocation->owner), allocation->bytes};
        memset(handle, 0, sizeof *handle);
        memcpy(handle, &named, sizeof named);
    }
    unlock_driver();
    return result;
}

void ipc_free_shared(struct allocation *allocation) {
    uint64_t bytes = whole_blocks(allocation->bytes);
    restore_private(allocation->base, bytes);
    engine_physical_release(allocation->owner);
    /* The engine gives back blocks for the address. When the card is full of what others hold of it, there are none to
     * lend, and the address stays taken until the process ends. */
    if (!engine_memory_reserve(allocation->gpu, bytes))
        engine_memory_free(allocation->base);
}

CUresult cuIpcOpenMemHandle_v2(CUdeviceptr *ret_address, CUipcMemHandle handle, unsigned flags) {
    struct context *context;
    CUresult result = current_context(&context);
    if (result)
        return result;
    if (!ret_address || flags != CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS)
        return CUDA_ERROR_INVALID_VALUE;
    struct ipc_handle named;
    memcpy(&named, &handle, sizeof named);
    struct engine_physical *physical;
    if (engine_physical_import(named.id, &physical))
        return CUDA_ERROR_INVALID_HANDLE;
    uint64_t bytes = engine_physical_bytes(physical), address = 0;
    struct allocation like = {.bytes = named.bytes,
                              .kind = ALLOCATION_IPC,
                              .gpu = engine_physical_gpu(physical),
                              .context = context,
                              .owner = physical};
    result = from_errno(engine_address_reserve(bytes, 0, 0, &address));
    if (!result)
        result = from_errno(engine_address_map(address, bytes, physical, 0));
    like.base = address;
    lock_driver();
    if (!result && !allocation_add(&like))
        result = CUDA_ERROR_OUT_OF_MEMORY;
    unlock_driver();
    if (!result) {
        *ret_address = address;
        return CUDA_SUCCESS;
    }
    if (address) {
        engine_address_unmap(address, bytes);
        engine_address_free(address, bytes);
    }
    engine_physical_release(physical);
    return result;
}
CUresult cuIpcOpenMemHandle(CUdeviceptr *address, CUipcMemHandle handle, unsigned flags) {
    return cuIpcOpenMemHandle_v2(address, handle, flags);
}

CUresult cuIpcCloseMemHandle(CUdeviceptr address) {
    CUresult result = require_init();
    if (result)
        return result;
    for (unsigned device = 0; device < device_count(); device++)
        engine_gpu_wait((unsigned)device_gpu((CUdevice)device), false);
    return allocation_unmake(address, ALLOCATION_IPC);
}
