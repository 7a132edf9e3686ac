#ifndef GPUSLICE_SIM_VMM_H
#define GPUSLICE_SIM_VMM_H

#include "sim.h"

/* What a CUmemGenericAllocationHandle points to: memory of a GPU, or of the host as a file. */
struct vmm_handle {
    unsigned references; /* the program's */
    unsigned mapped;     /* mappings keep the memory, not the handle's validity for others */
    CUmemAllocationProp properties;
    uint64_t bytes;
    struct engine_physical *physical; /* NULL: host memory */
    int file;
    struct vmm_handle *next;
};

struct mapping {
    CUdeviceptr address;
    uint64_t bytes;
    struct vmm_handle *handle;
    uint32_t access;
    struct mapping *next;
};

void vmm_memory_release(struct vmm_handle *handle);

/* Host memory (vmm_host.c). */
CUresult vmm_host_create(struct vmm_handle *handle);
CUresult vmm_host_map(struct vmm_handle *handle, CUdeviceptr address, uint64_t bytes, uint64_t offset);
void vmm_host_unmap(CUdeviceptr address, uint64_t bytes);
/* CUDA_ERROR_INVALID_VALUE: the descriptor is no exported host memory. */
CUresult vmm_host_import(int file, struct vmm_handle *handle);

#endif
