/* Nodes: adding one of each kind, reading and changing it, in a graph and in an exec. */
#include <string.h>

#include "event.h"
#include "graph_params.h"

/* The four calls every kind has: `fill` makes the work, from `parameters`. */
#define ADD(name, type, fill)                                                                                          \
    CUresult name(CUgraphNode *node, CUgraph graph, const CUgraphNode *dependencies, size_t count, type) {             \
        struct work work;                                                                                              \
        CUresult result = require_init();                                                                              \
        if (!result)                                                                                                   \
            result = fill;                                                                                             \
        return result ? result : node_add(node, graph, dependencies, count, &work);                                    \
    }
#define SET(name, type, fill)                                                                                          \
    CUresult name(CUgraphNode node, type) {                                                                            \
        struct work work;                                                                                              \
        CUresult result = require_init();                                                                              \
        if (!result)                                                                                                   \
            result = fill;                                                                                             \
        return result ? result : node_set(node_check(node), &work);                                                    \
    }
#define EXEC_SET(name, type, fill)                                                                                     \
    CUresult name(CUgraphExec exec, CUgraphNode node, type) {                                                          \
        struct work work;                                                                                              \
        CUresult result = require_init();                                                                              \
        if (!result)                                                                                                   \
            result = fill;                                                                                             \
        return result ? result : node_set(exec_node(exec_check(exec), node), &work);                                   \
    }
#define GET(name, type, kind_of_work, show)                                                                            \
    CUresult name(CUgraphNode handle, type parameters) {                                                               \
        CUresult result = require_init();                                                                              \
        if (result)                                                                                                    \
            return result;                                                                                             \
        const struct node *node = node_check(handle);                                                                  \
        if (!node || !parameters || node->work.kind != (kind_of_work))                                                 \
            return CUDA_ERROR_INVALID_VALUE;                                                                           \
        show;                                                                                                          \
        return CUDA_SUCCESS;                                                                                           \
    }

/* The first version of the kernel's parameters ends before `kern` and `ctx`. */
static CUresult fill_old_kernel(struct work *work, const CUDA_KERNEL_NODE_PARAMS_v1 *old) {
    CUDA_KERNEL_NODE_PARAMS parameters = {0};
    if (!old)
        return CUDA_ERROR_INVALID_VALUE;
    memcpy(&parameters, old, sizeof *old);
    return fill_kernel(work, &parameters);
}
static void show_old_kernel(const struct work *work, CUDA_KERNEL_NODE_PARAMS_v1 *old) {
    CUDA_KERNEL_NODE_PARAMS parameters;
    show_kernel(work, &parameters);
    memcpy(old, &parameters, sizeof *old);
}

ADD(cuGraphAddKernelNode_v2, const CUDA_KERNEL_NODE_PARAMS *parameters, fill_kernel(&work, parameters))
SET(cuGraphKernelNodeSetParams_v2, const CUDA_KERNEL_NODE_PARAMS *parameters, fill_kernel(&work, parameters))
EXEC_SET(cuGraphExecKernelNodeSetParams_v2, const CUDA_KERNEL_NODE_PARAMS *parameters, fill_kernel(&work, parameters))
GET(cuGraphKernelNodeGetParams_v2, CUDA_KERNEL_NODE_PARAMS *, WORK_KERNEL, show_kernel(&node->work, parameters))
ADD(cuGraphAddKernelNode, const CUDA_KERNEL_NODE_PARAMS_v1 *parameters, fill_old_kernel(&work, parameters))
SET(cuGraphKernelNodeSetParams, const CUDA_KERNEL_NODE_PARAMS_v1 *parameters, fill_old_kernel(&work, parameters))
EXEC_SET(cuGraphExecKernelNodeSetParams, const CUDA_KERNEL_NODE_PARAMS_v1 *parameters,
         fill_old_kernel(&work, parameters))
GET(cuGraphKernelNodeGetParams, CUDA_KERNEL_NODE_PARAMS_v1 *, WORK_KERNEL, show_old_kernel(&node->work, parameters))

