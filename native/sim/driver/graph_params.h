/* From what the graph calls are given to the work of a node, and back. */
#ifndef GPUSLICE_SIM_GRAPH_PARAMS_H
#define GPUSLICE_SIM_GRAPH_PARAMS_H

#include "graph.h"

CUresult fill_kernel(struct work *work, const CUDA_KERNEL_NODE_PARAMS *parameters);
CUresult fill_copy(struct work *work, const CUDA_MEMCPY3D *parameters);
CUresult fill_set(struct work *work, const CUDA_MEMSET_NODE_PARAMS *parameters);
CUresult fill_host(struct work *work, const CUDA_HOST_NODE_PARAMS *parameters);
CUresult fill_event(struct work *work, enum work_kind kind, CUevent event);
CUresult fill_values(struct work *work, const CUDA_BATCH_MEM_OP_NODE_PARAMS *parameters);
CUresult fill_child(struct work *work, CUgraph child, bool move);
CUresult fill_alloc(struct work *work, CUDA_MEM_ALLOC_NODE_PARAMS *parameters);
CUresult fill_free(struct work *work, CUdeviceptr address);
/* Any of them. CUDA_ERROR_NOT_SUPPORTED: semaphores, conditions, batches of copies. */
CUresult fill_any(struct work *work, CUgraphNodeParams *parameters);

void show_kernel(const struct work *work, CUDA_KERNEL_NODE_PARAMS *ret_parameters);
void show_set(const struct work *work, CUDA_MEMSET_NODE_PARAMS *ret_parameters);
CUgraphNodeType type_of(const struct work *work);

/* Puts `work` in the place of what the node does. Takes what `work` owns, also on failure. */
CUresult node_set(struct node *node, struct work *work);
/* The node of an exec that was made from this node of its graph; NULL: none. */
struct node *exec_node(struct exec *exec, CUgraphNode handle);
struct exec *exec_check(CUgraphExec handle);
/* Adds a node for the program. Takes what `work` owns, also on failure. */
CUresult node_add(CUgraphNode *ret_node, CUgraph graph, const CUgraphNode *dependencies, size_t count,
                  struct work *work);

#endif
