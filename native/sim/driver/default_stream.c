/* The entry points for the per-thread default stream (_ptsz): NULL means the calling thread's own stream, all else is
 * as in the plain ones. */
#include "sim.h"

static CUstream own(CUstream stream) {
    return stream ? stream : CU_STREAM_PER_THREAD;
}

CUresult cuMemcpyAsync_ptsz(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
    return cuMemcpyAsync(to, from, bytes, own(stream));
}
CUresult cuMemcpyPeerAsync_ptsz(CUdeviceptr to, CUcontext there, CUdeviceptr from, CUcontext here, size_t bytes,
                                CUstream stream) {
    return cuMemcpyPeerAsync(to, there, from, here, bytes, own(stream));
}
CUresult cuMemcpyHtoDAsync_v2_ptsz(CUdeviceptr to, const void *from, size_t bytes, CUstream stream) {
    return cuMemcpyHtoDAsync_v2(to, from, bytes, own(stream));
}
CUresult cuMemcpyDtoHAsync_v2_ptsz(void *to, CUdeviceptr from, size_t bytes, CUstream stream) {
    return cuMemcpyDtoHAsync_v2(to, from, bytes, own(stream));
}
CUresult cuMemcpyDtoDAsync_v2_ptsz(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
    return cuMemcpyDtoDAsync_v2(to, from, bytes, own(stream));
}
CUresult cuMemcpyHtoAAsync_v2_ptsz(CUarray to, size_t offset, const void *from, size_t bytes, CUstream stream) {
    return cuMemcpyHtoAAsync_v2(to, offset, from, bytes, own(stream));
}
CUresult cuMemcpyAtoHAsync_v2_ptsz(void *to, CUarray from, size_t offset, size_t bytes, CUstream stream) {
    return cuMemcpyAtoHAsync_v2(to, from, offset, bytes, own(stream));
}
CUresult cuMemcpy2DAsync_v2_ptsz(const CUDA_MEMCPY2D *copy, CUstream stream) {
    return cuMemcpy2DAsync_v2(copy, own(stream));
}
CUresult cuMemcpy3DAsync_v2_ptsz(const CUDA_MEMCPY3D *copy, CUstream stream) {
    return cuMemcpy3DAsync_v2(copy, own(stream));
}
CUresult cuMemcpy3DPeerAsync_ptsz(const CUDA_MEMCPY3D_PEER *copy, CUstream stream) {
    return cuMemcpy3DPeerAsync(copy, own(stream));
}
CUresult cuMemcpyBatchAsync_v2_ptsz(CUdeviceptr *to, CUdeviceptr *from, size_t *sizes, size_t count,
                                    CUmemcpyAttributes *attributes, size_t *indices, size_t attribute_count,
                                    CUstream stream) {
    return cuMemcpyBatchAsync_v2(to, from, sizes, count, attributes, indices, attribute_count, own(stream));
}
CUresult cuMemcpyWithAttributesAsync_ptsz(CUdeviceptr to, CUdeviceptr from, size_t bytes,
                                          CUmemcpyAttributes *attributes, CUstream stream) {
    return cuMemcpyWithAttributesAsync(to, from, bytes, attributes, own(stream));
}
CUresult cuMemsetD8Async_ptsz(CUdeviceptr to, unsigned char value, size_t count, CUstream stream) {
    return cuMemsetD8Async(to, value, count, own(stream));
}
CUresult cuMemsetD16Async_ptsz(CUdeviceptr to, unsigned short value, size_t count, CUstream stream) {
    return cuMemsetD16Async(to, value, count, own(stream));
}
CUresult cuMemsetD32Async_ptsz(CUdeviceptr to, unsigned value, size_t count, CUstream stream) {
    return cuMemsetD32Async(to, value, count, own(stream));
}
CUresult cuMemsetD2D8Async_ptsz(CUdeviceptr to, size_t pitch, unsigned char value, size_t width, size_t height,
                                CUstream stream) {
    return cuMemsetD2D8Async(to, pitch, value, width, height, own(stream));
}
CUresult cuMemsetD2D16Async_ptsz(CUdeviceptr to, size_t pitch, unsigned short value, size_t width, size_t height,
                                 CUstream stream) {
    return cuMemsetD2D16Async(to, pitch, value, width, height, own(stream));
}
CUresult cuMemsetD2D32Async_ptsz(CUdeviceptr to, size_t pitch, unsigned value, size_t width, size_t height,
                                 CUstream stream) {
    return cuMemsetD2D32Async(to, pitch, value, width, height, own(stream));
}
CUresult cuMemFreeAsync_ptsz(CUdeviceptr address, CUstream stream) {
    return cuMemFreeAsync(address, own(stream));
}
CUresult cuMemAllocAsync_ptsz(CUdeviceptr *address, size_t bytes, CUstream stream) {
    return cuMemAllocAsync(address, bytes, own(stream));
}
CUresult cuMemAllocFromPoolAsync_ptsz(CUdeviceptr *address, size_t bytes, CUmemoryPool pool, CUstream stream) {
    return cuMemAllocFromPoolAsync(address, bytes, pool, own(stream));
}
CUresult cuMemPrefetchAsync_v2_ptsz(CUdeviceptr address, size_t count, CUmemLocation location, unsigned flags,
                                    CUstream stream) {
    return cuMemPrefetchAsync_v2(address, count, location, flags, own(stream));
}
CUresult cuStreamGetPriority_ptsz(CUstream stream, int *priority) {
    return cuStreamGetPriority(own(stream), priority);
}
CUresult cuStreamGetDevice_ptsz(CUstream stream, CUdevice *device) {
    return cuStreamGetDevice(own(stream), device);
}
CUresult cuStreamGetFlags_ptsz(CUstream stream, unsigned *flags) {
    return cuStreamGetFlags(own(stream), flags);
}
CUresult cuStreamGetId_ptsz(CUstream stream, unsigned long long *id) {
    return cuStreamGetId(own(stream), id);
}
CUresult cuStreamGetCtx_ptsz(CUstream stream, CUcontext *context) {
    return cuStreamGetCtx(own(stream), context);
}
CUresult cuStreamGetCtx_v2_ptsz(CUstream stream, CUcontext *context, CUgreenCtx *green) {
    return cuStreamGetCtx_v2(own(stream), context, green);
}
CUresult cuStreamWaitEvent_ptsz(CUstream stream, CUevent event, unsigned flags) {
    return cuStreamWaitEvent(own(stream), event, flags);
}
CUresult cuStreamAddCallback_ptsz(CUstream stream, CUstreamCallback callback, void *data, unsigned flags) {
    return cuStreamAddCallback(own(stream), callback, data, flags);
}
CUresult cuStreamBeginCapture_v2_ptsz(CUstream stream, CUstreamCaptureMode mode) {
    return cuStreamBeginCapture_v2(own(stream), mode);
}
CUresult cuStreamBeginCaptureToGraph_ptsz(CUstream stream, CUgraph graph, const CUgraphNode *nodes,
                                          const CUgraphEdgeData *edges, size_t count, CUstreamCaptureMode mode) {
    return cuStreamBeginCaptureToGraph(own(stream), graph, nodes, edges, count, mode);
}
CUresult cuStreamEndCapture_ptsz(CUstream stream, CUgraph *graph) {
    return cuStreamEndCapture(own(stream), graph);
}
CUresult cuStreamIsCapturing_ptsz(CUstream stream, CUstreamCaptureStatus *status) {
    return cuStreamIsCapturing(own(stream), status);
}
CUresult cuStreamGetCaptureInfo_v3_ptsz(CUstream stream, CUstreamCaptureStatus *status, cuuint64_t *id, CUgraph *graph,
                                        const CUgraphNode **nodes, const CUgraphEdgeData **edges, size_t *count) {
    return cuStreamGetCaptureInfo_v3(own(stream), status, id, graph, nodes, edges, count);
}
CUresult cuStreamUpdateCaptureDependencies_v2_ptsz(CUstream stream, CUgraphNode *nodes, const CUgraphEdgeData *edges,
                                                   size_t count, unsigned flags) {
    return cuStreamUpdateCaptureDependencies_v2(own(stream), nodes, edges, count, flags);
}
CUresult cuStreamAttachMemAsync_ptsz(CUstream stream, CUdeviceptr address, size_t bytes, unsigned flags) {
    return cuStreamAttachMemAsync(own(stream), address, bytes, flags);
}
CUresult cuStreamQuery_ptsz(CUstream stream) {
    return cuStreamQuery(own(stream));
}
CUresult cuStreamSynchronize_ptsz(CUstream stream) {
    return cuStreamSynchronize(own(stream));
}
CUresult cuStreamCopyAttributes_ptsz(CUstream to, CUstream from) {
    return cuStreamCopyAttributes(own(to), own(from));
}
CUresult cuStreamGetAttribute_ptsz(CUstream stream, CUstreamAttrID attribute, CUstreamAttrValue *value) {
    return cuStreamGetAttribute(own(stream), attribute, value);
}
CUresult cuStreamSetAttribute_ptsz(CUstream stream, CUstreamAttrID attribute, const CUstreamAttrValue *value) {
    return cuStreamSetAttribute(own(stream), attribute, value);
}
CUresult cuEventRecord_ptsz(CUevent event, CUstream stream) {
    return cuEventRecord(event, own(stream));
}
CUresult cuEventRecordWithFlags_ptsz(CUevent event, CUstream stream, unsigned flags) {
    return cuEventRecordWithFlags(event, own(stream), flags);
}
CUresult cuStreamWaitValue32_v2_ptsz(CUstream stream, CUdeviceptr address, cuuint32_t value, unsigned flags) {
    return cuStreamWaitValue32_v2(own(stream), address, value, flags);
}
CUresult cuStreamWaitValue64_v2_ptsz(CUstream stream, CUdeviceptr address, cuuint64_t value, unsigned flags) {
    return cuStreamWaitValue64_v2(own(stream), address, value, flags);
}
CUresult cuStreamWriteValue32_v2_ptsz(CUstream stream, CUdeviceptr address, cuuint32_t value, unsigned flags) {
    return cuStreamWriteValue32_v2(own(stream), address, value, flags);
}
CUresult cuStreamWriteValue64_v2_ptsz(CUstream stream, CUdeviceptr address, cuuint64_t value, unsigned flags) {
    return cuStreamWriteValue64_v2(own(stream), address, value, flags);
}
CUresult cuStreamBatchMemOp_v2_ptsz(CUstream stream, unsigned count, CUstreamBatchMemOpParams *ops, unsigned flags) {
    return cuStreamBatchMemOp_v2(own(stream), count, ops, flags);
}
CUresult cuLaunchKernel_ptsz(CUfunction function, unsigned gridX, unsigned gridY, unsigned gridZ, unsigned blockX,
                             unsigned blockY, unsigned blockZ, unsigned shared_bytes, CUstream stream,
                             void **parameters, void **extra) {
    return cuLaunchKernel(function, gridX, gridY, gridZ, blockX, blockY, blockZ, shared_bytes, own(stream), parameters,
                          extra);
}
CUresult cuLaunchKernelEx_ptsz(const CUlaunchConfig *config, CUfunction function, void **parameters, void **extra) {
    if (!config)
        return cuLaunchKernelEx(config, function, parameters, extra);
    CUlaunchConfig there = *config;
    there.hStream = own(config->hStream);
    return cuLaunchKernelEx(&there, function, parameters, extra);
}
CUresult cuLaunchCooperativeKernel_ptsz(CUfunction function, unsigned gridX, unsigned gridY, unsigned gridZ,
                                        unsigned blockX, unsigned blockY, unsigned blockZ, unsigned shared_bytes,
                                        CUstream stream, void **parameters) {
    return cuLaunchCooperativeKernel(function, gridX, gridY, gridZ, blockX, blockY, blockZ, shared_bytes, own(stream),
                                     parameters);
}
CUresult cuLaunchHostFunc_ptsz(CUstream stream, CUhostFn function, void *data) {
    return cuLaunchHostFunc(own(stream), function, data);
}
CUresult cuLaunchHostFunc_v2_ptsz(CUstream stream, CUhostFn function, void *data, unsigned mode) {
    return cuLaunchHostFunc_v2(own(stream), function, data, mode);
}
CUresult cuGraphInstantiateWithParams_ptsz(CUgraphExec *exec, CUgraph graph,
                                           CUDA_GRAPH_INSTANTIATE_PARAMS *parameters) {
    if (!parameters)
        return cuGraphInstantiateWithParams(exec, graph, parameters);
    CUDA_GRAPH_INSTANTIATE_PARAMS there = *parameters;
    there.hUploadStream = own(parameters->hUploadStream);
    CUresult result = cuGraphInstantiateWithParams(exec, graph, &there);
    parameters->hErrNode_out = there.hErrNode_out;
    parameters->result_out = there.result_out;
    return result;
}
CUresult cuGraphUpload_ptsz(CUgraphExec exec, CUstream stream) {
    return cuGraphUpload(exec, own(stream));
}
CUresult cuGraphLaunch_ptsz(CUgraphExec exec, CUstream stream) {
    return cuGraphLaunch(exec, own(stream));
}
CUresult cuMemcpyBatchAsync_ptsz(CUdeviceptr *to, CUdeviceptr *from, size_t *sizes, size_t count,
                                 CUmemcpyAttributes *attributes, size_t *indices, size_t attribute_count,
                                 size_t *failed, CUstream stream) {
    return cuMemcpyBatchAsync(to, from, sizes, count, attributes, indices, attribute_count, failed, own(stream));
}
CUresult cuStreamWriteValue32_ptsz(CUstream stream, CUdeviceptr address, cuuint32_t value, unsigned flags) {
    return cuStreamWriteValue32(own(stream), address, value, flags);
}
CUresult cuStreamWaitValue32_ptsz(CUstream stream, CUdeviceptr address, cuuint32_t value, unsigned flags) {
    return cuStreamWaitValue32(own(stream), address, value, flags);
}
CUresult cuStreamWriteValue64_ptsz(CUstream stream, CUdeviceptr address, cuuint64_t value, unsigned flags) {
    return cuStreamWriteValue64(own(stream), address, value, flags);
}
CUresult cuStreamWaitValue64_ptsz(CUstream stream, CUdeviceptr address, cuuint64_t value, unsigned flags) {
    return cuStreamWaitValue64(own(stream), address, value, flags);
}
CUresult cuStreamBatchMemOp_ptsz(CUstream stream, unsigned count, CUstreamBatchMemOpParams *ops, unsigned flags) {
    return cuStreamBatchMemOp(own(stream), count, ops, flags);
}
CUresult cuMemPrefetchAsync_ptsz(CUdeviceptr address, size_t count, CUdevice to, CUstream stream) {
    return cuMemPrefetchAsync(address, count, to, own(stream));
}
CUresult cuStreamBeginCapture_ptsz(CUstream stream) {
    return cuStreamBeginCapture(own(stream));
}
CUresult cuStreamGetCaptureInfo_ptsz(CUstream stream, CUstreamCaptureStatus *status, cuuint64_t *id) {
    return cuStreamGetCaptureInfo(own(stream), status, id);
}
CUresult cuStreamGetCaptureInfo_v2_ptsz(CUstream stream, CUstreamCaptureStatus *status, cuuint64_t *id, CUgraph *graph,
                                        const CUgraphNode **nodes, size_t *count) {
    return cuStreamGetCaptureInfo_v2(own(stream), status, id, graph, nodes, count);
}
CUresult cuStreamUpdateCaptureDependencies_ptsz(CUstream stream, CUgraphNode *nodes, size_t count, unsigned flags) {
    return cuStreamUpdateCaptureDependencies(own(stream), nodes, count, flags);
}
