#include "copy_calls.h"

#include <string.h>

#include "capture.h"

CUresult copy_box(const CUDA_MEMCPY3D *asked, CUstream handle, bool sync) {
    struct context *context;
    CUresult result = current_context(&context);
    if (result)
        return result;
    struct stream *stream;
    result = stream_find(handle, &stream);
    if (!result && sync)
        result = capture_forbids_stream(stream);
    if (result)
        return result;
    struct work work = {.kind = WORK_COPY};
    result = copy_fill(&work.copy, asked);
    if (result)
        return result;
    bool host = !work.copy.source.device || !work.copy.target.device;
    /* Pageable memory: an asynchronous copy out of the GPU waits too, and one into it has read its source when it
     * comes back. A synchronous copy that stays on the GPU does not wait. */
    work.copy.wait = (sync && host) || work.copy.target.pageable;
    work.copy.stage = true;
    return work_enqueue(handle, &work);
}

CUresult copy_flat(uint64_t target, uint64_t source, size_t bytes, CUstream stream, bool sync) {
    CUDA_MEMCPY3D asked = {.srcMemoryType = CU_MEMORYTYPE_UNIFIED,
                           .srcDevice = source,
                           .dstMemoryType = CU_MEMORYTYPE_UNIFIED,
                           .dstDevice = target,
                           .WidthInBytes = bytes,
                           .Height = 1,
                           .Depth = 1};
    return copy_box(&asked, stream, sync);
}

CUresult copy_2d(const CUDA_MEMCPY2D *asked, CUstream stream, bool sync) {
    if (!asked)
        return require_init() ? CUDA_ERROR_NOT_INITIALIZED : CUDA_ERROR_INVALID_VALUE;
    CUDA_MEMCPY3D box = {.srcXInBytes = asked->srcXInBytes,
                         .srcY = asked->srcY,
                         .srcMemoryType = asked->srcMemoryType,
                         .srcHost = asked->srcHost,
                         .srcDevice = asked->srcDevice,
                         .srcArray = asked->srcArray,
                         .srcPitch = asked->srcPitch,
                         .dstXInBytes = asked->dstXInBytes,
                         .dstY = asked->dstY,
                         .dstMemoryType = asked->dstMemoryType,
                         .dstHost = asked->dstHost,
                         .dstDevice = asked->dstDevice,
                         .dstArray = asked->dstArray,
                         .dstPitch = asked->dstPitch,
                         .WidthInBytes = asked->WidthInBytes,
                         .Height = asked->Height,
                         .Depth = 1};
    return copy_box(&box, stream, sync);
}

CUresult copy_peer(const CUDA_MEMCPY3D_PEER *asked, CUstream stream, bool sync) {
    if (!asked)
        return require_init() ? CUDA_ERROR_NOT_INITIALIZED : CUDA_ERROR_INVALID_VALUE;
    CUDA_MEMCPY3D box = {.srcXInBytes = asked->srcXInBytes,
                         .srcY = asked->srcY,
                         .srcZ = asked->srcZ,
                         .srcLOD = asked->srcLOD,
                         .srcMemoryType = asked->srcMemoryType,
                         .srcHost = asked->srcHost,
                         .srcDevice = asked->srcDevice,
                         .srcArray = asked->srcArray,
                         .srcPitch = asked->srcPitch,
                         .srcHeight = asked->srcHeight,
                         .dstXInBytes = asked->dstXInBytes,
                         .dstY = asked->dstY,
                         .dstZ = asked->dstZ,
                         .dstLOD = asked->dstLOD,
                         .dstMemoryType = asked->dstMemoryType,
                         .dstHost = asked->dstHost,
                         .dstDevice = asked->dstDevice,
                         .dstArray = asked->dstArray,
                         .dstPitch = asked->dstPitch,
                         .dstHeight = asked->dstHeight,
                         .WidthInBytes = asked->WidthInBytes,
                         .Height = asked->Height,
                         .Depth = asked->Depth};
    return copy_box(&box, stream, sync);
}

CUresult copy_array_to(uint64_t target, CUarray source, size_t offset, size_t bytes, CUstream stream, bool sync) {
    CUDA_MEMCPY3D asked = {.srcXInBytes = offset,
                           .srcMemoryType = CU_MEMORYTYPE_ARRAY,
                           .srcArray = source,
                           .dstMemoryType = CU_MEMORYTYPE_UNIFIED,
                           .dstDevice = target,
                           .WidthInBytes = bytes,
                           .Height = 1,
                           .Depth = 1};
    return copy_box(&asked, stream, sync);
}

CUresult copy_to_array(CUarray target, size_t offset, uint64_t source, size_t bytes, CUstream stream, bool sync) {
    CUDA_MEMCPY3D asked = {.srcMemoryType = CU_MEMORYTYPE_UNIFIED,
                           .srcDevice = source,
                           .dstXInBytes = offset,
                           .dstMemoryType = CU_MEMORYTYPE_ARRAY,
                           .dstArray = target,
                           .WidthInBytes = bytes,
                           .Height = 1,
                           .Depth = 1};
    return copy_box(&asked, stream, sync);
}

CUresult copy_array_to_array(CUarray target, size_t target_offset, CUarray source, size_t source_offset, size_t bytes,
                             CUstream stream) {
    CUDA_MEMCPY3D asked = {.srcXInBytes = source_offset,
                           .srcMemoryType = CU_MEMORYTYPE_ARRAY,
                           .srcArray = source,
                           .dstXInBytes = target_offset,
                           .dstMemoryType = CU_MEMORYTYPE_ARRAY,
                           .dstArray = target,
                           .WidthInBytes = bytes,
                           .Height = 1,
                           .Depth = 1};
    return copy_box(&asked, stream, true);
}
