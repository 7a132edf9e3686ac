/* Virtual memory management: addresses and memory as two things, and memory that other processes may import. */
#include "vmm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static pthread_mutex_t vmm_lock = PTHREAD_MUTEX_INITIALIZER;
static struct vmm_handle *handles;
static struct mapping *mappings;

static struct vmm_handle *check(CUmemGenericAllocationHandle handle) {
    for (struct vmm_handle *known = handles; known; known = known->next)
        if (known == (struct vmm_handle *)handle)
            return known;
    return NULL;
}

/* Under vmm_lock, like all that follows. */
static void drop(struct vmm_handle *handle) {
    if (handle->references || handle->mapped)
        return;
    for (struct vmm_handle **link = &handles; *link; link = &(*link)->next)
        if (*link == handle) {
            *link = handle->next;
            break;
        }
    vmm_memory_release(handle);
    free(handle);
}

static bool is_host(const CUmemLocation *location) {
    return location->type == CU_MEM_LOCATION_TYPE_HOST || location->type == CU_MEM_LOCATION_TYPE_HOST_NUMA ||
           location->type == CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT;
}

static CUresult check_properties(const CUmemAllocationProp *properties) {
    if (!properties || properties->type != CU_MEM_ALLOCATION_TYPE_PINNED)
        return CUDA_ERROR_INVALID_VALUE;
    if (properties->requestedHandleTypes & ~(unsigned)CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
        return CUDA_ERROR_NOT_SUPPORTED;
    if (is_host(&properties->location))
        return CUDA_SUCCESS;
    if (properties->location.type != CU_MEM_LOCATION_TYPE_DEVICE)
        return CUDA_ERROR_INVALID_VALUE;
    return device_gpu(properties->location.id) < 0 ? CUDA_ERROR_INVALID_DEVICE : CUDA_SUCCESS;
}

CUresult cuMemGetAllocationGranularity(size_t *bytes, const CUmemAllocationProp *properties,
                                       CUmemAllocationGranularity_flags option) {
    CUresult result = require_init();
    if (!result)
        result = check_properties(properties);
    if (result)
        return result;
    if (!bytes || option > CU_MEM_ALLOC_GRANULARITY_RECOMMENDED)
        return CUDA_ERROR_INVALID_VALUE;
    *bytes = ENGINE_BLOCK_BYTES;
    return CUDA_SUCCESS;
}

static CUmemGenericAllocationHandle keep(struct vmm_handle *handle) {
    handle->references = 1;
    pthread_mutex_lock(&vmm_lock);
    handle->next = handles;
    handles = handle;
    pthread_mutex_unlock(&vmm_lock);
    return (CUmemGenericAllocationHandle)handle;
}

CUresult cuMemCreate(CUmemGenericAllocationHandle *ret_handle, size_t bytes, const CUmemAllocationProp *properties,
                     unsigned long long flags) {
    CUresult result = capture_forbids();
    if (!result)
        result = check_properties(properties);
    if (result)
        return result;
    if (!ret_handle || !bytes || bytes % ENGINE_BLOCK_BYTES || flags)
        return CUDA_ERROR_INVALID_VALUE;
    struct vmm_handle *handle = calloc(1, sizeof *handle);
    if (!handle)
        return CUDA_ERROR_OUT_OF_MEMORY;
    handle->properties = *properties;
    handle->bytes = bytes;
    handle->file = -1;
    if (is_host(&properties->location))
        result = vmm_host_create(handle);
    else
        result =
            from_errno(engine_physical_create((unsigned)device_gpu(properties->location.id), bytes, &handle->physical));
    if (result)
        free(handle);
    else
        *ret_handle = keep(handle);
    return result;
}

CUresult cuMemRelease(CUmemGenericAllocationHandle value) {
    CUresult result = capture_forbids();
    if (result)
        return result;
    pthread_mutex_lock(&vmm_lock);
    struct vmm_handle *handle = check(value);
    if (!handle || !handle->references) {
        result = CUDA_ERROR_INVALID_VALUE;
    } else {
        handle->references--;
        drop(handle);
    }
    pthread_mutex_unlock(&vmm_lock);
    return result;
}

CUresult cuMemAddressReserve(CUdeviceptr *ret_address, size_t bytes, size_t alignment, CUdeviceptr hint,
                             unsigned long long flags) {
    CUresult result = require_init();
    if (result)
        return result;
    if (!ret_address || !bytes || bytes % ENGINE_BLOCK_BYTES || flags || alignment & (alignment - 1))
        return CUDA_ERROR_INVALID_VALUE;
    if (alignment && alignment < ENGINE_BLOCK_BYTES)
        alignment = ENGINE_BLOCK_BYTES;
    uint64_t address;
    hint -= hint % ENGINE_BLOCK_BYTES;
    result = from_errno(engine_address_reserve(bytes, alignment, hint, &address));
    if (!result)
        *ret_address = address;
    return result;
}

CUresult cuMemAddressFree(CUdeviceptr address, size_t bytes) {
    CUresult result = require_init();
    if (result)
        return result;
    pthread_mutex_lock(&vmm_lock);
    for (struct mapping *mapping = mappings; mapping; mapping = mapping->next)
        if (mapping->address < address + bytes && address < mapping->address + mapping->bytes)
            result = CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_unlock(&vmm_lock);
    int error = result ? 0 : engine_address_free(address, bytes);
    return error ? CUDA_ERROR_INVALID_VALUE : result;
}

CUresult cuMemMap(CUdeviceptr address, size_t bytes, size_t offset, CUmemGenericAllocationHandle value,
                  unsigned long long flags) {
    CUresult result = capture_forbids();
    if (result)
        return result;
    if (!address || !bytes || flags || offset || bytes % ENGINE_BLOCK_BYTES)
        return CUDA_ERROR_INVALID_VALUE;
    struct mapping *mapping = calloc(1, sizeof *mapping);
    if (!mapping)
        return CUDA_ERROR_OUT_OF_MEMORY;
    pthread_mutex_lock(&vmm_lock);
    struct vmm_handle *handle = check(value);
    if (!handle || bytes > handle->bytes)
        result = CUDA_ERROR_INVALID_VALUE;
    else
        result =
            handle->physical
                ? engine_address_map(address, bytes, handle->physical, offset) ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS
                : vmm_host_map(handle, address, bytes, offset);
    if (!result) {
        handle->mapped++;
        *mapping = (struct mapping){address, bytes, handle, 0, mappings};
        mappings = mapping;
    }
    pthread_mutex_unlock(&vmm_lock);
    if (result)
        free(mapping);
    return result;
}

/* Whether [address, address + bytes) is made of whole mappings without a hole. */
static bool covers(CUdeviceptr address, size_t bytes) {
    size_t covered = 0;
    for (struct mapping *mapping = mappings; mapping; mapping = mapping->next)
        if (mapping->address >= address && mapping->address + mapping->bytes <= address + bytes)
            covered += mapping->bytes;
    return bytes && covered == bytes;
}

static bool is_within(const struct mapping *mapping, CUdeviceptr address, size_t bytes) {
    return mapping->address >= address && mapping->address + mapping->bytes <= address + bytes;
}

CUresult cuMemUnmap(CUdeviceptr address, size_t bytes) {
    CUresult result = capture_forbids();
    if (result)
        return result;
    for (unsigned device = 0; device < device_count(); device++) /* what still runs may use it */
        engine_gpu_wait((unsigned)device_gpu((CUdevice)device), false);
    pthread_mutex_lock(&vmm_lock);
    if (!covers(address, bytes))
        result = CUDA_ERROR_INVALID_VALUE;
    for (struct mapping **link = &mappings; !result && *link;) {
        struct mapping *mapping = *link;
        if (!is_within(mapping, address, bytes)) {
            link = &mapping->next;
            continue;
        }
        *link = mapping->next;
        if (mapping->handle->physical)
            engine_address_unmap(mapping->address, mapping->bytes);
        else
            vmm_host_unmap(mapping->address, mapping->bytes);
        mapping->handle->mapped--;
        drop(mapping->handle);
        free(mapping);
    }
    pthread_mutex_unlock(&vmm_lock);
    return result;
}

/* Who may use it: bit 0 the host, then one bit a device. */
static uint32_t access_bit(const CUmemLocation *location) {
    if (is_host(location))
        return 1;
    if (location->type != CU_MEM_LOCATION_TYPE_DEVICE || device_gpu(location->id) < 0)
        return 0;
    return UINT32_C(2) << location->id;
}

CUresult cuMemSetAccess(CUdeviceptr address, size_t bytes, const CUmemAccessDesc *access, size_t count) {
    CUresult result = require_init();
    if (result)
        return result;
    if (!access || !count)
        return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&vmm_lock);
    if (!covers(address, bytes))
        result = CUDA_ERROR_INVALID_VALUE;
    for (size_t i = 0; !result && i < count; i++) {
        uint32_t bit = access_bit(&access[i].location);
        if (!bit)
            result = CUDA_ERROR_INVALID_DEVICE;
        for (struct mapping *mapping = mappings; !result && mapping; mapping = mapping->next) {
            if (!is_within(mapping, address, bytes))
                continue;
            bool may = access[i].flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
            mapping->access = may ? mapping->access | bit : mapping->access & ~bit;
        }
    }
    pthread_mutex_unlock(&vmm_lock);
    return result;
}

