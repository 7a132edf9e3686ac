/* Physical allocations (cuMemCreate), which can be mapped at several addresses and exported to other processes.
 *
 * One lives until its references, its mappings and whatever was exported of it are gone; cuMemRelease alone gives
 * nothing back. References and mappings are counted here; what was exported: see memory/export.c.
 */
#include "memory/memory.h"

#include <stdlib.h>

#define REFUSED CUDA_ERROR_OUT_OF_MEMORY

struct physical {
    CUmemGenericAllocationHandle handle;
    struct memory_gpu *gpu; /* NULL: not charged (host memory, an import, no share of that GPU) */
    uint64_t bytes;
    uint32_t references, mappings;
    bool exported;
};

/* One lock over both tables and all counts. It is never held over a call of the driver. */
static struct memory_lock lock;
static struct memory_table handles;  /* owner: struct physical */
static struct memory_table mappings; /* by address; bytes: of the mapping; owner: struct physical */

void memory_physical_forget(void) {
    lock = (struct memory_lock){0};
    memory_table_reset(&handles);
    memory_table_reset(&mappings);
}

static struct physical *find(CUmemGenericAllocationHandle handle) {
    struct memory_record record;
    return memory_table_get(&handles, handle, &record) ? record.owner : NULL;
}

static bool enter(struct physical *physical) {
    struct memory_record stale, record = {.key = physical->handle, .owner = physical};
    return memory_table_put(&handles, &record, &stale);
}

static bool is_unused(const struct physical *physical) {
    return physical->references == 0 && physical->mappings == 0;
}

/* --- the end of one ----------------------------------------------------------------------------------------- */

/* A call that may end an allocation, which is out of the table while the driver works: its handle can be somebody
 * else's as soon as it is gone. */
struct ending {
    struct physical *physical;
    struct memory_export export;
};

/* One call may end several. Then none may have the gate: the others could not begin behind it. */
static struct ending ending_begin(struct physical *physical, bool may_gate) {
    struct ending ending = {.physical = physical};
    if (physical->gpu)
        ending.export = memory_export_begin(physical->gpu, may_gate && physical->exported);
    return ending;
}

static void ending_over(const struct ending *ending) {
    if (ending->physical->gpu)
        memory_export_end(&ending->export);
}

static void ending_done(const struct ending *ending) {
    struct physical *physical = ending->physical;
    if (physical->gpu && physical->exported)
        memory_export_dropped(&ending->export, physical->bytes);
    if (physical->gpu)
        memory_refund(physical->gpu, physical->bytes, GPUSLICE_MEMORY_DATA);
    ending_over(ending);
    free(physical);
}

/* --- handles ------------------------------------------------------------------------------------------------ */

static struct physical *physical_new(struct memory_gpu *gpu, uint64_t bytes) {
    struct physical *physical = calloc(1, sizeof(*physical));
    if (physical) {
        physical->gpu = gpu;
        physical->bytes = gpu ? memory_blocks(bytes) : 0;
        physical->references = 1;
    }
    return physical;
}

/* Enters what the driver has just made; false: no host memory, and it is released again. */
static bool adopt(struct physical *physical, CUmemGenericAllocationHandle handle) {
    physical->handle = handle;
    memory_lock_take(&lock);
    bool entered = enter(physical);
    memory_lock_give(&lock);
    if (!entered)
        real.cuMemRelease(handle);
    return entered;
}

/* Charged to where it lies, whatever context is current. */
CUresult cuMemCreate(CUmemGenericAllocationHandle *handle, size_t size, const CUmemAllocationProp *prop,
                     unsigned long long flags) {
    if (!tenant_active() || !prop)
        return real.cuMemCreate(handle, size, prop, flags);
    struct memory_gpu *gpu = memory_gpu_at(&prop->location);
    struct physical *physical = physical_new(gpu, size);
    if (!physical)
        return REFUSED;
    CUresult result = REFUSED;
    uint64_t bytes = physical->bytes;
    if (gpu)
        memory_begin(gpu);
    bool reserved = !gpu || memory_reserve(gpu, memory_blocks(size), GPUSLICE_MEMORY_DATA);
    if (reserved)
        result = real.cuMemCreate(handle, size, prop, flags);
    if (result == CUDA_SUCCESS && !adopt(physical, *handle))
        result = REFUSED;
    if (result != CUDA_SUCCESS)
        free(physical);
    if (gpu && reserved && result != CUDA_SUCCESS)
        memory_refund(gpu, bytes, GPUSLICE_MEMORY_DATA);
    if (gpu)
        memory_end(gpu);
    return result;
}

