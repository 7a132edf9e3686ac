/* The life of graph executables, as far as the memory of their allocation nodes goes. */
#include "memory/memory.h"

CUresult cuGraphInstantiate(CUgraphExec *phGraphExec, CUgraph hGraph, CUgraphNode *phErrorNode, char *logBuffer,
                            size_t bufferSize) {
    CUresult result = real.cuGraphInstantiate(phGraphExec, hGraph, phErrorNode, logBuffer, bufferSize);
    return memory_graph_instantiated(result, phGraphExec, hGraph);
}

CUresult cuGraphInstantiate_v2(CUgraphExec *phGraphExec, CUgraph hGraph, CUgraphNode *phErrorNode, char *logBuffer,
                               size_t bufferSize) {
    CUresult result = real.cuGraphInstantiate_v2(phGraphExec, hGraph, phErrorNode, logBuffer, bufferSize);
    return memory_graph_instantiated(result, phGraphExec, hGraph);
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec *phGraphExec, CUgraph hGraph, unsigned long long flags) {
    CUresult result = real.cuGraphInstantiateWithFlags(phGraphExec, hGraph, flags);
    return memory_graph_instantiated(result, phGraphExec, hGraph);
}

CUresult cuGraphInstantiateWithParams(CUgraphExec *phGraphExec, CUgraph hGraph,
                                      CUDA_GRAPH_INSTANTIATE_PARAMS *instantiateParams) {
    CUresult result = real.cuGraphInstantiateWithParams(phGraphExec, hGraph, instantiateParams);
    return memory_graph_instantiated(result, phGraphExec, hGraph);
}

CUresult cuGraphInstantiateWithParams_ptsz(CUgraphExec *phGraphExec, CUgraph hGraph,
                                           CUDA_GRAPH_INSTANTIATE_PARAMS *instantiateParams) {
    CUresult result = real.cuGraphInstantiateWithParams_ptsz(phGraphExec, hGraph, instantiateParams);
    return memory_graph_instantiated(result, phGraphExec, hGraph);
}

CUresult cuGraphExecDestroy(CUgraphExec hGraphExec) {
    struct memory_record record;
    /* Before the call: another thread can get the handle as soon as it is free. */
    bool known = memory_graph_ends(hGraphExec, &record);
    CUresult result = real.cuGraphExecDestroy(hGraphExec);
    memory_graph_ended(known ? &record : NULL, result == CUDA_SUCCESS);
    return result;
}
