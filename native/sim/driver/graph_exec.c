/* Executable graphs: a copy in order, its updates and its launches. */
#include <stdlib.h>

#include "capture.h"
#include "graph_params.h"

#define FLAGS_KNOWN                                                                                                    \
    (CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH | CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD |                            \
     CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY)

static _Atomic unsigned last_id;

struct exec *exec_check(CUgraphExec handle) {
    return is_live(handle, MAGIC_EXEC) ? (struct exec *)handle : NULL;
}

static struct node *node_from(struct graph *graph, const struct node *origin) {
    for (size_t i = 0; i < graph->node_count; i++) {
        struct node *node = graph->nodes[i];
        if (node->origin == origin)
            return node;
        struct node *below = node->work.kind == WORK_CHILD ? node_from(node->work.child, origin) : NULL;
        if (below)
            return below;
    }
    return NULL;
}
struct node *exec_node(struct exec *exec, CUgraphNode handle) {
    struct node *node = node_check(handle);
    return exec && node ? node_from(exec->graph, node) : NULL;
}

static CUresult load_functions(const struct graph *graph) {
    CUresult result = CUDA_SUCCESS;
    for (size_t i = 0; !result && i < graph->node_count; i++) {
        const struct work *work = &graph->nodes[i]->work;
        if (work->kind == WORK_KERNEL)
            result = function_load(work->kernel.function);
        if (work->kind == WORK_CHILD)
            result = load_functions(work->child);
    }
    return result;
}

static CUresult instantiate(CUgraphExec *handle, CUgraph graph_handle, unsigned long long flags) {
    CUresult result = require_init();
    if (result)
        return result;
    struct graph *graph = graph_check(graph_handle);
    if (!handle || !graph || flags & ~(unsigned long long)FLAGS_KNOWN)
        return CUDA_ERROR_INVALID_VALUE;
    struct exec *exec = object_new(MAGIC_EXEC, sizeof *exec);
    if (!exec)
        return CUDA_ERROR_OUT_OF_MEMORY;
    exec->flags = flags;
    exec->id = ++last_id;
    result = graph_clone(graph, &exec->graph);
    if (!result) {
        result = graph_sort(exec->graph);
        if (!result)
            result = load_functions(exec->graph);
        if (result)
            graph_delete(exec->graph);
    }
    if (result) {
        object_delete(MAGIC_EXEC, exec);
        return result;
    }
    exec->magic = MAGIC_EXEC;
    *handle = (CUgraphExec)exec;
    return CUDA_SUCCESS;
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec *exec, CUgraph graph, unsigned long long flags) {
    return instantiate(exec, graph, flags);
}
CUresult cuGraphInstantiateWithParams(CUgraphExec *exec, CUgraph graph, CUDA_GRAPH_INSTANTIATE_PARAMS *parameters) {
    if (!parameters)
        return CUDA_ERROR_INVALID_VALUE;
    CUresult result = instantiate(exec, graph, parameters->flags);
    parameters->hErrNode_out = NULL;
    parameters->result_out = result ? CUDA_GRAPH_INSTANTIATE_ERROR : CUDA_GRAPH_INSTANTIATE_SUCCESS;
    return result;
}
CUresult cuGraphInstantiate_v2(CUgraphExec *exec, CUgraph graph, CUgraphNode *error_node, char *log, size_t bytes) {
    if (error_node)
        *error_node = NULL;
    if (log && bytes)
        *log = '\0';
    return instantiate(exec, graph, 0);
}
CUresult cuGraphInstantiate(CUgraphExec *exec, CUgraph graph, CUgraphNode *error_node, char *log, size_t bytes) {
    return cuGraphInstantiate_v2(exec, graph, error_node, log, bytes);
}

