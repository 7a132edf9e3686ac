/* cuGraphNodeGetParams: what any kind of node was made with. */
#include <string.h>

#include "graph_params.h"

CUresult cuGraphNodeGetParams(CUgraphNode handle, CUgraphNodeParams *parameters) {
    CUresult result = require_init();
    if (result)
        return result;
    const struct node *node = node_check(handle);
    if (!node || !parameters)
        return CUDA_ERROR_INVALID_VALUE;
    memset(parameters, 0, sizeof *parameters);
    const struct work *work = &node->work;
    CUDA_KERNEL_NODE_PARAMS kernel;
    CUDA_MEMSET_NODE_PARAMS set;
    parameters->type = type_of(work);
    switch (work->kind) {
    case WORK_KERNEL:
        show_kernel(work, &kernel);
        memcpy(&parameters->kernel, &kernel, sizeof kernel);
        break;
    case WORK_COPY:
        parameters->memcpy.copyParams = work->copy.asked;
        break;
    case WORK_SET:
        show_set(work, &set);
        memcpy(&parameters->memset, &set, sizeof set);
        break;
    case WORK_HOST:
        parameters->host.fn = work->host.fn;
        parameters->host.userData = work->host.userData;
        break;
    case WORK_CHILD:
        parameters->graph.graph = (CUgraph)work->child;
        break;
    case WORK_EVENT_WAIT:
        parameters->eventWait.event = (CUevent)work->event;
        break;
    case WORK_EVENT_RECORD:
        parameters->eventRecord.event = (CUevent)work->event;
        break;
    case WORK_ALLOC:
        memcpy(&parameters->alloc, &work->alloc.parameters, sizeof work->alloc.parameters);
        break;
    case WORK_FREE:
        parameters->free.dptr = work->free;
        break;
    case WORK_VALUES:
        parameters->memOp.count = work->values.count;
        parameters->memOp.paramArray = work->values.ops;
        break;
    case WORK_EMPTY:
        break;
    }
    return CUDA_SUCCESS;
}
