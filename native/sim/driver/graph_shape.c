/* Graphs as such: making, copying and ending them, nodes and edges. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "graph_params.h"

CUresult cuGraphCreate(CUgraph *handle, unsigned flags) {
    CUresult result = require_init();
    if (result)
        return result;
    if (!handle || flags)
        return CUDA_ERROR_INVALID_VALUE;
    struct graph *graph = graph_new();
    if (!graph)
        return CUDA_ERROR_OUT_OF_MEMORY;
    *handle = (CUgraph)graph;
    return CUDA_SUCCESS;
}

static CUresult find(CUgraph handle, struct graph **ret_graph) {
    CUresult result = require_init();
    if (result)
        return result;
    *ret_graph = graph_check(handle);
    return *ret_graph ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
static CUresult find_node(CUgraphNode handle, struct node **ret_node) {
    CUresult result = require_init();
    if (result)
        return result;
    *ret_node = node_check(handle);
    return *ret_node ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGraphDestroy(CUgraph handle) {
    struct graph *graph;
    CUresult result = find(handle, &graph);
    if (result)
        return result;
    if (graph->child || graph->captured_into)
        return CUDA_ERROR_INVALID_VALUE;
    graph_delete(graph);
    return CUDA_SUCCESS;
}

CUresult cuGraphClone(CUgraph *ret_clone, CUgraph handle) {
    struct graph *graph, *clone;
    CUresult result = find(handle, &graph);
    if (result)
        return result;
    if (!ret_clone)
        return CUDA_ERROR_INVALID_VALUE;
    result = graph_clone(graph, &clone);
    if (!result)
        *ret_clone = (CUgraph)clone;
    return result;
}

CUresult cuGraphNodeFindInClone(CUgraphNode *ret_node, CUgraphNode original, CUgraph handle) {
    struct graph *graph;
    CUresult result = find(handle, &graph);
    if (result)
        return result;
    for (size_t i = 0; ret_node && i < graph->node_count; i++)
        if ((CUgraphNode)graph->nodes[i]->origin == original) {
            *ret_node = (CUgraphNode)graph->nodes[i];
            return CUDA_SUCCESS;
        }
    return CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGraphGetId(CUgraph handle, unsigned *id) {
    struct graph *graph;
    CUresult result = find(handle, &graph);
    if (result)
        return result;
    if (!id)
        return CUDA_ERROR_INVALID_VALUE;
    *id = graph->id;
    return CUDA_SUCCESS;
}

CUresult cuGraphNodeGetType(CUgraphNode handle, CUgraphNodeType *type) {
    struct node *node;
    CUresult result = find_node(handle, &node);
    if (result)
        return result;
    if (!type)
        return CUDA_ERROR_INVALID_VALUE;
    *type = type_of(&node->work);
    return CUDA_SUCCESS;
}
CUresult cuGraphNodeGetContainingGraph(CUgraphNode handle, CUgraph *graph) {
    struct node *node;
    CUresult result = find_node(handle, &node);
    if (result)
        return result;
    if (!graph)
        return CUDA_ERROR_INVALID_VALUE;
    *graph = (CUgraph)node->graph;
    return CUDA_SUCCESS;
}
CUresult cuGraphNodeGetLocalId(CUgraphNode handle, unsigned *id) {
    struct node *node;
    CUresult result = find_node(handle, &node);
    if (result)
        return result;
    if (!id)
        return CUDA_ERROR_INVALID_VALUE;
    *id = node->id;
    return CUDA_SUCCESS;
}
CUresult cuGraphNodeGetToolsId(CUgraphNode handle, unsigned long long *id) {
    struct node *node;
    CUresult result = find_node(handle, &node);
    if (result)
        return result;
    if (!id)
        return CUDA_ERROR_INVALID_VALUE;
    *id = (unsigned long long)node->graph->id << 32 | node->id;
    return CUDA_SUCCESS;
}

/* Fills `list` with what there is, as all these calls do: the count goes in as room and comes out as how many; a list
 * that is longer than what there is ends in NULLs. */
