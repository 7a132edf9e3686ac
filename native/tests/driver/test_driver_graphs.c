/* Graphs and stream capture. */
#include <pthread.h>

#include "node.h"

static CUstream stream;
static CUdeviceptr buffer;

static uint32_t word(unsigned index) {
    uint32_t value;
    OK(cuMemcpyDtoH_v2(&value, buffer + index * 4, 4));
    return value;
}

CASE(what_is_captured_runs_when_the_graph_does_and_not_before) {
    CUgraph graph;
    CUgraphExec exec;
    size_t nodes = 0;
    OK(cuMemsetD32_v2(buffer, 0, 4));
    OK(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    fill(buffer, 5, 1, stream);
    OK(cuMemcpyDtoDAsync_v2(buffer + 4, buffer, 4, stream));
    OK(cuMemsetD32Async(buffer + 8, 9, 1, stream));
    OK(cuStreamEndCapture(stream, &graph));
    CHECK_EQUAL(word(0), 0);
    OK(cuGraphGetNodes(graph, NULL, &nodes));
    CHECK_EQUAL(nodes, 3);
    OK(cuGraphInstantiateWithFlags(&exec, graph, 0));
    OK(cuGraphDestroy(graph));
    OK(cuGraphLaunch(exec, stream));
    OK(cuStreamSynchronize(stream));
    CHECK_EQUAL(word(0), 5);
    CHECK_EQUAL(word(1), 5);
    CHECK_EQUAL(word(2), 9);
    OK(cuMemsetD32_v2(buffer, 0, 4));
    OK(cuGraphLaunch_ptsz(exec, NULL));
    OK(cuStreamSynchronize_ptsz(NULL));
    CHECK_EQUAL(word(1), 5);
    OK(cuGraphExecDestroy(exec));
}

CASE(a_stream_joins_a_capture_by_waiting_for_its_event) {
    CUstream other;
    CUevent fork_point, join;
    CUgraph graph;
    size_t roots = 0, edges = 0;
    OK(cuStreamCreate(&other, CU_STREAM_NON_BLOCKING));
    OK(cuEventCreate(&fork_point, 0));
    OK(cuEventCreate(&join, 0));
    OK(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    fill(buffer, 1, 1, stream);
    OK(cuEventRecord(fork_point, stream));
    OK(cuStreamWaitEvent(other, fork_point, 0));
    fill(buffer + 4, 2, 1, other);
    fill(buffer + 8, 3, 1, stream);
    CUstreamCaptureStatus status;
    OK(cuStreamIsCapturing(other, &status));
    CHECK_EQUAL(status, CU_STREAM_CAPTURE_STATUS_ACTIVE);
    OK(cuEventRecord(join, other));
    OK(cuStreamWaitEvent(stream, join, 0));
    fill(buffer + 12, 4, 1, stream);
    OK(cuStreamEndCapture(stream, &graph));
    OK(cuStreamIsCapturing(other, &status));
    CHECK_EQUAL(status, CU_STREAM_CAPTURE_STATUS_NONE);
    OK(cuGraphGetRootNodes(graph, NULL, &roots));
    OK(cuGraphGetEdges_v2(graph, NULL, NULL, NULL, &edges));
    CHECK_EQUAL(roots, 1);
    CHECK_EQUAL(edges, 4);
    OK(cuGraphDestroy(graph));
    OK(cuStreamDestroy_v2(other));
}

CASE(a_fork_that_is_not_joined_spoils_the_capture) {
    CUstream other;
    CUevent event;
    CUgraph graph = (CUgraph)1;
    OK(cuStreamCreate(&other, CU_STREAM_NON_BLOCKING));
    OK(cuEventCreate(&event, 0));
    OK(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    OK(cuEventRecord(event, stream));
    OK(cuStreamWaitEvent(other, event, 0));
    fill(buffer, 1, 1, other);
    CHECK_EQUAL(cuStreamEndCapture(stream, &graph), CUDA_ERROR_STREAM_CAPTURE_UNJOINED);
    CHECK(!graph);
    OK(cuStreamSynchronize(other));
    OK(cuStreamDestroy_v2(other));
}

CASE(waiting_for_a_capturing_stream_invalidates_its_capture) {
    CUgraph graph;
    OK(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
    CHECK_EQUAL(cuStreamSynchronize(stream), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    CHECK_EQUAL(cuStreamEndCapture(stream, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    OK(cuStreamSynchronize(stream));
}

CASE(an_allocation_during_a_global_capture_breaks_it_and_a_relaxed_thread_may) {
    CUgraph graph;
    CUdeviceptr pointer;
    OK(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
    OK(cuThreadExchangeStreamCaptureMode(&mode));
    CHECK_EQUAL(mode, CU_STREAM_CAPTURE_MODE_GLOBAL);
    OK(cuMemAlloc_v2(&pointer, 1));
    OK(cuMemFree_v2(pointer));
    OK(cuThreadExchangeStreamCaptureMode(&mode));
    CHECK_EQUAL(cuMemAlloc_v2(&pointer, 1), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    CHECK_EQUAL(cuStreamEndCapture(stream, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
}

static void *query(void *event) {
    return (void *)(uintptr_t)cuEventQuery(event);
}
static CUresult query_in_a_thread(CUevent event) {
    pthread_t thread;
    void *result;
    CHECK_EQUAL(pthread_create(&thread, NULL, query, event), 0);
    pthread_join(thread, &result);
    return (CUresult)(uintptr_t)result;
}

CASE(an_event_query_of_another_thread_breaks_a_global_capture_only) {
    CUevent event;
    CUgraph graph;
    OK(cuEventCreate(&event, 0));
    OK(cuEventRecord(event, NULL));
    OK(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    OK(query_in_a_thread(event));
    OK(cuStreamEndCapture(stream, &graph));
    OK(cuGraphDestroy(graph));
    OK(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    CHECK_EQUAL(query_in_a_thread(event), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    CHECK_EQUAL(cuStreamEndCapture(stream, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
}

CASE(the_legacy_stream_cannot_be_used_while_a_blocking_stream_captures) {
    CUstream blocking;
    CUgraph graph;
    OK(cuStreamCreate(&blocking, 0));
    OK(cuStreamBeginCapture_v2(blocking, CU_STREAM_CAPTURE_MODE_RELAXED));
    CHECK_EQUAL(cuMemsetD8Async(buffer, 0, 1, NULL), CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
    CHECK_EQUAL(cuStreamEndCapture(blocking, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    CHECK_EQUAL(cuStreamBeginCapture_v2(NULL, CU_STREAM_CAPTURE_MODE_RELAXED), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    OK(cuStreamDestroy_v2(blocking));
}

CASE(to_ask_whether_the_legacy_stream_captures_breaks_nothing) {
    CUstream blocking;
    CUgraph graph;
    CUstreamCaptureStatus status;
    OK(cuStreamCreate(&blocking, 0));
    OK(cuStreamBeginCapture_v2(blocking, CU_STREAM_CAPTURE_MODE_GLOBAL));
    CHECK_EQUAL(cuStreamIsCapturing(NULL, &status), CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
    OK(cuStreamEndCapture(blocking, &graph));
    OK(cuGraphDestroy(graph));
    OK(cuStreamIsCapturing(NULL, &status));
    CHECK_EQUAL(status, CU_STREAM_CAPTURE_STATUS_NONE);
    OK(cuStreamDestroy_v2(blocking));
}

CASE(memory_of_a_graph_is_taken_at_the_launch_and_kept_until_it_is_trimmed) {
    CUgraph graph;
    CUgraphExec exec;
    CUdeviceptr pointer;
    size_t before = free_bytes();
    OK(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    OK(cuMemAllocAsync(&pointer, 3 * MIB, stream));
    fill(pointer, 8, 1, stream);
    OK(cuMemcpyDtoDAsync_v2(buffer, pointer, 4, stream));
    OK(cuMemFreeAsync(pointer, stream));
    OK(cuStreamEndCapture(stream, &graph));
    OK(cuGraphInstantiateWithFlags(&exec, graph, 0));
    CHECK_EQUAL(free_bytes(), before);
    for (int i = 0; i < 3; i++)
        OK(cuGraphLaunch(exec, stream));
    OK(cuStreamSynchronize(stream));
    CHECK_EQUAL(word(0), 8);
    CHECK_EQUAL(before - free_bytes(), 32 * MIB);
    cuuint64_t reserved;
    OK(cuDeviceGetGraphMemAttribute(0, CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT, &reserved));
    CHECK_EQUAL(reserved, 32 * MIB);
    OK(cuDeviceGraphMemTrim(0));
    CHECK_EQUAL(free_bytes(), before);
    OK(cuGraphExecDestroy(exec));
    OK(cuGraphDestroy(graph));
}

CASE(memory_a_graph_leaves_allocated_is_the_programs_to_free) {
    CUgraph graph;
    CUgraphExec exec;
    CUgraphNode node;
    CUDA_MEM_ALLOC_NODE_PARAMS alloc = {.poolProps = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
                                                      .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0}},
                                        .bytesize = BLOCK};
    size_t before = free_bytes();
    OK(cuGraphCreate(&graph, 0));
    OK(cuGraphAddMemAllocNode(&node, graph, NULL, 0, &alloc));
    OK(cuGraphInstantiateWithFlags(&exec, graph, 0));
    OK(cuGraphLaunch(exec, stream));
    CHECK_EQUAL(cuGraphLaunch(exec, stream), CUDA_ERROR_INVALID_VALUE);
    OK(cuMemsetD8_v2(alloc.dptr, 1, BLOCK));
    OK(cuMemFree_v2(alloc.dptr));
    OK(cuGraphLaunch(exec, stream));
    OK(cuGraphExecDestroy(exec));
    OK(cuGraphDestroy(graph));
    CHECK_EQUAL(before - free_bytes(), 32 * MIB);
    OK(cuMemFreeAsync(alloc.dptr, stream));
    OK(cuStreamSynchronize(stream));
    CHECK_EQUAL(free_bytes(), before);
}

static CUgraph fill_graph(uint32_t *value, CUgraphNode *node) {
    CUgraph graph;
    uint64_t count = 1;
    void *parameters[] = {&buffer, value, &count};
    CUDA_KERNEL_NODE_PARAMS launch = {.func = kernel("gpuslice_fill"),
                                      .gridDimX = 1,
                                      .gridDimY = 1,
                                      .gridDimZ = 1,
                                      .blockDimX = 1,
                                      .blockDimY = 1,
                                      .blockDimZ = 1,
                                      .kernelParams = parameters};
    OK(cuGraphCreate(&graph, 0));
    OK(cuGraphAddKernelNode_v2(node, graph, NULL, 0, &launch));
    return graph;
}

CASE(an_exec_takes_new_parameters_from_a_node_and_from_a_whole_graph) {
    uint32_t value = 1, other = 2;
    CUgraphNode node, other_node;
    CUgraph graph = fill_graph(&value, &node), newer = fill_graph(&other, &other_node);
    CUgraphExec exec;
    OK(cuGraphInstantiateWithFlags(&exec, graph, 0));
    value = 50;
    OK(cuGraphLaunch(exec, stream));
    OK(cuStreamSynchronize(stream));
    CHECK_EQUAL(word(0), 1);
    CUDA_KERNEL_NODE_PARAMS parameters;
    OK(cuGraphKernelNodeGetParams_v2(node, &parameters));
    *(uint32_t *)parameters.kernelParams[1] = 3;
    OK(cuGraphExecKernelNodeSetParams_v2(exec, node, &parameters));
    OK(cuGraphLaunch(exec, stream));
    OK(cuStreamSynchronize(stream));
    CHECK_EQUAL(word(0), 3);
    CUgraphExecUpdateResultInfo info;
    OK(cuGraphExecUpdate_v2(exec, newer, &info));
    OK(cuGraphLaunch(exec, stream));
    OK(cuStreamSynchronize(stream));
    CHECK_EQUAL(word(0), 2);
    OK(cuGraphAddEmptyNode(&other_node, newer, NULL, 0));
    CHECK_EQUAL(cuGraphExecUpdate_v2(exec, newer, &info), CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE);
    CHECK_EQUAL(info.result, CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED);
    OK(cuGraphExecDestroy(exec));
    OK(cuGraphDestroy(graph));
    OK(cuGraphDestroy(newer));
}

CASE(a_cycle_cannot_be_instantiated) {
    CUgraph graph;
    CUgraphNode a, b;
    CUgraphExec exec;
    OK(cuGraphCreate(&graph, 0));
    OK(cuGraphAddEmptyNode(&a, graph, NULL, 0));
    OK(cuGraphAddEmptyNode(&b, graph, &a, 1));
    OK(cuGraphAddDependencies_v2(graph, &b, &a, NULL, 1));
    CHECK_EQUAL(cuGraphInstantiateWithFlags(&exec, graph, 0), CUDA_ERROR_INVALID_VALUE);
    OK(cuGraphDestroy(graph));
}

int main(int argc, char **argv) {
    node_new();
    context_new();
    OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    OK(cuMemAlloc_v2(&buffer, 64));
    return check_main(argc, argv);
}
