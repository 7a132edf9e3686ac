/* Streams: what one costs no call returns (half a MiB with driver 580, kept for the next one when it is destroyed), so
 * it is overhead, which NVML shows. */
#include "memory/memory.h"

static void touch(struct memory_gpu *gpu, void *unused) {
    (void)unused;
    memory_overhead_touch(gpu);
}

static CUresult created(CUresult result) {
    CUcontext context;
    struct memory_gpu *gpu = memory_current(&context);
    if (gpu)
        memory_overhead_touch(gpu);
    return result;
}

CUresult cuStreamCreate(CUstream *phStream, unsigned int Flags) {
    return created(real.cuStreamCreate(phStream, Flags));
}

CUresult cuStreamCreateWithPriority(CUstream *phStream, unsigned int flags, int priority) {
    return created(real.cuStreamCreateWithPriority(phStream, flags, priority));
}

/* Which context that is, current or not, nobody is asked. */
CUresult cuGreenCtxStreamCreate(CUstream *phStream, CUgreenCtx greenCtx, unsigned int flags, int priority) {
    CUresult result = real.cuGreenCtxStreamCreate(phStream, greenCtx, flags, priority);
    if (tenant_active())
        memory_each_gpu(touch, NULL);
    return result;
}
