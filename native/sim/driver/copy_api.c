/* The entry points of copies. A synchronous one comes twice: for the legacy default stream, and (_ptds) for the
 * calling thread's. */
#include "capture.h"
#include "copy_calls.h"

#define ADDRESS(pointer) ((uint64_t)(uintptr_t)(pointer))
#define SYNCHRONOUS(name, parameters, call)                                                                            \
    CUresult name parameters {                                                                                         \
        CUstream stream = CU_STREAM_LEGACY;                                                                            \
        return call;                                                                                                   \
    }                                                                                                                  \
    CUresult name##_ptds parameters {                                                                                  \
        CUstream stream = CU_STREAM_PER_THREAD;                                                                        \
        return call;                                                                                                   \
    }

SYNCHRONOUS(cuMemcpy, (CUdeviceptr to, CUdeviceptr from, size_t bytes), copy_flat(to, from, bytes, stream, true))
SYNCHRONOUS(cuMemcpyPeer, (CUdeviceptr to, CUcontext there, CUdeviceptr from, CUcontext here, size_t bytes),
            ((void)there, (void)here, copy_flat(to, from, bytes, stream, true)))
SYNCHRONOUS(cuMemcpyHtoD_v2, (CUdeviceptr to, const void *from, size_t bytes),
            copy_flat(to, ADDRESS(from), bytes, stream, true))
SYNCHRONOUS(cuMemcpyDtoH_v2, (void *to, CUdeviceptr from, size_t bytes),
            copy_flat(ADDRESS(to), from, bytes, stream, true))
SYNCHRONOUS(cuMemcpyDtoD_v2, (CUdeviceptr to, CUdeviceptr from, size_t bytes), copy_flat(to, from, bytes, stream, true))
SYNCHRONOUS(cuMemcpyDtoA_v2, (CUarray to, size_t offset, CUdeviceptr from, size_t bytes),
            copy_to_array(to, offset, from, bytes, stream, true))
SYNCHRONOUS(cuMemcpyAtoD_v2, (CUdeviceptr to, CUarray from, size_t offset, size_t bytes),
            copy_array_to(to, from, offset, bytes, stream, true))
SYNCHRONOUS(cuMemcpyHtoA_v2, (CUarray to, size_t offset, const void *from, size_t bytes),
            copy_to_array(to, offset, ADDRESS(from), bytes, stream, true))
SYNCHRONOUS(cuMemcpyAtoH_v2, (void *to, CUarray from, size_t offset, size_t bytes),
            copy_array_to(ADDRESS(to), from, offset, bytes, stream, true))
SYNCHRONOUS(cuMemcpyAtoA_v2, (CUarray to, size_t to_offset, CUarray from, size_t from_offset, size_t bytes),
            copy_array_to_array(to, to_offset, from, from_offset, bytes, stream))
SYNCHRONOUS(cuMemcpy2D_v2, (const CUDA_MEMCPY2D *copy), copy_2d(copy, stream, true))
SYNCHRONOUS(cuMemcpy2DUnaligned_v2, (const CUDA_MEMCPY2D *copy), copy_2d(copy, stream, true))
SYNCHRONOUS(cuMemcpy3D_v2, (const CUDA_MEMCPY3D *copy), copy ? copy_box(copy, stream, true) : CUDA_ERROR_INVALID_VALUE)
SYNCHRONOUS(cuMemcpy3DPeer, (const CUDA_MEMCPY3D_PEER *copy), copy_peer(copy, stream, true))

CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
    return copy_flat(to, from, bytes, stream, false);
}
CUresult cuMemcpyPeerAsync(CUdeviceptr to, CUcontext there, CUdeviceptr from, CUcontext here, size_t bytes,
                           CUstream stream) {
    (void)there, (void)here;
    return copy_flat(to, from, bytes, stream, false);
}
CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t bytes, CUstream stream) {
    return copy_flat(to, ADDRESS(from), bytes, stream, false);
}
CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t bytes, CUstream stream) {
    return copy_flat(ADDRESS(to), from, bytes, stream, false);
}
CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
    return copy_flat(to, from, bytes, stream, false);
}
CUresult cuMemcpyHtoAAsync_v2(CUarray to, size_t offset, const void *from, size_t bytes, CUstream stream) {
    return copy_to_array(to, offset, ADDRESS(from), bytes, stream, false);
}
CUresult cuMemcpyAtoHAsync_v2(void *to, CUarray from, size_t offset, size_t bytes, CUstream stream) {
    return copy_array_to(ADDRESS(to), from, offset, bytes, stream, false);
}
CUresult cuMemcpy2DAsync_v2(const CUDA_MEMCPY2D *copy, CUstream stream) {
    return copy_2d(copy, stream, false);
}
CUresult cuMemcpy3DAsync_v2(const CUDA_MEMCPY3D *copy, CUstream stream) {
    return copy ? copy_box(copy, stream, false) : CUDA_ERROR_INVALID_VALUE;
}
CUresult cuMemcpy3DPeerAsync(const CUDA_MEMCPY3D_PEER *copy, CUstream stream) {
    return copy_peer(copy, stream, false);
}

static CUresult batch(const CUdeviceptr *to, const CUdeviceptr *from, const size_t *sizes, size_t count, size_t *failed,
                      CUstream stream) {
    CUresult result = require_init();
    if (!result && count && (!to || !from || !sizes))
        result = CUDA_ERROR_INVALID_VALUE;
    if (!result && (!stream || stream == CU_STREAM_LEGACY))
        result = CUDA_ERROR_INVALID_HANDLE;
    for (size_t i = 0; !result && i < count; i++) {
        result = copy_flat(to[i], from[i], sizes[i], stream, false);
        if (result && failed)
            *failed = i;
    }
    return result;
}

CUresult cuMemcpyBatchAsync_v2(CUdeviceptr *to, CUdeviceptr *from, size_t *sizes, size_t count,
                               CUmemcpyAttributes *attributes, size_t *indices, size_t attribute_count,
                               CUstream stream) {
    (void)attributes, (void)indices, (void)attribute_count;
    return batch(to, from, sizes, count, NULL, stream);
}
CUresult cuMemcpyBatchAsync(CUdeviceptr *to, CUdeviceptr *from, size_t *sizes, size_t count,
                            CUmemcpyAttributes *attributes, size_t *indices, size_t attribute_count, size_t *failed,
                            CUstream stream) {
    (void)attributes, (void)indices, (void)attribute_count;
    return batch(to, from, sizes, count, failed, stream);
}
CUresult cuMemcpyWithAttributesAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUmemcpyAttributes *attributes,
                                     CUstream stream) {
    return attributes ? copy_flat(to, from, bytes, stream, false) : CUDA_ERROR_INVALID_VALUE;
}
