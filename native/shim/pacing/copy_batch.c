/* Hooks: many copies by one call. A batch is GPU time if any of its copies is within the device. */
#include "pacing/copy.h"

static void begin_rows(struct pacing_work *work, CUstream stream, enum pacing_default meaning,
                       const CUdeviceptr *targets, const CUdeviceptr *sources, const size_t *sizes, size_t count) {
    uint64_t bytes = 0;
    bool host = true;
    for (size_t i = 0; tenant_active() && targets && sources && sizes && i < count; i++) {
        bytes += sizes[i];
        host = host && (pacing_copy_is_host(targets[i]) || pacing_copy_is_host(sources[i]));
    }
    pacing_copy_begin(work, stream, meaning, host, bytes);
}

static bool operand_is_host(const CUmemcpy3DOperand *operand) {
    return operand->type == CU_MEMCPY_OPERAND_TYPE_POINTER && pacing_copy_is_host(operand->op.ptr.ptr);
}

static void begin_boxes(struct pacing_work *work, CUstream stream, enum pacing_default meaning,
                        const CUDA_MEMCPY3D_BATCH_OP *copies, size_t count) {
    uint64_t elements = 0; /* of 1 to 16 bytes: good enough for what keeps copies of different sizes apart */
    bool host = true;
    for (size_t i = 0; tenant_active() && copies && i < count; i++) {
        elements += copies[i].extent.width * copies[i].extent.height * copies[i].extent.depth;
        host = host && (operand_is_host(&copies[i].src) || operand_is_host(&copies[i].dst));
    }
    pacing_copy_begin(work, stream, meaning, host, elements);
}

static void begin_decompression(struct pacing_work *work, CUstream stream, enum pacing_default meaning,
                                const CUmemDecompressParams *parts, size_t count) {
    uint64_t bytes = 0;
    for (size_t i = 0; parts && i < count; i++)
        bytes += parts[i].dstNumBytes;
    pacing_copy_begin(work, stream, meaning, false, bytes);
}

#define BATCH(symbol, parameters, begins, ...)                                                                         \
    CUresult symbol parameters {                                                                                       \
        struct pacing_work work;                                                                                       \
        begins;                                                                                                        \
        return pacing_end(&work, real.symbol(__VA_ARGS__));                                                            \
    }
/* For both default streams. */
#define BATCHES(symbol, parameters, begins, subject, count, ...)                                                       \
    BATCH(symbol, parameters, begins(&work, hStream, PACING_LEGACY, subject, count), __VA_ARGS__)                      \
    BATCH(symbol##_ptsz, parameters, begins(&work, hStream, PACING_PER_THREAD, subject, count), __VA_ARGS__)

#define ROWS dsts, srcs, sizes
BATCHES(cuMemcpyBatchAsync,
        (CUdeviceptr * dsts, CUdeviceptr *srcs, size_t *sizes, size_t count, CUmemcpyAttributes *attrs,
         size_t *attrsIdxs, size_t numAttrs, size_t *failIdx, CUstream hStream),
        begin_rows, ROWS, count, dsts, srcs, sizes, count, attrs, attrsIdxs, numAttrs, failIdx, hStream)
BATCHES(cuMemcpyBatchAsync_v2,
        (CUdeviceptr * dsts, CUdeviceptr *srcs, size_t *sizes, size_t count, CUmemcpyAttributes *attrs,
         size_t *attrsIdxs, size_t numAttrs, CUstream hStream),
        begin_rows, ROWS, count, dsts, srcs, sizes, count, attrs, attrsIdxs, numAttrs, hStream)
#define ROW &dst, &src, &size
BATCHES(cuMemcpyWithAttributesAsync,
        (CUdeviceptr dst, CUdeviceptr src, size_t size, CUmemcpyAttributes *attr, CUstream hStream), begin_rows, ROW, 1,
        dst, src, size, attr, hStream)

BATCHES(cuMemcpy3DBatchAsync,
        (size_t numOps, CUDA_MEMCPY3D_BATCH_OP *opList, size_t *failIdx, unsigned long long flags, CUstream hStream),
        begin_boxes, opList, numOps, numOps, opList, failIdx, flags, hStream)
BATCHES(cuMemcpy3DBatchAsync_v2,
        (size_t numOps, CUDA_MEMCPY3D_BATCH_OP *opList, unsigned long long flags, CUstream hStream), begin_boxes,
        opList, numOps, numOps, opList, flags, hStream)
BATCHES(cuMemcpy3DWithAttributesAsync, (CUDA_MEMCPY3D_BATCH_OP * op, unsigned long long flags, CUstream hStream),
        begin_boxes, op, 1, op, flags, hStream)

BATCHES(cuMemBatchDecompressAsync,
        (CUmemDecompressParams * paramsArray, size_t count, unsigned int flags, size_t *errorIndex, CUstream hStream),
        begin_decompression, paramsArray, count, paramsArray, count, flags, errorIndex, hStream)
