/* Many threads in one context at once: every one sees its own bytes, and all memory comes back. */
#include <pthread.h>

#include "node.h"

#define THREADS 6
#define ROUNDS 150

static CUcontext context;

static void use_memory(CUstream stream, uint32_t mark) {
    CUdeviceptr linear, pooled;
    uint32_t seen[2] = {0};
    OK(cuMemAlloc_v2(&linear, 4096));
    OK(cuMemAllocAsync(&pooled, 3000, stream));
    OK(cuMemsetD32Async(pooled, mark, 1, stream));
    fill(linear, mark + 1, 16, stream);
    OK(cuMemcpyDtoHAsync_v2(&seen[0], pooled, 4, stream));
    OK(cuMemcpyDtoHAsync_v2(&seen[1], linear + 60, 4, stream));
    OK(cuMemFreeAsync(pooled, stream));
    OK(cuStreamSynchronize(stream));
    CHECK_EQUAL(seen[0], mark);
    CHECK_EQUAL(seen[1], mark + 1);
    OK(cuMemFree_v2(linear));
}

static void use_a_graph(CUstream stream, CUdeviceptr word, uint32_t mark) {
    CUgraph graph;
    CUgraphExec exec;
    OK(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
    OK(cuMemsetD32Async(word, mark, 1, stream));
    OK(cuMemcpyDtoDAsync_v2(word + 4, word, 4, stream));
    OK(cuStreamEndCapture(stream, &graph));
    OK(cuGraphInstantiateWithFlags(&exec, graph, 0));
    OK(cuGraphLaunch(exec, stream));
    uint32_t seen;
    OK(cuMemcpyDtoHAsync_v2(&seen, word + 4, 4, stream));
    OK(cuStreamSynchronize(stream));
    CHECK_EQUAL(seen, mark);
    OK(cuGraphExecDestroy(exec));
    OK(cuGraphDestroy(graph));
}

static void count_up(void *counter) {
    ++*(uint32_t *)counter;
}

static void *work(void *argument) {
    uint32_t number = (uint32_t)(uintptr_t)argument, counter = 0;
    CUstream stream;
    CUevent event;
    CUdeviceptr word;
    OK(cuCtxSetCurrent(context));
    OK(cuStreamCreate(&stream, number % 2 ? CU_STREAM_NON_BLOCKING : 0));
    OK(cuEventCreate(&event, 0));
    OK(cuMemAlloc_v2(&word, 8));
    for (uint32_t i = 0; i < ROUNDS; i++) {
        use_memory(stream, number << 16 | i);
        use_a_graph(stream, word, number << 16 | i);
        OK(cuLaunchHostFunc(stream, count_up, &counter));
        OK(cuEventRecord(event, stream));
        OK(cuStreamWaitEvent(CU_STREAM_PER_THREAD, event, 0));
        OK(cuMemsetD8Async(word, 0, 8, CU_STREAM_PER_THREAD));
        OK(cuEventSynchronize(event));
        OK(cuStreamSynchronize(CU_STREAM_PER_THREAD));
    }
    CHECK_EQUAL(counter, ROUNDS);
    OK(cuMemFree_v2(word));
    OK(cuEventDestroy_v2(event));
    OK(cuStreamDestroy_v2(stream));
    return NULL;
}

/* The kernel's code is loaded with its first launch, and stays; so does what streams cost. */
static void take_what_stays(void) {
    CUdeviceptr word;
    CUstream streams[THREADS];
    for (unsigned i = 0; i < THREADS; i++)
        OK(cuStreamCreate(&streams[i], CU_STREAM_NON_BLOCKING));
    for (unsigned i = 0; i < THREADS; i++)
        OK(cuStreamDestroy_v2(streams[i]));
    OK(cuMemAlloc_v2(&word, 4));
    fill(word, 0, 1, NULL);
    OK(cuCtxSynchronize());
    OK(cuMemFree_v2(word));
}

CASE(threads_do_not_see_each_others_bytes_and_leave_nothing_behind) {
    pthread_t threads[THREADS];
    take_what_stays();
    size_t before = free_bytes();
    for (uintptr_t i = 0; i < THREADS; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, work, (void *)(i + 1)), 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    OK(cuCtxSynchronize());
    CHECK_EQUAL(free_bytes(), before);
}

int main(int argc, char **argv) {
    node_new();
    context = context_new();
    return check_main(argc, argv);
}
