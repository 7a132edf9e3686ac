/* Hooks: what makes a stream wait. That is no GPU time, so it ends the account of what came before. And events of the
 * program: it will look at them, so the end of the work before them is marked. (Synchronising: memory/sync.c.) */
#include "pacing/pacing.h"

#define BREAKS(symbol, parameters, stream, meaning, ...)                                                               \
    CUresult symbol parameters {                                                                                       \
        pacing_break(stream, meaning);                                                                                 \
        return real.symbol(__VA_ARGS__);                                                                               \
    }
/* Both default streams. */
#define BREAKS_BOTH(symbol, parameters, stream, ...)                                                                   \
    BREAKS(symbol, parameters, stream, PACING_LEGACY, __VA_ARGS__)                                                     \
    BREAKS(symbol##_ptsz, parameters, stream, PACING_PER_THREAD, __VA_ARGS__)

BREAKS_BOTH(cuStreamWaitEvent, (CUstream hStream, CUevent hEvent, unsigned int Flags), hStream, hStream, hEvent, Flags)
BREAKS_BOTH(cuStreamAddCallback, (CUstream hStream, CUstreamCallback callback, void *userData, unsigned int flags),
            hStream, hStream, callback, userData, flags)
BREAKS_BOTH(cuLaunchHostFunc, (CUstream hStream, CUhostFn fn, void *userData), hStream, hStream, fn, userData)
BREAKS_BOTH(cuLaunchHostFunc_v2, (CUstream hStream, CUhostFn fn, void *userData, unsigned int syncMode), hStream,
            hStream, fn, userData, syncMode)
BREAKS_BOTH(cuStreamWaitValue32, (CUstream stream, CUdeviceptr addr, cuuint32_t value, unsigned int flags), stream,
            stream, addr, value, flags)
BREAKS_BOTH(cuStreamWaitValue32_v2, (CUstream stream, CUdeviceptr addr, cuuint32_t value, unsigned int flags), stream,
            stream, addr, value, flags)
BREAKS_BOTH(cuStreamWaitValue64, (CUstream stream, CUdeviceptr addr, cuuint64_t value, unsigned int flags), stream,
            stream, addr, value, flags)
BREAKS_BOTH(cuStreamWaitValue64_v2, (CUstream stream, CUdeviceptr addr, cuuint64_t value, unsigned int flags), stream,
            stream, addr, value, flags)
#define BATCH (CUstream stream, unsigned int count, CUstreamBatchMemOpParams *paramArray, unsigned int flags)
BREAKS_BOTH(cuStreamBatchMemOp, BATCH, stream, stream, count, paramArray, flags)
BREAKS_BOTH(cuStreamBatchMemOp_v2, BATCH, stream, stream, count, paramArray, flags)
#define SEMAPHORES                                                                                                     \
    (const CUexternalSemaphore *extSemArray, const CUDA_EXTERNAL_SEMAPHORE_WAIT_PARAMS *paramsArray,                   \
     unsigned int numExtSems, CUstream stream)
BREAKS_BOTH(cuWaitExternalSemaphoresAsync, SEMAPHORES, stream, extSemArray, paramsArray, numExtSems, stream)

#define MARKS_BOTH(symbol, parameters, stream, ...)                                                                    \
    CUresult symbol parameters {                                                                                       \
        pacing_mark(stream, PACING_LEGACY);                                                                            \
        return real.symbol(__VA_ARGS__);                                                                               \
    }                                                                                                                  \
    CUresult symbol##_ptsz parameters {                                                                                \
        pacing_mark(stream, PACING_PER_THREAD);                                                                        \
        return real.symbol##_ptsz(__VA_ARGS__);                                                                        \
    }
MARKS_BOTH(cuEventRecord, (CUevent hEvent, CUstream hStream), hStream, hEvent, hStream)
MARKS_BOTH(cuEventRecordWithFlags, (CUevent hEvent, CUstream hStream, unsigned int flags), hStream, hEvent, hStream,
           flags)
