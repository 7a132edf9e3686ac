/* Synchronisations: what was freed in stream order goes back to the driver here, and pools shrink. */
#include "memory.h"

CUresult cuStreamSynchronize(CUstream hStream) {
    CUresult result = real.cuStreamSynchronize(hStream);
    if (result == CUDA_SUCCESS)
        memory_stream_synchronised(hStream, false);
    return result;
}

CUresult cuStreamSynchronize_ptsz(CUstream hStream) {
    CUresult result = real.cuStreamSynchronize_ptsz(hStream);
    if (result == CUDA_SUCCESS)
        memory_stream_synchronised(hStream, true);
    return result;
}

CUresult cuCtxSynchronize(void) {
    CUcontext context;
    CUresult result = real.cuCtxSynchronize();
    if (result == CUDA_SUCCESS && memory_current(&context))
        memory_context_synchronised(context);
    return result;
}

CUresult cuCtxSynchronize_v2(CUcontext ctx) {
    CUresult result = real.cuCtxSynchronize_v2(ctx);
    if (result == CUDA_SUCCESS)
        memory_context_synchronised(ctx);
    return result;
}

CUresult cuEventSynchronize(CUevent hEvent) {
    CUresult result = real.cuEventSynchronize(hEvent);
    if (result == CUDA_SUCCESS && tenant_active())
        memory_settle_shrinking();
    return result;
}

CUresult cuStreamDestroy_v2(CUstream hStream) {
    CUresult result = real.cuStreamDestroy_v2(hStream);
    if (result == CUDA_SUCCESS)
        memory_stream_destroyed(hStream);
    return result;
}

CUresult cuStreamDestroy(CUstream hStream) {
    CUresult result = real.cuStreamDestroy(hStream);
    if (result == CUDA_SUCCESS)
        memory_stream_destroyed(hStream);
    return result;
}
