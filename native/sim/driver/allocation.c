/* The device allocations of this process, found by any address within them. */
#include <search.h>
#include <stdlib.h>

#include "sim.h"

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

void allocation_release_physical(struct allocation *allocation) {
    if (allocation->kind == ALLOCATION_IPC) {
        struct engine_physical *physical = allocation->owner;
        uint64_t bytes = engine_physical_bytes(physical);
        engine_address_unmap(allocation->base, bytes);
        engine_address_free(allocation->base, bytes);
        engine_physical_release(physical);
    } else {
        engine_memory_free(allocation->base);
    }
}

void allocations_release(struct context *context) {
    while (context->allocations) {
        struct allocation *allocation = context->allocations;
        allocation_release_physical(allocation);
        allocation_remove(allocation);
    }
}
