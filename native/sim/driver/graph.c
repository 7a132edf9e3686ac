/* Graphs: making, copying, ordering and running them. */
#include "graph.h"

#include <stdlib.h>
#include <string.h>

static _Atomic unsigned last_id;

struct graph *graph_check(CUgraph handle) {
    return is_live(handle, MAGIC_GRAPH) ? (struct graph *)handle : NULL;
}
struct node *node_check(CUgraphNode handle) {
    return is_live(handle, MAGIC_NODE) ? (struct node *)handle : NULL;
}

struct graph *graph_new(void) {
    struct graph *graph = object_new(MAGIC_GRAPH, sizeof *graph);
    if (!graph)
        return NULL;
    graph->magic = MAGIC_GRAPH;
    graph->id = ++last_id;
    return graph;
}

void node_delete(struct node *node) {
    node->magic = MAGIC_DEAD;
    work_free(&node->work);
    free(node->dependencies);
    object_delete(MAGIC_NODE, node);
}

void graph_delete(struct graph *graph) {
    for (size_t i = 0; i < graph->node_count; i++)
        node_delete(graph->nodes[i]);
    graph_objects_release(graph);
    graph->magic = MAGIC_DEAD;
    free(graph->nodes);
    object_delete(MAGIC_GRAPH, graph);
}

CUresult graph_add(struct graph *graph, struct node *const *dependencies, size_t count, struct work *work,
                   struct node **ret_node) {
    struct node **nodes = realloc(graph->nodes, (graph->node_count + 1) * sizeof *nodes);
    if (!nodes)
        return CUDA_ERROR_OUT_OF_MEMORY;
    graph->nodes = nodes;
    struct node *node = object_new(MAGIC_NODE, sizeof *node);
    if (!node)
        return CUDA_ERROR_OUT_OF_MEMORY;
    node->dependencies = calloc(count + 1, sizeof *node->dependencies);
    if (!node->dependencies) {
        object_delete(MAGIC_NODE, node);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    if (count)
        memcpy(node->dependencies, dependencies, count * sizeof *dependencies);
    node->dependency_count = count;
    node->magic = MAGIC_NODE;
    node->graph = graph;
    node->id = graph->next_node_id++;
    node->work = *work;
    if (work->kind == WORK_COPY)
        node->work.copy.stage = node->work.copy.wait = false; /* memory is read when it runs */
    nodes[graph->node_count++] = node;
    *ret_node = node;
    return CUDA_SUCCESS;
}

CUresult graph_clone(const struct graph *graph, struct graph **ret_clone) {
    struct graph *clone = graph_new();
    if (!clone)
        return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult result = graph_objects_clone(graph, clone);
    for (size_t i = 0; !result && i < graph->node_count; i++) {
        struct node *node = graph->nodes[i], *copy;
        struct work work;
        result = work_clone(&node->work, &work);
        if (!result)
            result = graph_add(clone, node->dependencies, node->dependency_count, &work, &copy);
        if (result)
            break;
        copy->origin = node;
        copy->disabled = node->disabled;
        copy->id = node->id;
        node->clone = copy;
    }
    for (size_t i = 0; !result && i < clone->node_count; i++)
        for (size_t d = 0; d < clone->nodes[i]->dependency_count; d++)
            clone->nodes[i]->dependencies[d] = clone->nodes[i]->dependencies[d]->clone;
    if (result) {
        graph_delete(clone);
        return result;
    }
    clone->next_node_id = graph->next_node_id;
    *ret_clone = clone;
    return CUDA_SUCCESS;
}

enum { NOT_VISITED = 0, BEING_VISITED, VISITED };

static bool visit(struct node *node, struct node **sorted, size_t *count) {
    if (node->mark == VISITED)
        return true;
    if (node->mark == BEING_VISITED)
        return false;
    node->mark = BEING_VISITED;
    for (size_t i = 0; i < node->dependency_count; i++)
        if (!visit(node->dependencies[i], sorted, count))
            return false;
    node->mark = VISITED;
    sorted[(*count)++] = node;
    return true;
}

CUresult graph_sort(struct graph *graph) {
    struct node **sorted = calloc(graph->node_count + 1, sizeof *sorted);
    if (!sorted)
        return CUDA_ERROR_OUT_OF_MEMORY;
    size_t count = 0;
    bool sound = true;
    for (size_t i = 0; i < graph->node_count; i++)
        graph->nodes[i]->mark = NOT_VISITED;
    for (size_t i = 0; sound && i < graph->node_count; i++)
        sound = visit(graph->nodes[i], sorted, &count);
    if (!sound) {
        free(sorted);
        return CUDA_ERROR_INVALID_VALUE;
    }
    free(graph->nodes);
    graph->nodes = sorted;
    for (size_t i = 0; i < count; i++) {
        struct work *work = &sorted[i]->work;
        CUresult result = work->kind == WORK_CHILD ? graph_sort(work->child) : CUDA_SUCCESS;
        if (result)
            return result;
    }
    return CUDA_SUCCESS;
}

/* One after another in the launch stream: a legal order, though branches do not overlap. */
CUresult graph_run(struct stream *stream, const struct graph *graph) {
    CUresult result = CUDA_SUCCESS;
    for (size_t i = 0; !result && i < graph->node_count; i++)
        if (!graph->nodes[i]->disabled)
            result = work_run(stream, &graph->nodes[i]->work);
    return result;
}
