/* Stream capture: nothing of the shim's may get into a program's graph, and nothing may break its capture. */
#include "pacing/stream.h"

static _Atomic uint32_t captures; /* under way in this process */

bool pacing_nobody_captures(void) {
    return atomic_load_explicit(&captures, memory_order_acquire) == 0;
}

bool pacing_is_capturing(uintptr_t handle) {
    CUstreamCaptureStatus status;
    if (pacing_nobody_captures())
        return false;
    /* An error too: asking about the legacy stream while another one captures is one. */
    return real.cuStreamIsCapturing((CUstream)handle, &status) != CUDA_SUCCESS ||
           status != CU_STREAM_CAPTURE_STATUS_NONE;
}

static void forget_lanes(void) {
    atomic_fetch_add_explicit(&pacing_epoch, 1, memory_order_relaxed);
}

void pacing_capture_begins(void) {
    if (!tenant_active())
        return;
    atomic_fetch_add_explicit(&captures, 1, memory_order_acq_rel);
    forget_lanes();
    /* Whoever looks for tails to mark does it with the GPU locked: after this, nobody is in the middle of it. */
    for (unsigned i = 0; i < tenant.gpu_count; i++) {
        struct pacing_gpu *gpu = pacing_gpu_of(&tenant.gpus[i]);
        memory_lock_take(&gpu->lock);
        memory_lock_give(&gpu->lock);
    }
}

void pacing_capture_ended(void) {
    uint32_t before = atomic_load_explicit(&captures, memory_order_relaxed);
    while (before > 0 && !atomic_compare_exchange_weak_explicit(&captures, &before, before - 1, memory_order_acq_rel,
                                                                memory_order_relaxed))
        ;
    forget_lanes();
}

void pacing_capture_forget(void) {
    atomic_store_explicit(&captures, 0, memory_order_relaxed);
}

/* --- hooks ---------------------------------------------------------------------------------------------------- */

#define BEGINS(symbol, parameters, ...)                                                                                \
    CUresult symbol parameters {                                                                                       \
        pacing_capture_begins();                                                                                       \
        CUresult result = real.symbol(__VA_ARGS__);                                                                    \
        if (result != CUDA_SUCCESS)                                                                                    \
            pacing_capture_ended();                                                                                    \
        return result;                                                                                                 \
    }

/* Also when it fails: a capture that was invalidated ends there. */
#define ENDS(symbol, parameters, ...)                                                                                  \
    CUresult symbol parameters {                                                                                       \
        CUresult result = real.symbol(__VA_ARGS__);                                                                    \
        if (result != CUDA_ERROR_ILLEGAL_STATE)                                                                        \
            pacing_capture_ended();                                                                                    \
        return result;                                                                                                 \
    }

BEGINS(cuStreamBeginCapture, (CUstream stream), stream)
BEGINS(cuStreamBeginCapture_ptsz, (CUstream stream), stream)
BEGINS(cuStreamBeginCapture_v2, (CUstream stream, CUstreamCaptureMode mode), stream, mode)
BEGINS(cuStreamBeginCapture_v2_ptsz, (CUstream stream, CUstreamCaptureMode mode), stream, mode)

#define TO_GRAPH                                                                                                       \
    (CUstream stream, CUgraph graph, const CUgraphNode *dependencies, const CUgraphEdgeData *edges, size_t count,      \
     CUstreamCaptureMode mode)
BEGINS(cuStreamBeginCaptureToGraph, TO_GRAPH, stream, graph, dependencies, edges, count, mode)
BEGINS(cuStreamBeginCaptureToGraph_ptsz, TO_GRAPH, stream, graph, dependencies, edges, count, mode)

#define RECAPTURE                                                                                                      \
    (CUstream stream, CUstreamCaptureMode mode, CUgraph graph, CUgraphRecaptureCallback callback, void *data)
BEGINS(cuStreamBeginRecaptureToGraph, RECAPTURE, stream, mode, graph, callback, data)
BEGINS(cuStreamBeginRecaptureToGraph_ptsz, RECAPTURE, stream, mode, graph, callback, data)

ENDS(cuStreamEndCapture, (CUstream stream, CUgraph *graph), stream, graph)
ENDS(cuStreamEndCapture_ptsz, (CUstream stream, CUgraph *graph), stream, graph)

BEGINS(cuStreamBeginCaptureToCig, (CUstream stream, CUstreamCigCaptureParams *parameters), stream, parameters)
BEGINS(cuStreamBeginCaptureToCig_ptsz, (CUstream stream, CUstreamCigCaptureParams *parameters), stream, parameters)
ENDS(cuStreamEndCaptureToCig, (CUstream stream), stream)
ENDS(cuStreamEndCaptureToCig_ptsz, (CUstream stream), stream)
