/* Graphs: work with dependencies. A node holds the same struct work that a stream would run. */
#ifndef GPUSLICE_SIM_GRAPH_H
#define GPUSLICE_SIM_GRAPH_H

#include "sim.h"

struct node {
    uint32_t magic;
    bool disabled; /* in an exec: it is skipped */
    struct graph *graph;
    struct work work;
    struct node **dependencies;
    size_t dependency_count;
    unsigned id;         /* within its graph, never used twice */
    struct node *clone;  /* while cloning: what it became */
    struct node *origin; /* in a clone or an exec: what it was made from */
    unsigned mark;       /* while walking */
};

/* References that a graph holds to an object of the program's. */
struct graph_object {
    struct user_object *object;
    unsigned count;
    struct graph_object *next;
};

struct graph {
    uint32_t magic;
    struct graph_object *objects;
    unsigned id;
    unsigned next_node_id;
    struct node **nodes; /* in order of creation */
    size_t node_count;
    bool captured_into; /* a stream captures into it */
    bool child;         /* belongs to a node: the program must not destroy it */
};

struct exec {
    uint32_t magic;
    unsigned id;
    unsigned long long flags;
    struct graph *graph;       /* a copy in an order that respects the dependencies */
    struct engine_ticket last; /* of the last launch: launches of one exec follow each other */
    struct context *context;
};

struct graph *graph_check(CUgraph handle);
struct node *node_check(CUgraphNode handle);
struct graph *graph_new(void);
void graph_delete(struct graph *graph);
/* A node that is in no graph any more. */
void node_delete(struct node *node);
/* Takes what `work` owns when it succeeds. */
CUresult graph_add(struct graph *graph, struct node *const *dependencies, size_t count, struct work *work,
                   struct node **ret_node);
CUresult graph_clone(const struct graph *graph, struct graph **ret_clone);
/* Sorts the nodes so that each comes after its dependencies. CUDA_ERROR_INVALID_VALUE: there is a cycle. */
CUresult graph_sort(struct graph *graph);
CUresult graph_run(struct stream *stream, const struct graph *graph);

/* User objects (user_object.c): a clone holds what its original holds; dropping the last reference calls the program.
 */
CUresult graph_objects_clone(const struct graph *graph, struct graph *clone);
void graph_objects_release(struct graph *graph);

/* Device memory of alloc nodes (graph_memory.c). Its address is fixed when the node is made; there is memory behind it
 * from the first launch on, until it is trimmed. */
CUresult graph_memory_reserve(CUDA_MEM_ALLOC_NODE_PARAMS *parameters);
void graph_memory_retain(CUdeviceptr address);
void graph_memory_release(CUdeviceptr address);
/* The launch of an alloc node. `again`: memory that an earlier launch left is taken over. */
CUresult graph_memory_take(CUdeviceptr address, bool again);
/* `stream` NULL: nothing uses it any more. */
CUresult graph_memory_free(struct stream *stream, CUdeviceptr address);

#endif
