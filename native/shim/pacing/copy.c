/* Hooks: copies. Within the device they are GPU time; from and to the host they are not, but the stream waits for
 * them, so they end the account of what came before. */
#include "pacing/copy.h"

/* The length is rounded up to a power of two: copies of all sizes would wash everything else out of the table. */
static uint64_t copy_key(uint64_t bytes) {
    unsigned bits = bytes ? 64 - (unsigned)__builtin_clzll(bytes) : 0;
    return pacing_key((const void *)pacing_recent_of, bits);
}

bool pacing_copy_is_host(CUdeviceptr address) {
    CUmemorytype type = CU_MEMORYTYPE_HOST;
    /* An address that the driver does not know is pageable host memory. */
    if (real.cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, address) != CUDA_SUCCESS)
        return true;
    return type == CU_MEMORYTYPE_HOST;
}

static bool side_is_host(CUmemorytype type, CUdeviceptr unified) {
    return type == CU_MEMORYTYPE_HOST || (type == CU_MEMORYTYPE_UNIFIED && pacing_copy_is_host(unified));
}

void pacing_copy_begin(struct pacing_work *work, CUstream stream, enum pacing_default meaning, bool host,
                       uint64_t bytes) {
    *work = (struct pacing_work){0};
    if (host)
        pacing_break(stream, meaning);
    else
        pacing_begin(work, stream, meaning, copy_key(bytes));
}

static void begin_unified(struct pacing_work *work, CUstream stream, enum pacing_default meaning, CUdeviceptr target,
                          CUdeviceptr source, uint64_t bytes) {
    pacing_copy_begin(work, stream, meaning,
                      tenant_active() && (pacing_copy_is_host(target) || pacing_copy_is_host(source)), bytes);
}

static void begin_2d(struct pacing_work *work, CUstream stream, enum pacing_default meaning,
                     const CUDA_MEMCPY2D *copy) {
    bool host =
        tenant_active() && copy &&
        (side_is_host(copy->srcMemoryType, copy->srcDevice) || side_is_host(copy->dstMemoryType, copy->dstDevice));
    pacing_copy_begin(work, stream, meaning, host, copy ? copy->WidthInBytes * copy->Height : 0);
}

static void begin_3d(struct pacing_work *work, CUstream stream, enum pacing_default meaning,
                     const CUDA_MEMCPY3D *copy) {
    bool host =
        tenant_active() && copy &&
        (side_is_host(copy->srcMemoryType, copy->srcDevice) || side_is_host(copy->dstMemoryType, copy->dstDevice));
    pacing_copy_begin(work, stream, meaning, host, copy ? copy->WidthInBytes * copy->Height * copy->Depth : 0);
}

static void begin_3d_peer(struct pacing_work *work, CUstream stream, enum pacing_default meaning,
                          const CUDA_MEMCPY3D_PEER *copy) {
    bool host =
        tenant_active() && copy &&
        (side_is_host(copy->srcMemoryType, copy->srcDevice) || side_is_host(copy->dstMemoryType, copy->dstDevice));
    pacing_copy_begin(work, stream, meaning, host, copy ? copy->WidthInBytes * copy->Height * copy->Depth : 0);
}

#define COPY(symbol, parameters, begins, ...)                                                                          \
    CUresult symbol parameters {                                                                                       \
        struct pacing_work work;                                                                                       \
        begins;                                                                                                        \
        return pacing_end(&work, real.symbol(__VA_ARGS__));                                                            \
    }
/* One line for each: what is copied where, both without a stream (old ABI, both default streams) and with one. */
#define NOW(symbol, target, source, host, ...)                                                                         \
    COPY(symbol##_v2, (target, source, size_t ByteCount),                                                              \
         pacing_copy_begin(&work, NULL, PACING_LEGACY, host, ByteCount), __VA_ARGS__, ByteCount)                       \
    COPY(symbol##_v2_ptds, (target, source, size_t ByteCount),                                                         \
         pacing_copy_begin(&work, NULL, PACING_PER_THREAD, host, ByteCount), __VA_ARGS__, ByteCount)
#define LATER(symbol, target, source, host, ...)                                                                       \
    COPY(symbol##_v2, (target, source, size_t ByteCount, CUstream hStream),                                            \
         pacing_copy_begin(&work, hStream, PACING_LEGACY, host, ByteCount), __VA_ARGS__, ByteCount, hStream)           \
    COPY(symbol##_v2_ptsz, (target, source, size_t ByteCount, CUstream hStream),                                       \
         pacing_copy_begin(&work, hStream, PACING_PER_THREAD, host, ByteCount), __VA_ARGS__, ByteCount, hStream)
#define OFFSET(array) CUarray array, size_t array##Offset