static CUresult find(CUgraphExec handle, struct exec **ret_exec) {
    CUresult result = require_init();
    if (result)
        return result;
    *ret_exec = exec_check(handle);
    return *ret_exec ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGraphExecDestroy(CUgraphExec handle) {
    struct exec *exec;
    CUresult result = find(handle, &exec);
    if (result)
        return result;
    exec->magic = MAGIC_DEAD;
    if (exec->graph->objects) /* what still runs may use them */
        engine_ticket_wait(exec->last, false);
    graph_delete(exec->graph);
    object_delete(MAGIC_EXEC, exec);
    return CUDA_SUCCESS;
}

CUresult cuGraphExecGetFlags(CUgraphExec handle, cuuint64_t *flags) {
    struct exec *exec;
    CUresult result = find(handle, &exec);
    if (result)
        return result;
    if (!flags)
        return CUDA_ERROR_INVALID_VALUE;
    *flags = exec->flags;
    return CUDA_SUCCESS;
}
CUresult cuGraphExecGetId(CUgraphExec handle, unsigned *id) {
    struct exec *exec;
    CUresult result = find(handle, &exec);
    if (result)
        return result;
    if (!id)
        return CUDA_ERROR_INVALID_VALUE;
    *id = exec->id;
    return CUDA_SUCCESS;
}

CUresult cuGraphNodeSetEnabled(CUgraphExec handle, CUgraphNode node_handle, unsigned enabled) {
    struct exec *exec;
    CUresult result = find(handle, &exec);
    if (result)
        return result;
    struct node *node = exec_node(exec, node_handle);
    if (!node)
        return CUDA_ERROR_INVALID_VALUE;
    enum work_kind kind = node->work.kind;
    if (kind != WORK_KERNEL && kind != WORK_COPY && kind != WORK_SET)
        return CUDA_ERROR_INVALID_VALUE;
    node->disabled = !enabled;
    return CUDA_SUCCESS;
}
CUresult cuGraphNodeGetEnabled(CUgraphExec handle, CUgraphNode node_handle, unsigned *enabled) {
    struct exec *exec;
    CUresult result = find(handle, &exec);
    if (result)
        return result;
    struct node *node = exec_node(exec, node_handle);
    if (!node || !enabled)
        return CUDA_ERROR_INVALID_VALUE;
    *enabled = !node->disabled;
    return CUDA_SUCCESS;
}

/* Memory of every alloc node of the graph; a second launch without a free between is an error unless asked for. */
static CUresult take_memory(struct graph *graph, bool again) {
    CUresult result = CUDA_SUCCESS;
    for (size_t i = 0; !result && i < graph->node_count; i++) {
        const struct work *work = &graph->nodes[i]->work;
        if (work->kind == WORK_ALLOC)
            result = graph_memory_take(work->alloc.parameters.dptr, again);
        if (work->kind == WORK_CHILD)
            result = take_memory(work->child, again);
    }
    return result;
}

static CUresult launch_captured(struct exec *exec, struct stream *stream) {
    struct work work = {.kind = WORK_CHILD};
    CUresult result = graph_clone(exec->graph, &work.child);
    if (result)
        return result;
    work.child->child = true;
    return capture_add(stream, &work, NULL);
}

CUresult cuGraphLaunch(CUgraphExec handle, CUstream stream_handle) {
    struct exec *exec;
    struct stream *stream;
    CUresult result = find(handle, &exec);
    if (!result)
        result = stream_find(stream_handle, &stream);
    if (!result)
        result = capture_forbids_legacy(stream);
    if (result)
        return result;
    if (capture_of(stream))
        return launch_captured(exec, stream);
    result = take_memory(exec->graph, exec->flags & CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH);
    if (!result)
        result = stream_wait_ticket(stream, exec->last);
    if (!result)
        result = graph_run(stream, exec->graph);
    if (!result)
        exec->last = engine_stream_last(stream->engine);
    return result;
}

CUresult cuGraphUpload(CUgraphExec handle, CUstream stream_handle) {
    struct exec *exec;
    struct stream *stream;
    CUresult result = find(handle, &exec);
    return result ? result : stream_find(stream_handle, &stream);
}

static CUgraphExecUpdateResult compare(const struct graph *have, const struct graph *wanted, struct node **ret_node) {
    if (have->node_count != wanted->node_count)
        return CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED;
    for (size_t i = 0; i < have->node_count; i++) {
        const struct node *old = have->nodes[i], *new = wanted->nodes[i];
        *ret_node = new->origin;
        if (old->work.kind != new->work.kind)
            return CU_GRAPH_EXEC_UPDATE_ERROR_NODE_TYPE_CHANGED;
        if (old->dependency_count != new->dependency_count)
            return CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED;
        for (size_t d = 0; d < old->dependency_count; d++)
            if (old->dependencies[d]->mark != new->dependencies[d]->mark)
                return CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED;
        if (old->work.kind == WORK_ALLOC && old->work.alloc.parameters.dptr != new->work.alloc.parameters.dptr)
            return CU_GRAPH_EXEC_UPDATE_ERROR_PARAMETERS_CHANGED;
        if (old->work.kind == WORK_CHILD) {
            CUgraphExecUpdateResult below = compare(old->work.child, new->work.child, ret_node);
            if (below)
                return below;
        }
    }
    *ret_node = NULL;
    return CU_GRAPH_EXEC_UPDATE_SUCCESS;
}

static void number(struct graph *graph) {
    for (size_t i = 0; i < graph->node_count; i++) {
        graph->nodes[i]->mark = (unsigned)i;
        if (graph->nodes[i]->work.kind == WORK_CHILD)
            number(graph->nodes[i]->work.child);
    }
}

/* Every node keeps its place and origin; what it does becomes what its counterpart does. */
static void exchange(struct graph *have, struct graph *wanted) {
    for (size_t i = 0; i < have->node_count; i++) {
        if (have->nodes[i]->work.kind == WORK_CHILD) {
            exchange(have->nodes[i]->work.child, wanted->nodes[i]->work.child);
            continue;
        }
        struct work before = have->nodes[i]->work;
        have->nodes[i]->work = wanted->nodes[i]->work;
        wanted->nodes[i]->work = before;
    }
}

CUresult cuGraphExecUpdate_v2(CUgraphExec handle, CUgraph graph_handle, CUgraphExecUpdateResultInfo *info) {
    struct exec *exec;
    CUresult result = find(handle, &exec);
    if (result)
        return result;
    struct graph *graph = graph_check(graph_handle), *wanted;
    if (!graph || !info)
        return CUDA_ERROR_INVALID_VALUE;
    result = graph_clone(graph, &wanted);
    if (result)
        return result;
    struct node *culprit = NULL;
    *info = (CUgraphExecUpdateResultInfo){.result = CU_GRAPH_EXEC_UPDATE_ERROR};
    result = graph_sort(wanted);
    if (!result) {
        number(exec->graph);
        number(wanted);
        info->result = compare(exec->graph, wanted, &culprit);
        info->errorNode = (CUgraphNode)culprit;
        if (info->result)
            result = CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE;
        else
            exchange(exec->graph, wanted);
    }
    graph_delete(wanted);
    return result;
}

CUresult cuGraphExecUpdate(CUgraphExec exec, CUgraph graph, CUgraphNode *error_node, CUgraphExecUpdateResult *update) {
    if (!update)
        return CUDA_ERROR_INVALID_VALUE;
    CUgraphExecUpdateResultInfo info = {.result = CU_GRAPH_EXEC_UPDATE_ERROR};
    CUresult result = cuGraphExecUpdate_v2(exec, graph, &info);
    *update = info.result;
    if (error_node)
        *error_node = info.errorNode;
    return result;
}
