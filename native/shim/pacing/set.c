/* Hooks: memsets. They execute on the GPU like kernels; a memset of so many bytes costs what the last one did. */
#include "pacing/pacing.h"

static inline uint64_t set_key(uint64_t width, uint64_t height) {
    return pacing_key((const void *)&pacing_epoch, width * 4099 + height);
}

#define SET(symbol, parameters, stream, meaning, width, height, ...)                                                   \
    CUresult symbol parameters {                                                                                       \
        struct pacing_work work;                                                                                       \
        pacing_begin(&work, stream, meaning, set_key(width, height));                                                  \
        return pacing_end(&work, real.symbol(__VA_ARGS__));                                                            \
    }
/* Without a stream: on the default stream. */
#define SET_ROW(symbol, value)                                                                                         \
    SET(symbol, (CUdeviceptr_v1 dstDevice, value v, unsigned int N), NULL, PACING_LEGACY, N, sizeof(v), dstDevice, v,  \
        N)                                                                                                             \
    SET(symbol##_v2, (CUdeviceptr dstDevice, value v, size_t N), NULL, PACING_LEGACY, N, sizeof(v), dstDevice, v, N)   \
    SET(symbol##_v2_ptds, (CUdeviceptr dstDevice, value v, size_t N), NULL, PACING_PER_THREAD, N, sizeof(v),           \
        dstDevice, v, N)                                                                                               \
    SET(symbol##Async, (CUdeviceptr dstDevice, value v, size_t N, CUstream hStream), hStream, PACING_LEGACY, N,        \
        sizeof(v), dstDevice, v, N, hStream)                                                                           \
    SET(symbol##Async_ptsz, (CUdeviceptr dstDevice, value v, size_t N, CUstream hStream), hStream, PACING_PER_THREAD,  \
        N, sizeof(v), dstDevice, v, N, hStream)
#define SET_ROWS(symbol, value)                                                                                        \
    SET(symbol, (CUdeviceptr_v1 dstDevice, unsigned int dstPitch, value v, unsigned int Width, unsigned int Height),   \
        NULL, PACING_LEGACY, Width * sizeof(v), Height, dstDevice, dstPitch, v, Width, Height)                         \
    SET(symbol##_v2, (CUdeviceptr dstDevice, size_t dstPitch, value v, size_t Width, size_t Height), NULL,             \
        PACING_LEGACY, Width * sizeof(v), Height, dstDevice, dstPitch, v, Width, Height)                               \
    SET(symbol##_v2_ptds, (CUdeviceptr dstDevice, size_t dstPitch, value v, size_t Width, size_t Height), NULL,        \
        PACING_PER_THREAD, Width * sizeof(v), Height, dstDevice, dstPitch, v, Width, Height)                           \
    SET(symbol##Async,                                                                                                 \
        (CUdeviceptr dstDevice, size_t dstPitch, value v, size_t Width, size_t Height, CUstream hStream), hStream,     \
        PACING_LEGACY, Width * sizeof(v), Height, dstDevice, dstPitch, v, Width, Height, hStream)                      \
    SET(symbol##Async_ptsz,                                                                                            \
        (CUdeviceptr dstDevice, size_t dstPitch, value v, size_t Width, size_t Height, CUstream hStream), hStream,     \
        PACING_PER_THREAD, Width * sizeof(v), Height, dstDevice, dstPitch, v, Width, Height, hStream)

SET_ROW(cuMemsetD8, unsigned char)
SET_ROW(cuMemsetD16, unsigned short)
SET_ROW(cuMemsetD32, unsigned int)
SET_ROWS(cuMemsetD2D8, unsigned char)
SET_ROWS(cuMemsetD2D16, unsigned short)
SET_ROWS(cuMemsetD2D32, unsigned int)
