#include "entry.h"

#include <stdio.h>

#define POINTERS 4096

#define TRY(call)                                                                                                      \
    do {                                                                                                               \
        CUresult result = (call);                                                                                      \
        if (result != CUDA_SUCCESS) {                                                                                  \
            fprintf(stderr, "%s: error %d\n", #call, result);                                                          \
            return (int)(result > 125 ? 125 : result);                                                                 \
        }                                                                                                              \
    } while (0)

int allocate_until_refused(const struct functions *f) {
    static CUdeviceptr pointers[POINTERS];
    CUdevice device;
    CUcontext context;
    size_t free, total, free_afterwards, allocated = 0, count = 0;
    CUresult refusal = CUDA_SUCCESS;
    TRY(f->init(0));
    TRY(f->device_get(&device, 0));
    TRY(f->context_retain(&context, device));
    TRY(f->context_set(context));
    TRY(f->mem_info(&free, &total));
    for (size_t bytes = (size_t)64 << 20; bytes >= (size_t)2 << 20; bytes /= 2)
        while (count < POINTERS && (refusal = f->mem_alloc(&pointers[count], bytes)) == CUDA_SUCCESS) {
            allocated += bytes;
            count++;
        }
    while (count)
        TRY(f->mem_free(pointers[--count]));
    TRY(f->mem_info(&free_afterwards, &total));
    printf("{\"free\": %zu, \"total\": %zu, \"allocated\": %zu, \"refusal\": %d, \"free_afterwards\": %zu}\n", free,
           total, allocated, refusal, free_afterwards);
    return 0;
}