NOW(cuMemcpyHtoD, CUdeviceptr target, const void *source, true, target, source)
NOW(cuMemcpyDtoH, void *target, CUdeviceptr source, true, target, source)
NOW(cuMemcpyDtoD, CUdeviceptr target, CUdeviceptr source, false, target, source)
NOW(cuMemcpyDtoA, OFFSET(target), CUdeviceptr source, false, target, targetOffset, source)
NOW(cuMemcpyAtoD, CUdeviceptr target, OFFSET(source), false, target, source, sourceOffset)
NOW(cuMemcpyHtoA, OFFSET(target), const void *source, true, target, targetOffset, source)
NOW(cuMemcpyAtoH, void *target, OFFSET(source), true, target, source, sourceOffset)
NOW(cuMemcpyAtoA, OFFSET(target), OFFSET(source), false, target, targetOffset, source, sourceOffset)
LATER(cuMemcpyHtoDAsync, CUdeviceptr target, const void *source, true, target, source)
LATER(cuMemcpyDtoHAsync, void *target, CUdeviceptr source, true, target, source)
LATER(cuMemcpyDtoDAsync, CUdeviceptr target, CUdeviceptr source, false, target, source)
LATER(cuMemcpyHtoAAsync, OFFSET(target), const void *source, true, target, targetOffset, source)
LATER(cuMemcpyAtoHAsync, void *target, OFFSET(source), true, target, source, sourceOffset)

#define UNIFIED (CUdeviceptr dst, CUdeviceptr src, size_t ByteCount)
#define UNIFIED_LATER (CUdeviceptr dst, CUdeviceptr src, size_t ByteCount, CUstream hStream)
COPY(cuMemcpy, UNIFIED, begin_unified(&work, NULL, PACING_LEGACY, dst, src, ByteCount), dst, src, ByteCount)
COPY(cuMemcpy_ptds, UNIFIED, begin_unified(&work, NULL, PACING_PER_THREAD, dst, src, ByteCount), dst, src, ByteCount)
COPY(cuMemcpyAsync, UNIFIED_LATER, begin_unified(&work, hStream, PACING_LEGACY, dst, src, ByteCount), dst, src,
     ByteCount, hStream)
COPY(cuMemcpyAsync_ptsz, UNIFIED_LATER, begin_unified(&work, hStream, PACING_PER_THREAD, dst, src, ByteCount), dst, src,
     ByteCount, hStream)

#define PEER                                                                                                           \
    (CUdeviceptr dstDevice, CUcontext dstContext, CUdeviceptr srcDevice, CUcontext srcContext, size_t ByteCount)
#define PEER_LATER                                                                                                     \
    (CUdeviceptr dstDevice, CUcontext dstContext, CUdeviceptr srcDevice, CUcontext srcContext, size_t ByteCount,       \
     CUstream hStream)
COPY(cuMemcpyPeer, PEER, pacing_copy_begin(&work, NULL, PACING_LEGACY, false, ByteCount), dstDevice, dstContext,
     srcDevice, srcContext, ByteCount)
COPY(cuMemcpyPeer_ptds, PEER, pacing_copy_begin(&work, NULL, PACING_PER_THREAD, false, ByteCount), dstDevice,
     dstContext, srcDevice, srcContext, ByteCount)
COPY(cuMemcpyPeerAsync, PEER_LATER, pacing_copy_begin(&work, hStream, PACING_LEGACY, false, ByteCount), dstDevice,
     dstContext, srcDevice, srcContext, ByteCount, hStream)
COPY(cuMemcpyPeerAsync_ptsz, PEER_LATER, pacing_copy_begin(&work, hStream, PACING_PER_THREAD, false, ByteCount),
     dstDevice, dstContext, srcDevice, srcContext, ByteCount, hStream)

#define SHAPED(symbol, type, begins) COPY(symbol, (const type *pCopy), begins(&work, NULL, PACING_LEGACY, pCopy), pCopy)
#define SHAPED_PTDS(symbol, type, begins)                                                                              \
    COPY(symbol, (const type *pCopy), begins(&work, NULL, PACING_PER_THREAD, pCopy), pCopy)
#define SHAPED_LATER(symbol, type, begins)                                                                             \
    COPY(symbol, (const type *pCopy, CUstream hStream), begins(&work, hStream, PACING_LEGACY, pCopy), pCopy, hStream)  \
    COPY(symbol##_ptsz, (const type *pCopy, CUstream hStream), begins(&work, hStream, PACING_PER_THREAD, pCopy),       \
         pCopy, hStream)
SHAPED(cuMemcpy2D_v2, CUDA_MEMCPY2D, begin_2d)
SHAPED_PTDS(cuMemcpy2D_v2_ptds, CUDA_MEMCPY2D, begin_2d)
SHAPED(cuMemcpy2DUnaligned_v2, CUDA_MEMCPY2D, begin_2d)
SHAPED_PTDS(cuMemcpy2DUnaligned_v2_ptds, CUDA_MEMCPY2D, begin_2d)
SHAPED(cuMemcpy3D_v2, CUDA_MEMCPY3D, begin_3d)
SHAPED_PTDS(cuMemcpy3D_v2_ptds, CUDA_MEMCPY3D, begin_3d)
SHAPED(cuMemcpy3DPeer, CUDA_MEMCPY3D_PEER, begin_3d_peer)
SHAPED_PTDS(cuMemcpy3DPeer_ptds, CUDA_MEMCPY3D_PEER, begin_3d_peer)
SHAPED_LATER(cuMemcpy2DAsync_v2, CUDA_MEMCPY2D, begin_2d)
SHAPED_LATER(cuMemcpy3DAsync_v2, CUDA_MEMCPY3D, begin_3d)
SHAPED_LATER(cuMemcpy3DPeerAsync, CUDA_MEMCPY3D_PEER, begin_3d_peer)