static struct mapping *find(CUdeviceptr address) {
    struct mapping *mapping = mappings;
    while (mapping && address - mapping->address >= mapping->bytes)
        mapping = mapping->next;
    return mapping;
}

CUresult cuMemGetAccess(unsigned long long *flags, const CUmemLocation *location, CUdeviceptr address) {
    CUresult result = require_init();
    if (result)
        return result;
    if (!flags || !location)
        return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&vmm_lock);
    struct mapping *mapping = find(address);
    if (!mapping)
        result = CUDA_ERROR_INVALID_VALUE;
    else
        *flags =
            mapping->access & access_bit(location) ? CU_MEM_ACCESS_FLAGS_PROT_READWRITE : CU_MEM_ACCESS_FLAGS_PROT_NONE;
    pthread_mutex_unlock(&vmm_lock);
    return result;
}

CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle *ret_handle, void *address) {
    CUresult result = require_init();
    if (result)
        return result;
    if (!ret_handle)
        return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&vmm_lock);
    struct mapping *mapping = find((CUdeviceptr)address);
    if (mapping) {
        mapping->handle->references++;
        *ret_handle = (CUmemGenericAllocationHandle)mapping->handle;
    } else {
        result = CUDA_ERROR_INVALID_VALUE;
    }
    pthread_mutex_unlock(&vmm_lock);
    return result;
}

