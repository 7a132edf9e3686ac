/* Host memory behind device addresses (CU_MEM_LOCATION_TYPE_HOST and its NUMA kinds): an anonymous file, mapped over
 * the reservation. To copies it is pinned host memory. */
#include <linux/memfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ipc.h"
#include "memory_host.h"
#include "vmm.h"

#define FILE_NAME "gpuslice-host-memory" /* by which an imported descriptor is known again */

void vmm_memory_release(struct vmm_handle *handle) {
    if (handle->physical)
        engine_physical_release(handle->physical);
    if (handle->file >= 0)
        close(handle->file);
}

CUresult vmm_host_create(struct vmm_handle *handle) {
    handle->file = (int)syscall(SYS_memfd_create, FILE_NAME, MFD_CLOEXEC); /* glibc has it from 2.27 on */
    if (handle->file < 0)
        return CUDA_ERROR_OPERATING_SYSTEM;
    if (!ftruncate(handle->file, (off_t)handle->bytes))
        return CUDA_SUCCESS;
    close(handle->file);
    return CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult vmm_host_map(struct vmm_handle *handle, CUdeviceptr address, uint64_t bytes, uint64_t offset) {
    struct engine_range range;
    if (engine_memory_find(address, &range) || range.kind != ENGINE_RANGE_RESERVED ||
        address + bytes > range.base + range.bytes)
        return CUDA_ERROR_INVALID_VALUE;
    CUresult result = host_range_add((uintptr_t)address, bytes, CU_MEMHOSTALLOC_DEVICEMAP, false, NULL);
    if (result)
        return result;
    void *mapped =
        mmap((void *)address, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, handle->file, (off_t)offset);
    if (mapped != MAP_FAILED)
        return CUDA_SUCCESS;
    host_range_take((uintptr_t)address, false);
    return CUDA_ERROR_OUT_OF_MEMORY;
}

void vmm_host_unmap(CUdeviceptr address, uint64_t bytes) {
    host_range_take((uintptr_t)address, false);
    restore_private(address, bytes);
}

CUresult vmm_host_import(int file, struct vmm_handle *handle) {
    char path[64], target[64] = "";
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    if (readlink(path, target, sizeof target - 1) < 0 || !strstr(target, FILE_NAME))
        return CUDA_ERROR_INVALID_VALUE;
    struct stat status;
    if (fstat(file, &status))
        return CUDA_ERROR_INVALID_VALUE;
    handle->file = dup(file);
    handle->bytes = (uint64_t)status.st_size;
    handle->properties.location.type = CU_MEM_LOCATION_TYPE_HOST;
    return handle->file < 0 ? CUDA_ERROR_OPERATING_SYSTEM : CUDA_SUCCESS;
}
