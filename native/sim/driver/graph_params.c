#include "graph_params.h"

#include <stdlib.h>
#include <string.h>

#include "event.h"
#include "values.h"

CUresult fill_kernel(struct work *work, const CUDA_KERNEL_NODE_PARAMS *parameters) {
    if (!parameters)
        return CUDA_ERROR_INVALID_VALUE;
    CUfunction function = parameters->func ? parameters->func : (CUfunction)parameters->kern;
    *work = (struct work){.kind = WORK_KERNEL};
    CUresult result = kernel_fill(&work->kernel, function,
                                  (uint32_t[3]){parameters->gridDimX, parameters->gridDimY, parameters->gridDimZ},
                                  (uint32_t[3]){parameters->blockDimX, parameters->blockDimY, parameters->blockDimZ},
                                  parameters->sharedMemBytes, parameters->kernelParams, parameters->extra);
    work->kernel.context = parameters->ctx;
    return result;
}

CUresult fill_copy(struct work *work, const CUDA_MEMCPY3D *parameters) {
    if (!parameters)
        return CUDA_ERROR_INVALID_VALUE;
    *work = (struct work){.kind = WORK_COPY};
    return copy_fill(&work->copy, parameters);
}

CUresult fill_set(struct work *work, const CUDA_MEMSET_NODE_PARAMS *parameters) {
    if (!parameters)
        return CUDA_ERROR_INVALID_VALUE;
    *work = (struct work){.kind = WORK_SET};
    return set_fill(&work->set, parameters);
}

CUresult fill_host(struct work *work, const CUDA_HOST_NODE_PARAMS *parameters) {
    if (!parameters || !parameters->fn)
        return CUDA_ERROR_INVALID_VALUE;
    *work = (struct work){.kind = WORK_HOST, .host = *parameters};
    return CUDA_SUCCESS;
}

CUresult fill_event(struct work *work, enum work_kind kind, CUevent handle) {
    struct event *event = event_check(handle);
    if (!event)
        return CUDA_ERROR_INVALID_VALUE;
    *work = (struct work){.kind = kind, .event = event};
    return CUDA_SUCCESS;
}

CUresult fill_values(struct work *work, const CUDA_BATCH_MEM_OP_NODE_PARAMS *parameters) {
    if (!parameters || parameters->flags)
        return CUDA_ERROR_INVALID_VALUE;
    CUresult result = values_check(parameters->count, parameters->paramArray);
    if (result)
        return result;
    size_t bytes = parameters->count * sizeof *parameters->paramArray;
    *work = (struct work){.kind = WORK_VALUES, .values = {parameters->count, malloc(bytes + 1)}};
    if (!work->values.ops)
        return CUDA_ERROR_OUT_OF_MEMORY;
    if (bytes)
        memcpy(work->values.ops, parameters->paramArray, bytes);
    return CUDA_SUCCESS;
}

CUresult fill_child(struct work *work, CUgraph handle, bool move) {
    struct graph *graph = graph_check(handle);
    if (!graph || (move && graph->child))
        return CUDA_ERROR_INVALID_VALUE;
    *work = (struct work){.kind = WORK_CHILD, .child = graph};
    CUresult result = move ? CUDA_SUCCESS : graph_clone(graph, &work->child);
    if (!result)
        work->child->child = true;
    return result;
}

CUresult fill_alloc(struct work *work, CUDA_MEM_ALLOC_NODE_PARAMS *parameters) {
    if (!parameters)
        return CUDA_ERROR_INVALID_VALUE;
    *work = (struct work){.kind = WORK_ALLOC, .alloc.parameters = *parameters};
    work->alloc.parameters.accessDescs = NULL; /* the program's own array; every GPU may reach graph memory */
    work->alloc.parameters.accessDescCount = 0;
    CUresult result = graph_memory_reserve(&work->alloc.parameters);
    if (!result)
        parameters->dptr = work->alloc.parameters.dptr;
    return result;
}