struct listing {
    CUgraphNode *list;
    size_t room, count;
};
static void list_add(struct listing *listing, const struct node *node) {
    if (listing->list && listing->count < listing->room)
        listing->list[listing->count] = (CUgraphNode)node;
    listing->count++;
}
static void list_end(struct listing *listing, size_t *count) {
    for (size_t i = listing->count; listing->list && i < listing->room; i++)
        listing->list[i] = NULL;
    *count = listing->list && listing->room < listing->count ? listing->room : listing->count;
}

static CUresult list_nodes(CUgraph handle, CUgraphNode *list, size_t *count, bool roots) {
    struct graph *graph;
    CUresult result = find(handle, &graph);
    if (result)
        return result;
    if (!count)
        return CUDA_ERROR_INVALID_VALUE;
    struct listing listing = {list, *count, 0};
    for (size_t i = 0; i < graph->node_count; i++)
        if (!roots || !graph->nodes[i]->dependency_count)
            list_add(&listing, graph->nodes[i]);
    list_end(&listing, count);
    return CUDA_SUCCESS;
}
CUresult cuGraphGetNodes(CUgraph graph, CUgraphNode *list, size_t *count) {
    return list_nodes(graph, list, count, false);
}
CUresult cuGraphGetRootNodes(CUgraph graph, CUgraphNode *list, size_t *count) {
    return list_nodes(graph, list, count, true);
}

CUresult cuGraphGetEdges(CUgraph handle, CUgraphNode *from, CUgraphNode *to, size_t *count) {
    struct graph *graph;
    CUresult result = find(handle, &graph);
    if (result)
        return result;
    if (!count || !from != !to)
        return CUDA_ERROR_INVALID_VALUE;
    struct listing sources = {from, *count, 0}, targets = {to, *count, 0};
    for (size_t i = 0; i < graph->node_count; i++)
        for (size_t d = 0; d < graph->nodes[i]->dependency_count; d++) {
            list_add(&sources, graph->nodes[i]->dependencies[d]);
            list_add(&targets, graph->nodes[i]);
        }
    list_end(&sources, count);
    list_end(&targets, count);
    return CUDA_SUCCESS;
}

CUresult cuGraphNodeGetDependencies(CUgraphNode handle, CUgraphNode *list, size_t *count) {
    struct node *node;
    CUresult result = find_node(handle, &node);
    if (result)
        return result;
    if (!count)
        return CUDA_ERROR_INVALID_VALUE;
    struct listing listing = {list, *count, 0};
    for (size_t d = 0; d < node->dependency_count; d++)
        list_add(&listing, node->dependencies[d]);
    list_end(&listing, count);
    return CUDA_SUCCESS;
}

static size_t index_of(const struct node *node, const struct node *dependency) {
    size_t d = 0;
    while (d < node->dependency_count && node->dependencies[d] != dependency)
        d++;
    return d;
}

CUresult cuGraphNodeGetDependentNodes(CUgraphNode handle, CUgraphNode *list, size_t *count) {
    struct node *node;
    CUresult result = find_node(handle, &node);
    if (result)
        return result;
    if (!count)
        return CUDA_ERROR_INVALID_VALUE;
    struct listing listing = {list, *count, 0};
    for (size_t i = 0; i < node->graph->node_count; i++) {
        const struct node *other = node->graph->nodes[i];
        if (index_of(other, node) < other->dependency_count)
            list_add(&listing, other);
    }
    list_end(&listing, count);
    return CUDA_SUCCESS;
}

static CUresult add_edge(struct node *from, struct node *to) {
    if (from == to || index_of(to, from) < to->dependency_count)
        return CUDA_ERROR_INVALID_VALUE;
    struct node **more = realloc(to->dependencies, (to->dependency_count + 1) * sizeof(struct node *));
    if (!more)
        return CUDA_ERROR_OUT_OF_MEMORY;
    to->dependencies = more;
    more[to->dependency_count++] = from;
    return CUDA_SUCCESS;
}
static CUresult remove_edge(struct node *from, struct node *to) {
    size_t d = index_of(to, from);
    if (d == to->dependency_count)
        return CUDA_ERROR_INVALID_VALUE;
    to->dependencies[d] = to->dependencies[--to->dependency_count];
    return CUDA_SUCCESS;
}