CUresult cuMemGetAllocationPropertiesFromHandle(CUmemAllocationProp *properties, CUmemGenericAllocationHandle value) {
    CUresult result = require_init();
    if (result)
        return result;
    pthread_mutex_lock(&vmm_lock);
    struct vmm_handle *handle = check(value);
    if (handle && properties)
        *properties = handle->properties;
    else
        result = CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_unlock(&vmm_lock);
    return result;
}

CUresult cuMemExportToShareableHandle(void *ret_file, CUmemGenericAllocationHandle value,
                                      CUmemAllocationHandleType type, unsigned long long flags) {
    CUresult result = require_init();
    if (result)
        return result;
    if (!ret_file || flags)
        return CUDA_ERROR_INVALID_VALUE;
    if (type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
        return CUDA_ERROR_NOT_SUPPORTED;
    pthread_mutex_lock(&vmm_lock);
    struct vmm_handle *handle = check(value);
    if (!handle || !(handle->properties.requestedHandleTypes & type))
        result = CUDA_ERROR_INVALID_VALUE;
    else if (handle->physical)
        result = from_errno(engine_physical_export_fd(handle->physical, ret_file));
    else
        result = (*(int *)ret_file = dup(handle->file)) < 0 ? CUDA_ERROR_OPERATING_SYSTEM : CUDA_SUCCESS;
    pthread_mutex_unlock(&vmm_lock);
    return result;
}

CUresult cuMemImportFromShareableHandle(CUmemGenericAllocationHandle *ret_handle, void *file,
                                        CUmemAllocationHandleType type) {
    CUresult result = require_init();
    if (result)
        return result;
    if (!ret_handle)
        return CUDA_ERROR_INVALID_VALUE;
    if (type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
        return CUDA_ERROR_NOT_SUPPORTED;
    struct vmm_handle *handle = calloc(1, sizeof *handle);
    if (!handle)
        return CUDA_ERROR_OUT_OF_MEMORY;
    handle->file = -1;
    handle->properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    handle->properties.requestedHandleTypes = type;
    if (vmm_host_import((int)(intptr_t)file, handle)) {
        result =
            engine_physical_import_fd((int)(intptr_t)file, &handle->physical) ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
        if (!result) {
            handle->bytes = engine_physical_bytes(handle->physical);
            handle->properties.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
            handle->properties.location.id = device_of_gpu(engine_physical_gpu(handle->physical));
        }
    }
    if (result)
        free(handle);
    else
        *ret_handle = keep(handle);
    return result;
}
