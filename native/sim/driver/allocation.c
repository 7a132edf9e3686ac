/* The device allocations of this process, found by any address within them. */
#include <search.h>
#include <stdlib.h>

#include "ipc.h"

static void *tree; /* of struct allocation: disjoint ranges, so that "overlaps" can stand for "equal" */
static unsigned long long last_id;

static int compare(const void *a, const void *b) {
    const struct allocation *left = a, *right = b;
    if (left->base + left->bytes <= right->base)
        return -1;
    return left->base >= right->base + right->bytes;
}

struct allocation *allocation_find(uint64_t address) {
    struct allocation point = {.base = address, .bytes = 1};
    struct allocation **found = tfind(&point, &tree, compare);
    return found ? *found : NULL;
}

struct allocation *allocation_add(const struct allocation *like) {
    struct allocation *allocation = malloc(sizeof *allocation);
    if (!allocation)
        return NULL;
    *allocation = *like;
    allocation->id = ++last_id;
    if (!tsearch(allocation, &tree, compare)) {
        free(allocation);
        return NULL;
    }
    struct context *context = allocation->context;
    if (context) {
        allocation->previous = NULL;
        allocation->next = context->allocations;
        if (allocation->next)
            allocation->next->previous = allocation;
        context->allocations = allocation;
    }
    return allocation;
}

void allocation_remove(struct allocation *allocation) {
    tdelete(allocation, &tree, compare);
    if (allocation->context) {
        if (allocation->previous)
            allocation->previous->next = allocation->next;
        else
            allocation->context->allocations = allocation->next;
        if (allocation->next)
            allocation->next->previous = allocation->previous;
    }
    free(allocation);
}

static void release_physical(struct allocation *allocation) {
    if (allocation->kind == ALLOCATION_IPC) {
        struct engine_physical *physical = allocation->owner;
        uint64_t bytes = engine_physical_bytes(physical);
        engine_address_unmap(allocation->base, bytes);
        engine_address_free(allocation->base, bytes);
        engine_physical_release(physical);
    } else if (allocation->kind == ALLOCATION_LINEAR && allocation->owner) {
        ipc_free_shared(allocation);
    } else {
        engine_memory_free(allocation->base);
    }
}

void allocations_release(struct context *context) {
    while (context->allocations) {
        struct allocation *allocation = context->allocations;
        release_physical(allocation);
        allocation_remove(allocation);
    }
}

CUresult allocation_make(struct context *context, uint64_t bytes, enum allocation_kind kind, uint64_t *ret_base) {
    struct allocation like = {.bytes = bytes, .kind = kind, .gpu = context->gpu, .context = context};
    CUresult result = from_errno(engine_memory_alloc(context->gpu, bytes, &like.base));
    if (result)
        return result;
    lock_driver();
    if (!allocation_add(&like))
        result = CUDA_ERROR_OUT_OF_MEMORY;
    unlock_driver();
    if (result)
        engine_memory_free(like.base);
    else
        *ret_base = like.base;
    return result;
}

CUresult allocation_unmake(uint64_t base, enum allocation_kind kind) {
    CUresult result = CUDA_ERROR_INVALID_VALUE;
    lock_driver();
    struct allocation *allocation = allocation_find(base);
    if (allocation && allocation->base == base && allocation->kind == kind) {
        release_physical(allocation);
        allocation_remove(allocation);
        result = CUDA_SUCCESS;
    }
    unlock_driver();
    return result;
}
