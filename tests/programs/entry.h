/* A client of the driver API that takes its functions from wherever its caller found them. */
#ifndef ENTRY_H
#define ENTRY_H

#include <cuda.h>
#include <stddef.h>

/* In the ABI that CUDA 4.0 and everything newer share. */
struct functions {
    CUresult (*init)(unsigned int flags);
    CUresult (*device_get)(CUdevice *device, int ordinal);
    CUresult (*context_retain)(CUcontext *context, CUdevice device);
    CUresult (*context_set)(CUcontext context);
    CUresult (*mem_info)(size_t *free, size_t *total);
    CUresult (*mem_alloc)(CUdeviceptr *pointer, size_t bytes);
    CUresult (*mem_free)(CUdeviceptr pointer);
};

/* Allocates until it is refused, gives everything back, and prints one line of JSON: what cuMemGetInfo called free
 * and total after context creation, what was allocated, with which error it ended, what is free afterwards. The
 * process's exit status: 0, or the error of a call that had to succeed. */
int allocate_until_refused(const struct functions *functions);

#endif
