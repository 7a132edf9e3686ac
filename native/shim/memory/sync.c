/* Synchronisations: what was freed in stream order goes back to the driver here, and pools shrink. The end of what the
 * program waits for is marked, and afterwards charged. */
#include "memory/memory.h"
#include "pacing/pacing.h"

CUresult cuStreamSynchronize(CUstream hStream) {
    pacing_mark(hStream, PACING_LEGACY);
    CUresult result = real.cuStreamSynchronize(hStream);
    pacing_settle();
    if (result == CUDA_SUCCESS)
        memory_stream_synchronised(hStream, false);
    return result;
}

CUresult cuStreamSynchronize_ptsz(CUstream hStream) {
    pacing_mark(hStream, PACING_PER_THREAD);
    CUresult result = real.cuStreamSynchronize_ptsz(hStream);
    pacing_settle();
    if (result == CUDA_SUCCESS)
        memory_stream_synchronised(hStream, true);
    return result;
}

CUresult cuCtxSynchronize(void) {
    CUcontext context;
    pacing_mark_context();
    CUresult result = real.cuCtxSynchronize();
    pacing_settle();
    if (result == CUDA_SUCCESS && memory_current(&context))
        memory_context_synchronised(context);
    return result;
}

CUresult cuCtxSynchronize_v2(CUcontext ctx) {
    CUresult result = real.cuCtxSynchronize_v2(ctx);
    pacing_settle();
    if (result == CUDA_SUCCESS)
        memory_context_synchronised(ctx);
    return result;
}

CUresult cuEventSynchronize(CUevent hEvent) {
    CUresult result = real.cuEventSynchronize(hEvent);
    pacing_settle();
    if (result == CUDA_SUCCESS && tenant_active())
        memory_settle_shrinking();
    return result;
}

CUresult cuStreamDestroy_v2(CUstream hStream) {
    pacing_stream_ends(hStream);
    memory_stream_ends(hStream);
    CUresult result = real.cuStreamDestroy_v2(hStream);
    if (result == CUDA_SUCCESS)
        memory_stream_destroyed(hStream);
    return result;
}

CUresult cuStreamDestroy(CUstream hStream) {
    pacing_stream_ends(hStream);
    memory_stream_ends(hStream);
    CUresult result = real.cuStreamDestroy(hStream);
    if (result == CUDA_SUCCESS)
        memory_stream_destroyed(hStream);
    return result;
}
