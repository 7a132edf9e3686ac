/* Streams: what one costs no call returns (half a MiB with driver 580, kept for the next one when it is destroyed), so
 * it is overhead, which NVML shows. */
#include "memory/memory.h"

CUresult cuStreamCreate(CUstream *phStream, unsigned int Flags) {
    CUresult result = real.cuStreamCreate(phStream, Flags);
    memory_overhead_touch_current();
    return result;
}

CUresult cuStreamCreateWithPriority(CUstream *phStream, unsigned int flags, int priority) {
    CUresult result = real.cuStreamCreateWithPriority(phStream, flags, priority);
    memory_overhead_touch_current();
    return result;
}

/* Which context that is, current or not, nobody is asked. */
CUresult cuGreenCtxStreamCreate(CUstream *phStream, CUgreenCtx greenCtx, unsigned int flags, int priority) {
    CUresult result = real.cuGreenCtxStreamCreate(phStream, greenCtx, flags, priority);
    memory_overhead_touch_all();
    return result;
}
