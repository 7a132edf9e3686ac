/* Copies: what the many calls ask for, as two sides and a box of bytes. */
#include <stdlib.h>
#include <string.h>

#include "array.h"

bool device_range(uint64_t address, uint64_t bytes, unsigned *ret_gpu) {
    uint64_t end = address + bytes;
    if (end < address)
        return false;
    for (bool first = true; first || address < end; first = false) {
        lock_driver();
        struct allocation *allocation = allocation_find(address);
        uint64_t until = allocation ? allocation->base + allocation->bytes : 0;
        unsigned gpu = allocation ? allocation->gpu : 0;
        unlock_driver();
        if (!until) {
            struct engine_range range;
            if (engine_memory_find(address, &range) || range.kind == ENGINE_RANGE_RESERVED)
                return false;
            until = range.base + range.bytes;
            gpu = range.gpu;
            /* A mapping may be followed by another; what the engine allocated for us is one piece. */
            if (range.kind == ENGINE_RANGE_LINEAR && until < end)
                return false;
        } else if (until < end) {
            return false;
        }
        if (first && ret_gpu)
            *ret_gpu = gpu;
        address = until;
    }
    return true;
}

static bool is_device(uint64_t address) {
    struct engine_range range;
    return engine_memory_find(address, &range) == 0;
}

struct box {
    CUmemorytype type;
    const void *host;
    CUdeviceptr device;
    CUarray array;
    size_t x, y, z, pitch, height;
};

static CUresult fill_array(struct copy_side *side, CUarray handle, const CUDA_MEMCPY3D *asked) {
    struct array *array = array_check(handle);
    if (!array)
        return CUDA_ERROR_INVALID_HANDLE;
    if (side->x + asked->WidthInBytes > array->pitch || side->y + asked->Height > array->rows ||
        side->z + asked->Depth > array->slices)
        return CUDA_ERROR_INVALID_VALUE;
    side->base = (unsigned char *)array->base;
    side->pitch = array->pitch;
    side->height = array->rows;
    side->device = true;
    side->gpu = array->gpu;
    return CUDA_SUCCESS;
}

static CUresult fill_side(struct copy_side *side, const struct box *box, const CUDA_MEMCPY3D *asked) {
    *side = (struct copy_side){.x = box->x, .y = box->y, .z = box->z, .pitch = box->pitch, .height = box->height};
    if (box->type == CU_MEMORYTYPE_ARRAY)
        return fill_array(side, box->array, asked);
    if (box->type < CU_MEMORYTYPE_HOST || box->type > CU_MEMORYTYPE_UNIFIED)
        return CUDA_ERROR_INVALID_VALUE;
    uint64_t address = box->type == CU_MEMORYTYPE_HOST ? (uint64_t)box->host : box->device;
    if (!address)
        return CUDA_ERROR_INVALID_VALUE;
    if (!side->pitch)
        side->pitch = side->x + asked->WidthInBytes;
    if (!side->height)
        side->height = side->y + asked->Height;
    if (side->pitch < asked->WidthInBytes)
        return CUDA_ERROR_INVALID_VALUE;
    side->base = (unsigned char *)address;
    lock_driver();
    bool pinned = host_range_find(address) != NULL;
    unlock_driver();
    side->device = !pinned && is_device(address);
    side->pageable = !pinned && !side->device;
    if (box->type == CU_MEMORYTYPE_DEVICE && side->pageable)
        return CUDA_ERROR_INVALID_VALUE;
    uint64_t first = ((side->z * side->height) + side->y) * side->pitch + side->x;
    uint64_t last = (((side->z + asked->Depth - 1) * side->height) + side->y + asked->Height - 1) * side->pitch +
                    side->x + asked->WidthInBytes;
    if (side->device && !device_range(address + first, last - first, &side->gpu))
        return CUDA_ERROR_INVALID_VALUE;
    return CUDA_SUCCESS;
}