/* Under unified addressing the context of a copy or a memset changes nothing. */
CUresult cuGraphAddMemcpyNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *dependencies, size_t count,
                              const CUDA_MEMCPY3D *parameters, CUcontext context) {
    (void)context;
    struct work work;
    CUresult result = require_init();
    if (!result)
        result = fill_copy(&work, parameters);
    return result ? result : node_add(node, graph, dependencies, count, &work);
}
CUresult cuGraphAddMemsetNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *dependencies, size_t count,
                              const CUDA_MEMSET_NODE_PARAMS *parameters, CUcontext context) {
    (void)context;
    struct work work;
    CUresult result = require_init();
    if (!result)
        result = fill_set(&work, parameters);
    return result ? result : node_add(node, graph, dependencies, count, &work);
}
CUresult cuGraphExecMemcpyNodeSetParams(CUgraphExec exec, CUgraphNode node, const CUDA_MEMCPY3D *parameters,
                                        CUcontext context) {
    (void)context;
    struct work work;
    CUresult result = require_init();
    if (!result)
        result = fill_copy(&work, parameters);
    return result ? result : node_set(exec_node(exec_check(exec), node), &work);
}
CUresult cuGraphExecMemsetNodeSetParams(CUgraphExec exec, CUgraphNode node, const CUDA_MEMSET_NODE_PARAMS *parameters,
                                        CUcontext context) {
    (void)context;
    struct work work;
    CUresult result = require_init();
    if (!result)
        result = fill_set(&work, parameters);
    return result ? result : node_set(exec_node(exec_check(exec), node), &work);
}
SET(cuGraphMemcpyNodeSetParams, const CUDA_MEMCPY3D *parameters, fill_copy(&work, parameters))
GET(cuGraphMemcpyNodeGetParams, CUDA_MEMCPY3D *, WORK_COPY, *parameters = node->work.copy.asked)
SET(cuGraphMemsetNodeSetParams, const CUDA_MEMSET_NODE_PARAMS *parameters, fill_set(&work, parameters))
GET(cuGraphMemsetNodeGetParams, CUDA_MEMSET_NODE_PARAMS *, WORK_SET, show_set(&node->work, parameters))

ADD(cuGraphAddHostNode, const CUDA_HOST_NODE_PARAMS *parameters, fill_host(&work, parameters))
SET(cuGraphHostNodeSetParams, const CUDA_HOST_NODE_PARAMS *parameters, fill_host(&work, parameters))
EXEC_SET(cuGraphExecHostNodeSetParams, const CUDA_HOST_NODE_PARAMS *parameters, fill_host(&work, parameters))
GET(cuGraphHostNodeGetParams, CUDA_HOST_NODE_PARAMS *, WORK_HOST, *parameters = node->work.host)

ADD(cuGraphAddEventRecordNode, CUevent event, fill_event(&work, WORK_EVENT_RECORD, event))
SET(cuGraphEventRecordNodeSetEvent, CUevent event, fill_event(&work, WORK_EVENT_RECORD, event))
EXEC_SET(cuGraphExecEventRecordNodeSetEvent, CUevent event, fill_event(&work, WORK_EVENT_RECORD, event))
GET(cuGraphEventRecordNodeGetEvent, CUevent *, WORK_EVENT_RECORD, *parameters = (CUevent)node->work.event)
ADD(cuGraphAddEventWaitNode, CUevent event, fill_event(&work, WORK_EVENT_WAIT, event))
SET(cuGraphEventWaitNodeSetEvent, CUevent event, fill_event(&work, WORK_EVENT_WAIT, event))
EXEC_SET(cuGraphExecEventWaitNodeSetEvent, CUevent event, fill_event(&work, WORK_EVENT_WAIT, event))
GET(cuGraphEventWaitNodeGetEvent, CUevent *, WORK_EVENT_WAIT, *parameters = (CUevent)node->work.event)

static void show_values(const struct work *work, CUDA_BATCH_MEM_OP_NODE_PARAMS *parameters) {
    *parameters = (CUDA_BATCH_MEM_OP_NODE_PARAMS){.count = work->values.count, .paramArray = work->values.ops};
}
ADD(cuGraphAddBatchMemOpNode, const CUDA_BATCH_MEM_OP_NODE_PARAMS *parameters, fill_values(&work, parameters))
SET(cuGraphBatchMemOpNodeSetParams, const CUDA_BATCH_MEM_OP_NODE_PARAMS *parameters, fill_values(&work, parameters))
EXEC_SET(cuGraphExecBatchMemOpNodeSetParams, const CUDA_BATCH_MEM_OP_NODE_PARAMS *parameters,
         fill_values(&work, parameters))