/* Importing what this process holds itself gives the same handle once more. */
CUresult cuMemImportFromShareableHandle(CUmemGenericAllocationHandle *handle, void *osHandle,
                                        CUmemAllocationHandleType shHandleType) {
    CUresult result = real.cuMemImportFromShareableHandle(handle, osHandle, shHandleType);
    if (!tenant_active() || result != CUDA_SUCCESS)
        return result;
    memory_lock_take(&lock);
    struct physical *known = find(*handle);
    if (known)
        known->references++;
    memory_lock_give(&lock);
    if (known)
        return result;
    struct physical *physical = physical_new(NULL, 0);
    if (physical && adopt(physical, *handle))
        return result;
    if (!physical)
        real.cuMemRelease(*handle);
    free(physical);
    return REFUSED;
}

CUresult cuMemExportToShareableHandle(void *shareableHandle, CUmemGenericAllocationHandle handle,
                                      CUmemAllocationHandleType handleType, unsigned long long flags) {
    CUresult result = real.cuMemExportToShareableHandle(shareableHandle, handle, handleType, flags);
    if (tenant_active() && result == CUDA_SUCCESS) {
        memory_lock_take(&lock);
        struct physical *physical = find(handle);
        if (physical)
            physical->exported = true;
        memory_lock_give(&lock);
    }
    return result;
}

CUresult cuMemRelease(CUmemGenericAllocationHandle handle) {
    if (!tenant_active())
        return real.cuMemRelease(handle);
    memory_lock_take(&lock);
    struct physical *physical = find(handle);
    bool counted = physical && physical->references > 0;
    bool last = false;
    if (counted) {
        physical->references--;
        last = is_unused(physical);
        if (last)
            memory_table_take(&handles, handle, NULL);
    }
    memory_lock_give(&lock);
    struct ending ending;
    if (last)
        ending = ending_begin(physical, true);
    CUresult result = real.cuMemRelease(handle);
    if (result == CUDA_SUCCESS) {
        if (last)
            ending_done(&ending);
        return result;
    }
    memory_lock_take(&lock);
    if (last)
        enter(physical);
    if (counted)
        physical->references++;
    memory_lock_give(&lock);
    if (last)
        ending_over(&ending);
    return result;
}

CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle *handle, void *addr) {
    CUresult result = real.cuMemRetainAllocationHandle(handle, addr);
    if (tenant_active() && result == CUDA_SUCCESS) {
        memory_lock_take(&lock);
        struct physical *physical = find(*handle);
        if (physical)
            physical->references++;
        memory_lock_give(&lock);
    }
    return result;
}

/* --- mappings ----------------------------------------------------------------------------------------------- */

CUresult cuMemMap(CUdeviceptr ptr, size_t size, size_t offset, CUmemGenericAllocationHandle handle,
                  unsigned long long flags) {
    if (!tenant_active())
        return real.cuMemMap(ptr, size, offset, handle, flags);
    memory_lock_take(&lock);
    struct physical *physical = find(handle);
    if (physical)
        physical->mappings++; /* before the call, so that a release meanwhile does not end it */
    memory_lock_give(&lock);
    CUresult result = real.cuMemMap(ptr, size, offset, handle, flags);
    struct memory_record stale, record = {.key = ptr, .bytes = size, .owner = physical};
    memory_lock_take(&lock);
    bool kept = result == CUDA_SUCCESS && memory_table_put(&mappings, &record, &stale);
    if (physical && !kept)
        physical->mappings--;
    memory_lock_give(&lock);
    if (result == CUDA_SUCCESS && !kept) {
        real.cuMemUnmap(ptr, size);
        return REFUSED;
    }
    return result;
}

/* One call may unmap several neighbouring mappings. */
struct unmapped {
    struct unmapped *next;
    struct memory_record mapping;
    bool last; /* nothing else holds its memory */
    struct ending ending;
};

/* Takes the mapping at `address` out; NULL: there is none. */
static struct unmapped *unmap_one(uint64_t address) {
    struct unmapped *piece = calloc(1, sizeof(*piece));
    if (!piece)
        return NULL; /* stays charged */
    memory_lock_take(&lock);
    bool found = memory_table_take(&mappings, address, &piece->mapping);
    struct physical *physical = piece->mapping.owner;
    if (found && physical) {
        physical->mappings--;
        piece->last = is_unused(physical);
        if (piece->last)
            memory_table_take(&handles, physical->handle, NULL);
    }
    memory_lock_give(&lock);
    if (found)
        return piece;
    free(piece);
    return NULL;
}

static void map_again(const struct unmapped *piece) {
    struct memory_record stale;
    struct physical *physical = piece->mapping.owner;
    memory_lock_take(&lock);
    memory_table_put(&mappings, &piece->mapping, &stale);
    if (piece->last)
        enter(physical);
    if (physical)
        physical->mappings++;
    memory_lock_give(&lock);
    if (piece->last)
        ending_over(&piece->ending);
}