CUresult copy_fill(struct work_copy *ret_copy, const CUDA_MEMCPY3D *asked) {
    struct work_copy copy = {
        .asked = *asked, .width = asked->WidthInBytes, .height = asked->Height, .depth = asked->Depth};
    struct box source = {asked->srcMemoryType, asked->srcHost, asked->srcDevice, asked->srcArray, asked->srcXInBytes,
                         asked->srcY,          asked->srcZ,    asked->srcPitch,  asked->srcHeight};
    struct box target = {asked->dstMemoryType, asked->dstHost, asked->dstDevice, asked->dstArray, asked->dstXInBytes,
                         asked->dstY,          asked->dstZ,    asked->dstPitch,  asked->dstHeight};
    if (!copy.width || !copy.height || !copy.depth) {
        *ret_copy = copy; /* nothing to move is no error */
        return CUDA_SUCCESS;
    }
    CUresult result = fill_side(&copy.source, &source, asked);
    if (!result)
        result = fill_side(&copy.target, &target, asked);
    if (!result)
        *ret_copy = copy;
    return result;
}

struct move {
    struct copy_side source, target;
    size_t width, height, depth;
    unsigned char *staged; /* owned */
};

static unsigned char *at(const struct copy_side *side, size_t y, size_t z) {
    return side->base + ((side->z + z) * side->height + side->y + y) * side->pitch + side->x;
}

static void move_bytes(const struct move *move) {
    bool flat = move->source.pitch == move->width && move->target.pitch == move->width &&
                (move->depth == 1 || (move->source.height == move->height && move->target.height == move->height));
    if (flat) {
        memmove(at(&move->target, 0, 0), at(&move->source, 0, 0), move->width * move->height * move->depth);
        return;
    }
    for (size_t z = 0; z < move->depth; z++)
        for (size_t y = 0; y < move->height; y++)
            memmove(at(&move->target, y, z), at(&move->source, y, z), move->width);
}

static void run_move(void *arg, const struct engine_times *times) {
    (void)times;
    struct move *move = arg;
    move_bytes(move);
    if (move->target.device) /* rows with what lies between them */
        engine_memory_written(
            move->target.gpu, (uint64_t)at(&move->target, 0, 0),
            (uint64_t)(at(&move->target, move->height - 1, move->depth - 1) + move->width - at(&move->target, 0, 0)));
    free(move->staged);
    free(move);
}

static bool stage(struct move *move) {
    move->staged = malloc(move->width * move->height * move->depth);
    if (!move->staged)
        return false;
    struct copy_side staged = {.base = move->staged, .pitch = move->width, .height = move->height};
    struct move there = *move;
    there.target = staged;
    move_bytes(&there);
    move->source = staged;
    return true;
}

static struct engine_op op_of(const struct work_copy *copy) {
    struct engine_op op = {.kind = ENGINE_OP_MARK, .bytes = copy->width * copy->height * copy->depth};
    if (copy->source.device && copy->target.device) {
        op.kind = copy->source.gpu == copy->target.gpu ? ENGINE_OP_DEVICE_COPY : ENGINE_OP_PEER_COPY;
    } else if (copy->source.device) {
        op.kind = ENGINE_OP_COPY_OUT;
    } else if (copy->target.device) {
        op.kind = ENGINE_OP_COPY_IN;
    }
    return op;
}

CUresult copy_run(struct stream *stream, const struct work_copy *copy) {
    if (!copy->width || !copy->height || !copy->depth)
        return CUDA_SUCCESS;
    struct move *move = malloc(sizeof *move);
    if (!move)
        return CUDA_ERROR_OUT_OF_MEMORY;
    *move = (struct move){copy->source, copy->target, copy->width, copy->height, copy->depth, NULL};
    if (copy->stage && !copy->wait && copy->source.pageable && !stage(move)) {
        free(move);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    struct engine_op op = op_of(copy);
    if (op.kind == ENGINE_OP_PEER_COPY)
        op.peer = copy->source.gpu == stream->context->gpu ? copy->target.gpu : copy->source.gpu;
    op.effect = run_move;
    op.arg = move;
    struct engine_ticket ticket;
    CUresult result = stream_submit(stream, &op, &ticket);
    if (result) {
        free(move->staged);
        free(move);
        return result;
    }
    if (!copy->wait)
        return CUDA_SUCCESS;
    result = from_errno(engine_ticket_wait(ticket, context_spins(stream->context)));
    return result ? result : (CUresult)atomic_load(&stream->context->error);
}