CUresult fill_free(struct work *work, CUdeviceptr address) {
    lock_driver();
    struct allocation *allocation = allocation_find(address);
    bool known = allocation && allocation->base == address && allocation->kind == ALLOCATION_GRAPH;
    unlock_driver();
    *work = (struct work){.kind = WORK_FREE, .free = address};
    return known ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult fill_any(struct work *work, CUgraphNodeParams *any) {
    if (!any)
        return CUDA_ERROR_INVALID_VALUE;
    CUDA_HOST_NODE_PARAMS host;
    CUDA_KERNEL_NODE_PARAMS kernel;
    CUDA_MEMSET_NODE_PARAMS set;
    CUDA_MEM_ALLOC_NODE_PARAMS alloc;
    CUDA_BATCH_MEM_OP_NODE_PARAMS values;
    CUresult result;
    switch (any->type) {
    case CU_GRAPH_NODE_TYPE_KERNEL:
        memcpy(&kernel, &any->kernel, sizeof kernel); /* the third version has the fields of the second */
        return fill_kernel(work, &kernel);
    case CU_GRAPH_NODE_TYPE_MEMCPY:
        return fill_copy(work, &any->memcpy.copyParams);
    case CU_GRAPH_NODE_TYPE_MEMSET:
        memcpy(&set, &any->memset, sizeof set); /* the second version only adds a context at its end */
        return fill_set(work, &set);
    case CU_GRAPH_NODE_TYPE_HOST:
        host = (CUDA_HOST_NODE_PARAMS){.fn = any->host.fn, .userData = any->host.userData};
        return fill_host(work, &host);
    case CU_GRAPH_NODE_TYPE_GRAPH:
        return fill_child(work, any->graph.graph, any->graph.ownership == CU_GRAPH_CHILD_GRAPH_OWNERSHIP_MOVE);
    case CU_GRAPH_NODE_TYPE_EMPTY:
        *work = (struct work){.kind = WORK_EMPTY};
        return CUDA_SUCCESS;
    case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
        return fill_event(work, WORK_EVENT_WAIT, any->eventWait.event);
    case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
        return fill_event(work, WORK_EVENT_RECORD, any->eventRecord.event);
    case CU_GRAPH_NODE_TYPE_MEM_ALLOC:
        memcpy(&alloc, &any->alloc, sizeof alloc);
        result = fill_alloc(work, &alloc);
        any->alloc.dptr = alloc.dptr;
        return result;
    case CU_GRAPH_NODE_TYPE_MEM_FREE:
        return fill_free(work, any->free.dptr);
    case CU_GRAPH_NODE_TYPE_BATCH_MEM_OP:
        memcpy(&values, &any->memOp, sizeof values);
        return fill_values(work, &values);
    default:
        return CUDA_ERROR_NOT_SUPPORTED;
    }
}

void show_kernel(const struct work *work, CUDA_KERNEL_NODE_PARAMS *ret_parameters) {
    const struct work_kernel *kernel = &work->kernel;
    *ret_parameters = (CUDA_KERNEL_NODE_PARAMS){.func = (CUfunction)kernel->function,
                                                .gridDimX = kernel->grid[0],
                                                .gridDimY = kernel->grid[1],
                                                .gridDimZ = kernel->grid[2],
                                                .blockDimX = kernel->block[0],
                                                .blockDimY = kernel->block[1],
                                                .blockDimZ = kernel->block[2],
                                                .sharedMemBytes = kernel->shared_bytes,
                                                .kernelParams = kernel->parameters,
                                                .ctx = kernel->context};
}

void show_set(const struct work *work, CUDA_MEMSET_NODE_PARAMS *ret_parameters) {
    const struct work_set *set = &work->set;
    *ret_parameters = (CUDA_MEMSET_NODE_PARAMS){
        (CUdeviceptr)set->target, set->pitch, set->value, set->element, set->width, set->height};
}

CUgraphNodeType type_of(const struct work *work) {
    switch (work->kind) {
    case WORK_KERNEL:
        return CU_GRAPH_NODE_TYPE_KERNEL;
    case WORK_COPY:
        return CU_GRAPH_NODE_TYPE_MEMCPY;
    case WORK_SET:
        return CU_GRAPH_NODE_TYPE_MEMSET;
    case WORK_HOST:
        return CU_GRAPH_NODE_TYPE_HOST;
    case WORK_EVENT_RECORD:
        return CU_GRAPH_NODE_TYPE_EVENT_RECORD;
    case WORK_EVENT_WAIT:
        return CU_GRAPH_NODE_TYPE_WAIT_EVENT;
    case WORK_CHILD:
        return CU_GRAPH_NODE_TYPE_GRAPH;
    case WORK_ALLOC:
        return CU_GRAPH_NODE_TYPE_MEM_ALLOC;
    case WORK_FREE:
        return CU_GRAPH_NODE_TYPE_MEM_FREE;
    case WORK_VALUES:
        return CU_GRAPH_NODE_TYPE_BATCH_MEM_OP;
    default:
        return CU_GRAPH_NODE_TYPE_EMPTY;
    }
}

CUresult node_set(struct node *node, struct work *work) {
    if (!node || node->work.kind != work->kind) {
        work_free(work);
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (work->kind == WORK_KERNEL)
        work->kernel.cooperative = node->work.kernel.cooperative;
    struct work before = node->work;
    node->work = *work;
    work_free(&before);
    return CUDA_SUCCESS;
}

CUresult node_add(CUgraphNode *ret_node, CUgraph handle, const CUgraphNode *dependencies, size_t count,
                  struct work *work) {
    struct graph *graph = graph_check(handle);
    CUresult result = !graph || !ret_node || (count && !dependencies) ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
    for (size_t i = 0; !result && i < count; i++) {
        struct node *node = node_check(dependencies[i]);
        if (!node || node->graph != graph)
            result = CUDA_ERROR_INVALID_VALUE;
    }
    struct node *node;
    if (!result)
        result = graph_add(graph, (struct node *const *)dependencies, count, work, &node);
    if (result)
        work_free(work);
    else
        *ret_node = (CUgraphNode)node;
    return result;
}