static CUresult change_edges(CUgraph handle, const CUgraphNode *from, const CUgraphNode *to, size_t count,
                             CUresult (*change)(struct node *, struct node *)) {
    struct graph *graph;
    CUresult result = find(handle, &graph);
    if (!result && count && (!from || !to))
        result = CUDA_ERROR_INVALID_VALUE;
    for (size_t i = 0; !result && i < count; i++) {
        struct node *source = node_check(from[i]), *target = node_check(to[i]);
        bool here = source && target && source->graph == graph && target->graph == graph;
        result = here ? change(source, target) : CUDA_ERROR_INVALID_VALUE;
    }
    return result;
}
CUresult cuGraphAddDependencies(CUgraph graph, const CUgraphNode *from, const CUgraphNode *to, size_t count) {
    return change_edges(graph, from, to, count, add_edge);
}
CUresult cuGraphRemoveDependencies(CUgraph graph, const CUgraphNode *from, const CUgraphNode *to, size_t count) {
    return change_edges(graph, from, to, count, remove_edge);
}

/* The second versions carry data of edges; every edge here is a full one, which is all zeros. */
static void clear(CUgraphEdgeData *edges, size_t room) {
    if (edges)
        memset(edges, 0, room * sizeof *edges);
}
CUresult cuGraphGetEdges_v2(CUgraph graph, CUgraphNode *from, CUgraphNode *to, CUgraphEdgeData *edges, size_t *count) {
    if (count)
        clear(edges, *count);
    return cuGraphGetEdges(graph, from, to, count);
}
CUresult cuGraphNodeGetDependencies_v2(CUgraphNode node, CUgraphNode *list, CUgraphEdgeData *edges, size_t *count) {
    if (count)
        clear(edges, *count);
    return cuGraphNodeGetDependencies(node, list, count);
}
CUresult cuGraphNodeGetDependentNodes_v2(CUgraphNode node, CUgraphNode *list, CUgraphEdgeData *edges, size_t *count) {
    if (count)
        clear(edges, *count);
    return cuGraphNodeGetDependentNodes(node, list, count);
}
CUresult cuGraphAddDependencies_v2(CUgraph graph, const CUgraphNode *from, const CUgraphNode *to,
                                   const CUgraphEdgeData *edges, size_t count) {
    (void)edges;
    return change_edges(graph, from, to, count, add_edge);
}
CUresult cuGraphRemoveDependencies_v2(CUgraph graph, const CUgraphNode *from, const CUgraphNode *to,
                                      const CUgraphEdgeData *edges, size_t count) {
    (void)edges;
    return change_edges(graph, from, to, count, remove_edge);
}

CUresult cuGraphDestroyNode(CUgraphNode handle) {
    struct node *node;
    CUresult result = find_node(handle, &node);
    if (result)
        return result;
    struct graph *graph = node->graph;
    size_t kept = 0;
    for (size_t i = 0; i < graph->node_count; i++) {
        if (graph->nodes[i] == node)
            continue;
        remove_edge(node, graph->nodes[i]);
        graph->nodes[kept++] = graph->nodes[i];
    }
    graph->node_count = kept;
    node_delete(node);
    return CUDA_SUCCESS;
}

CUresult cuGraphDebugDotPrint(CUgraph handle, const char *path, unsigned flags) {
    (void)flags;
    struct graph *graph;
    CUresult result = find(handle, &graph);
    if (result)
        return result;
    FILE *file = path ? fopen(path, "we") : NULL;
    if (!file)
        return CUDA_ERROR_OPERATING_SYSTEM;
    fprintf(file, "digraph graph_%u {\n", graph->id);
    for (size_t i = 0; i < graph->node_count; i++) {
        const struct node *node = graph->nodes[i];
        fprintf(file, "  node_%u [label=\"type %d\"];\n", node->id, (int)type_of(&node->work));
        for (size_t d = 0; d < node->dependency_count; d++)
            fprintf(file, "  node_%u -> node_%u;\n", node->dependencies[d]->id, node->id);
    }
    fputs("}\n", file);
    fclose(file);
    return CUDA_SUCCESS;
}