GET(cuGraphBatchMemOpNodeGetParams, CUDA_BATCH_MEM_OP_NODE_PARAMS *, WORK_VALUES, show_values(&node->work, parameters))

ADD(cuGraphAddMemAllocNode, CUDA_MEM_ALLOC_NODE_PARAMS *parameters, fill_alloc(&work, parameters))
GET(cuGraphMemAllocNodeGetParams, CUDA_MEM_ALLOC_NODE_PARAMS *, WORK_ALLOC, *parameters = node->work.alloc.parameters)
ADD(cuGraphAddMemFreeNode, CUdeviceptr address, fill_free(&work, address))
GET(cuGraphMemFreeNodeGetParams, CUdeviceptr *, WORK_FREE, *parameters = node->work.free)

ADD(cuGraphAddChildGraphNode, CUgraph child, fill_child(&work, child, false))
EXEC_SET(cuGraphExecChildGraphNodeSetParams, CUgraph child, fill_child(&work, child, false))
GET(cuGraphChildGraphNodeGetGraph, CUgraph *, WORK_CHILD, *parameters = (CUgraph)node->work.child)

CUresult cuGraphAddEmptyNode(CUgraphNode *node, CUgraph graph, const CUgraphNode *dependencies, size_t count) {
    struct work work = {.kind = WORK_EMPTY};
    CUresult result = require_init();
    return result ? result : node_add(node, graph, dependencies, count, &work);
}

ADD(cuGraphAddNode, CUgraphNodeParams *parameters, fill_any(&work, parameters))
SET(cuGraphNodeSetParams, CUgraphNodeParams *parameters, fill_any(&work, parameters))
EXEC_SET(cuGraphExecNodeSetParams, CUgraphNodeParams *parameters, fill_any(&work, parameters))
CUresult cuGraphNodeSetParams_v2(CUgraphNode node, CUgraphNodeParams *parameters) {
    return cuGraphNodeSetParams(node, parameters);
}
CUresult cuGraphAddNode_v2(CUgraphNode *node, CUgraph graph, const CUgraphNode *dependencies,
                           const CUgraphEdgeData *edges, size_t count, CUgraphNodeParams *parameters) {
    (void)edges;
    return cuGraphAddNode(node, graph, dependencies, count, parameters);
}
CUresult cuGraphAddNode_v3(CUgraphNode *node, CUgraph graph, const CUgraphNode *dependencies,
                           const CUgraphEdgeData *edges, size_t count, CUgraphNodeParams *parameters) {
    (void)edges;
    return cuGraphAddNode(node, graph, dependencies, count, parameters);
}

CUresult cuGraphKernelNodeGetAttribute(CUgraphNode handle, CUkernelNodeAttrID attribute, CUkernelNodeAttrValue *value) {
    CUresult result = require_init();
    if (result)
        return result;
    const struct node *node = node_check(handle);
    if (!node || !value || node->work.kind != WORK_KERNEL)
        return CUDA_ERROR_INVALID_VALUE;
    memset(value, 0, sizeof *value);
    if (attribute == CU_LAUNCH_ATTRIBUTE_COOPERATIVE)
        value->cooperative = node->work.kernel.cooperative;
    return CUDA_SUCCESS;
}
CUresult cuGraphKernelNodeSetAttribute(CUgraphNode handle, CUkernelNodeAttrID attribute,
                                       const CUkernelNodeAttrValue *value) {
    CUresult result = require_init();
    if (result)
        return result;
    struct node *node = node_check(handle);
    if (!node || !value || node->work.kind != WORK_KERNEL)
        return CUDA_ERROR_INVALID_VALUE;
    if (attribute == CU_LAUNCH_ATTRIBUTE_COOPERATIVE)
        node->work.kernel.cooperative = value->cooperative != 0;
    return CUDA_SUCCESS;
}
CUresult cuGraphKernelNodeCopyAttributes(CUgraphNode to, CUgraphNode from) {
    CUresult result = require_init();
    if (result)
        return result;
    struct node *target = node_check(to), *source = node_check(from);
    if (!target || !source || target->work.kind != WORK_KERNEL || source->work.kind != WORK_KERNEL)
        return CUDA_ERROR_INVALID_VALUE;
    target->work.kernel.cooperative = source->work.kernel.cooperative;
    return CUDA_SUCCESS;
}
