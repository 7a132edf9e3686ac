/* Memory operations of a stream: write a word, or wait until a word has a value. */
#include "values.h"

#include <stdlib.h>
#include <string.h>

struct value {
    uintptr_t address;
    uint64_t number;
    unsigned flags;
    bool wide;
};

static uint64_t load(const struct value *value) {
    if (value->wide)
        return __atomic_load_n((uint64_t *)value->address, __ATOMIC_ACQUIRE);
    return __atomic_load_n((uint32_t *)value->address, __ATOMIC_ACQUIRE);
}

static void write_value(void *arg, const struct engine_times *times) {
    (void)times;
    struct value *value = arg;
    /* release: who sees the value sees what the stream did before it */
    if (value->wide)
        __atomic_store_n((uint64_t *)value->address, value->number, __ATOMIC_RELEASE);
    else
        __atomic_store_n((uint32_t *)value->address, (uint32_t)value->number, __ATOMIC_RELEASE);
    free(value);
}

static bool is_reached(void *arg) {
    const struct value *value = arg;
    uint64_t now = load(value), wanted = value->number;
    if (!value->wide)
        wanted &= UINT32_MAX;
    switch (value->flags & 3u) {
    case CU_STREAM_WAIT_VALUE_GEQ: /* cyclic: the difference is what counts */
        return value->wide ? (int64_t)(now - wanted) >= 0 : (int32_t)(uint32_t)(now - wanted) >= 0;
    case CU_STREAM_WAIT_VALUE_EQ:
        return now == wanted;
    case CU_STREAM_WAIT_VALUE_AND:
        return (now & wanted) != 0;
    default:
        return value->wide ? ~(now | wanted) != 0 : (uint32_t)~(now | wanted) != 0; /* NOR */
    }
}
static void forget(void *arg, const struct engine_times *times) {
    (void)times;
    free(arg);
}

static bool is_write(CUstreamBatchMemOpType type) {
    return type == CU_STREAM_MEM_OP_WRITE_VALUE_32 || type == CU_STREAM_MEM_OP_WRITE_VALUE_64;
}
static bool is_wait(CUstreamBatchMemOpType type) {
    return type == CU_STREAM_MEM_OP_WAIT_VALUE_32 || type == CU_STREAM_MEM_OP_WAIT_VALUE_64;
}

CUresult values_check(unsigned count, const CUstreamBatchMemOpParams *ops) {
    if (!ops && count)
        return CUDA_ERROR_INVALID_VALUE;
    for (unsigned i = 0; i < count; i++) {
        CUstreamBatchMemOpType type = ops[i].operation;
        if (type == CU_STREAM_MEM_OP_BARRIER || type == CU_STREAM_MEM_OP_FLUSH_REMOTE_WRITES)
            continue;
        if (!is_write(type) && !is_wait(type))
            return CUDA_ERROR_INVALID_VALUE;
        CUdeviceptr address = ops[i].waitValue.address;
        size_t bytes = type == CU_STREAM_MEM_OP_WAIT_VALUE_64 || type == CU_STREAM_MEM_OP_WRITE_VALUE_64 ? 8 : 4;
        struct engine_range range;
        lock_driver();
        bool known = host_range_find((uintptr_t)address) != NULL;
        unlock_driver();
        if (address % bytes || (!known && engine_memory_find(address, &range)))
            return CUDA_ERROR_INVALID_VALUE;
    }
    return CUDA_SUCCESS;
}