CUresult cuMemUnmap(CUdeviceptr ptr, size_t size) {
    if (!tenant_active())
        return real.cuMemUnmap(ptr, size);
    struct unmapped *pieces = NULL, *piece;
    unsigned endings = 0;
    for (uint64_t address = ptr; address < ptr + size; address += piece->mapping.bytes) {
        piece = unmap_one(address);
        if (!piece)
            break;
        endings += piece->last;
        piece->next = pieces;
        pieces = piece;
    }
    for (piece = pieces; piece; piece = piece->next)
        if (piece->last)
            piece->ending = ending_begin(piece->mapping.owner, endings == 1);
    CUresult result = real.cuMemUnmap(ptr, size);
    while ((piece = pieces)) {
        pieces = piece->next;
        if (result != CUDA_SUCCESS)
            map_again(piece);
        else if (piece->last)
            ending_done(&piece->ending);
        free(piece);
    }
    return result;
}

/* --- held for good ------------------------------------------------------------------------------------------ */

/* Tiles of sparse arrays and multicast objects keep memory alive beyond its handle, in units that are not followed
 * here: what was ever bound to one stays charged until the process ends. */
static void hold(CUmemGenericAllocationHandle handle) {
    memory_lock_take(&lock);
    struct physical *physical = find(handle);
    if (physical)
        physical->mappings++;
    memory_lock_give(&lock);
}

static void hold_tiles(const CUarrayMapInfo *list, unsigned int count) {
    for (unsigned int i = 0; i < count; i++)
        if (list[i].memOperationType == CU_MEM_OPERATION_TYPE_MAP)
            hold(list[i].memHandle.memHandle);
}

CUresult cuMemMapArrayAsync(CUarrayMapInfo *mapInfoList, unsigned int count, CUstream hStream) {
    CUresult result = real.cuMemMapArrayAsync(mapInfoList, count, hStream);
    if (tenant_active() && result == CUDA_SUCCESS)
        hold_tiles(mapInfoList, count);
    return result;
}

CUresult cuMemMapArrayAsync_ptsz(CUarrayMapInfo *mapInfoList, unsigned int count, CUstream hStream) {
    CUresult result = real.cuMemMapArrayAsync_ptsz(mapInfoList, count, hStream);
    if (tenant_active() && result == CUDA_SUCCESS)
        hold_tiles(mapInfoList, count);
    return result;
}

CUresult cuMulticastBindMem(CUmemGenericAllocationHandle mcHandle, size_t mcOffset,
                            CUmemGenericAllocationHandle memHandle, size_t memOffset, size_t size,
                            unsigned long long flags) {
    CUresult result = real.cuMulticastBindMem(mcHandle, mcOffset, memHandle, memOffset, size, flags);
    if (tenant_active() && result == CUDA_SUCCESS)
        hold(memHandle);
    return result;
}

CUresult cuMulticastBindMem_v2(CUmemGenericAllocationHandle mcHandle, CUdevice dev, size_t mcOffset,
                               CUmemGenericAllocationHandle memHandle, size_t memOffset, size_t size,
                               unsigned long long flags) {
    CUresult result = real.cuMulticastBindMem_v2(mcHandle, dev, mcOffset, memHandle, memOffset, size, flags);
    if (tenant_active() && result == CUDA_SUCCESS)
        hold(memHandle);
    return result;
}

static void hold_address(CUdeviceptr pointer) {
    CUmemGenericAllocationHandle handle;
    if (real.cuMemRetainAllocationHandle(&handle, (void *)(uintptr_t)pointer) != CUDA_SUCCESS)
        return;
    hold(handle);
    real.cuMemRelease(handle);
}

CUresult cuMulticastBindAddr(CUmemGenericAllocationHandle mcHandle, size_t mcOffset, CUdeviceptr memptr, size_t size,
                             unsigned long long flags) {
    CUresult result = real.cuMulticastBindAddr(mcHandle, mcOffset, memptr, size, flags);
    if (tenant_active() && result == CUDA_SUCCESS)
        hold_address(memptr);
    return result;
}

CUresult cuMulticastBindAddr_v2(CUmemGenericAllocationHandle mcHandle, CUdevice dev, size_t mcOffset,
                                CUdeviceptr memptr, size_t size, unsigned long long flags) {
    CUresult result = real.cuMulticastBindAddr_v2(mcHandle, dev, mcOffset, memptr, size, flags);
    if (tenant_active() && result == CUDA_SUCCESS)
        hold_address(memptr);
    return result;
}
