/* User objects: something of the program's that lives as long as the graphs that use it. */
#include <stdlib.h>

#include "graph.h"

struct user_object {
    uint32_t magic;
    _Atomic unsigned references;
    CUhostFn destroy;
    void *data;
};

static struct user_object *check(CUuserObject handle) {
    return is_live(handle, MAGIC_USER_OBJECT) ? (struct user_object *)handle : NULL;
}

static void drop(struct user_object *object, unsigned count) {
    if (atomic_fetch_sub(&object->references, count) != count)
        return;
    object->magic = MAGIC_DEAD;
    object->destroy(object->data);
    object_delete(MAGIC_USER_OBJECT, object);
}

CUresult cuUserObjectCreate(CUuserObject *handle, void *data, CUhostFn destroy, unsigned count, unsigned flags) {
    CUresult result = require_init();
    if (result)
        return result;
    if (!handle || !destroy || !count || flags != CU_USER_OBJECT_NO_DESTRUCTOR_SYNC)
        return CUDA_ERROR_INVALID_VALUE;
    struct user_object *object = object_new(MAGIC_USER_OBJECT, sizeof *object);
    if (!object)
        return CUDA_ERROR_OUT_OF_MEMORY;
    object->magic = MAGIC_USER_OBJECT;
    atomic_init(&object->references, count);
    object->destroy = destroy;
    object->data = data;
    *handle = (CUuserObject)object;
    return CUDA_SUCCESS;
}

CUresult cuUserObjectRetain(CUuserObject handle, unsigned count) {
    CUresult result = require_init();
    if (result)
        return result;
    struct user_object *object = check(handle);
    if (!object || !count)
        return CUDA_ERROR_INVALID_VALUE;
    atomic_fetch_add(&object->references, count);
    return CUDA_SUCCESS;
}

CUresult cuUserObjectRelease(CUuserObject handle, unsigned count) {
    CUresult result = require_init();
    if (result)
        return result;
    struct user_object *object = check(handle);
    if (!object || !count || atomic_load(&object->references) < count)
        return CUDA_ERROR_INVALID_VALUE;
    drop(object, count);
    return CUDA_SUCCESS;
}

static CUresult hold(struct graph *graph, struct user_object *object, unsigned count) {
    struct graph_object *entry = graph->objects;
    while (entry && entry->object != object)
        entry = entry->next;
    if (!entry) {
        entry = calloc(1, sizeof *entry);
        if (!entry)
            return CUDA_ERROR_OUT_OF_MEMORY;
        entry->object = object;
        entry->next = graph->objects;
        graph->objects = entry;
    }
    entry->count += count;
    return CUDA_SUCCESS;
}

CUresult cuGraphRetainUserObject(CUgraph graph_handle, CUuserObject handle, unsigned count, unsigned flags) {
    CUresult result = require_init();
    if (result)
        return result;
    struct graph *graph = graph_check(graph_handle);
    struct user_object *object = check(handle);
    if (!graph || !object || !count || flags & ~(unsigned)CU_GRAPH_USER_OBJECT_MOVE)
        return CUDA_ERROR_INVALID_VALUE;
    result = hold(graph, object, count);
    if (!result && !(flags & CU_GRAPH_USER_OBJECT_MOVE))
        atomic_fetch_add(&object->references, count);
    return result;
}

CUresult cuGraphReleaseUserObject(CUgraph graph_handle, CUuserObject handle, unsigned count) {
    CUresult result = require_init();
    if (result)
        return result;
    struct graph *graph = graph_check(graph_handle);
    struct user_object *object = check(handle);
    if (!graph || !object || !count)
        return CUDA_ERROR_INVALID_VALUE;
    for (struct graph_object **link = &graph->objects; *link; link = &(*link)->next) {
        struct graph_object *entry = *link;
        if (entry->object != object || entry->count < count)
            continue;
        entry->count -= count;
        if (!entry->count) {
            *link = entry->next;
            free(entry);
        }
        drop(object, count);
        return CUDA_SUCCESS;
    }
    return CUDA_ERROR_INVALID_VALUE;
}

CUresult graph_objects_clone(const struct graph *graph, struct graph *clone) {
    for (const struct graph_object *entry = graph->objects; entry; entry = entry->next) {
        CUresult result = hold(clone, entry->object, 1);
        if (result)
            return result;
        atomic_fetch_add(&entry->object->references, 1);
    }
    return CUDA_SUCCESS;
}

void graph_objects_release(struct graph *graph) {
    while (graph->objects) {
        struct graph_object *entry = graph->objects;
        graph->objects = entry->next;
        drop(entry->object, entry->count);
        free(entry);
    }
}