CUresult values_run(struct stream *stream, unsigned count, const CUstreamBatchMemOpParams *ops) {
    CUresult result = CUDA_SUCCESS;
    for (unsigned i = 0; !result && i < count; i++) {
        CUstreamBatchMemOpType type = ops[i].operation;
        if (!is_write(type) && !is_wait(type))
            continue; /* barriers: a stream is in order as it is */
        struct value *value = malloc(sizeof *value);
        if (!value)
            return CUDA_ERROR_OUT_OF_MEMORY;
        bool wide = type == CU_STREAM_MEM_OP_WAIT_VALUE_64 || type == CU_STREAM_MEM_OP_WRITE_VALUE_64;
        *value = (struct value){ops[i].waitValue.address, wide ? ops[i].waitValue.value64 : ops[i].waitValue.value,
                                ops[i].waitValue.flags, wide};
        struct engine_op op = {.kind = ENGINE_OP_MARK, .effect = write_value, .arg = value};
        if (is_wait(type))
            op = (struct engine_op){ENGINE_OP_POLL, .ready = is_reached, .effect = forget, .arg = value};
        result = stream_submit(stream, &op, NULL);
        if (result)
            free(value);
    }
    return result;
}

CUresult cuStreamBatchMemOp_v2(CUstream stream, unsigned count, CUstreamBatchMemOpParams *ops, unsigned flags) {
    CUresult result = require_init();
    if (!result && flags)
        result = CUDA_ERROR_INVALID_VALUE;
    if (!result)
        result = values_check(count, ops);
    if (result)
        return result;
    struct work work = {.kind = WORK_VALUES,
                        .values = {count, malloc((count ? count : 1) * sizeof(CUstreamBatchMemOpParams))}};
    if (!work.values.ops)
        return CUDA_ERROR_OUT_OF_MEMORY;
    if (count)
        memcpy(work.values.ops, ops, count * sizeof *ops);
    return work_enqueue(stream, &work);
}

static CUresult one(CUstream stream, CUstreamBatchMemOpType type, CUdeviceptr address, uint64_t number,
                    unsigned flags) {
    CUstreamBatchMemOpParams op = {.waitValue = {.operation = type, .address = address, .flags = flags}};
    op.waitValue.value64 = number;
    return cuStreamBatchMemOp_v2(stream, 1, &op, 0);
}

CUresult cuStreamWriteValue32_v2(CUstream stream, CUdeviceptr address, cuuint32_t number, unsigned flags) {
    return one(stream, CU_STREAM_MEM_OP_WRITE_VALUE_32, address, number, flags);
}
CUresult cuStreamWriteValue64_v2(CUstream stream, CUdeviceptr address, cuuint64_t number, unsigned flags) {
    return one(stream, CU_STREAM_MEM_OP_WRITE_VALUE_64, address, number, flags);
}
CUresult cuStreamWaitValue32_v2(CUstream stream, CUdeviceptr address, cuuint32_t number, unsigned flags) {
    return one(stream, CU_STREAM_MEM_OP_WAIT_VALUE_32, address, number, flags);
}
CUresult cuStreamWaitValue64_v2(CUstream stream, CUdeviceptr address, cuuint64_t number, unsigned flags) {
    return one(stream, CU_STREAM_MEM_OP_WAIT_VALUE_64, address, number, flags);
}
CUresult cuStreamBatchMemOp(CUstream stream, unsigned count, CUstreamBatchMemOpParams *ops, unsigned flags) {
    return cuStreamBatchMemOp_v2(stream, count, ops, flags);
}
CUresult cuStreamWriteValue32(CUstream stream, CUdeviceptr address, cuuint32_t number, unsigned flags) {
    return cuStreamWriteValue32_v2(stream, address, number, flags);
}
CUresult cuStreamWriteValue64(CUstream stream, CUdeviceptr address, cuuint64_t number, unsigned flags) {
    return cuStreamWriteValue64_v2(stream, address, number, flags);
}
CUresult cuStreamWaitValue32(CUstream stream, CUdeviceptr address, cuuint32_t number, unsigned flags) {
    return cuStreamWaitValue32_v2(stream, address, number, flags);
}
CUresult cuStreamWaitValue64(CUstream stream, CUdeviceptr address, cuuint64_t number, unsigned flags) {
    return cuStreamWaitValue64_v2(stream, address, number, flags);
}
