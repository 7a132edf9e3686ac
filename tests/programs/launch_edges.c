/* Launches where a shim could stumble: streams that end with work in flight, threads with their own default streams,
 * captures while other threads launch, contexts that come and go, a reset, a fork, work that waits for what is launched
 * later. Prints the name of each part when it is over, and ends with work in flight.
 *
 *     launch_edges PTX
 */
#define __CUDA_API_VERSION_INTERNAL 1
#include <cuda.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define GRAPH_KERNELS 100

static char ptx[1 << 20];
static CUcontext context;
static CUfunction kernel;
static atomic_bool enough;

static void check(CUresult result, const char *what) {
    if (result == CUDA_SUCCESS)
        return;
    fprintf(stderr, "launch_edges: %s: error %d\n", what, (int)result);
    exit(1);
}
#define CHECK(call) check(call, #call)

static void over(const char *part) {
    printf("%s\n", part);
    fflush(stdout);
}

static CUfunction load(void) {
    CUmodule module;
    CUfunction function;
    CHECK(cuModuleLoadData(&module, ptx));
    CHECK(cuModuleGetFunction(&function, module, "gpuslice_spin"));
    return function;
}

static void set_up(void) {
    CUdevice device;
    CHECK(cuInit(0));
    CHECK(cuDeviceGet(&device, 0));
    CHECK(cuDevicePrimaryCtxRetain(&context, device));
    CHECK(cuCtxSetCurrent(context));
    kernel = load();
}

typedef __typeof__(&cuLaunchKernel) launcher;

static void spin(launcher launch, CUfunction function, CUstream stream, uint64_t ns, int times) {
    uint32_t steps_per_us = 1000;
    void *arguments[] = {&ns, &steps_per_us};
    for (int i = 0; i < times; i++)
        CHECK(launch(function, 1, 1, 1, 32, 1, 1, 0, stream, arguments, NULL));
}

static void streams_end_with_work_in_flight(void) {
    for (unsigned i = 0; i < 300; i++) {
        CUstream stream;
        CHECK(cuStreamCreate(&stream, i % 2));
        spin(cuLaunchKernel, kernel, stream, 20000, 5);
        CHECK(cuStreamDestroy_v2(stream));
    }
    CHECK(cuCtxSynchronize());
}

static void pause_a_moment(int signal) {
    (void)signal;
    usleep(1500);
}

/* The shim may take a stream for idle while a launch into it is under way, and the program destroy it right after. */
static void launches_are_interrupted(void) {
    struct itimerval often = {{0, 2500}, {0, 2500}}, never = {{0, 0}, {0, 0}};
    struct sigaction action = {.sa_handler = pause_a_moment, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    for (unsigned i = 0; i < 3000; i++) {
        CUstream stream;
        CHECK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
        spin(cuLaunchKernel, kernel, stream, 1000, 3);
        CHECK(cuStreamDestroy_v2(stream));
    }
    setitimer(ITIMER_REAL, &never, NULL);
    CHECK(cuCtxSynchronize());
}

static void streams_end_while_their_context_is_not_current(void) {
    for (unsigned i = 0; i < 300; i++) {
        CUcontext popped;
        CUstream streams[2];
        for (unsigned s = 0; s < 2; s++) {
            CHECK(cuStreamCreate(&streams[s], CU_STREAM_NON_BLOCKING));
            spin(cuLaunchKernel, kernel, streams[s], 50000, 10);
        }
        CHECK(cuCtxPopCurrent_v2(&popped));
        CHECK(cuStreamDestroy_v2(streams[0]));
        CHECK(cuStreamDestroy_v2(streams[1]));
        CHECK(cuCtxSetCurrent(context));
    }
    CHECK(cuCtxSynchronize());
}

static void *launch_into_own_default_stream(void *unused) {
    CHECK(cuCtxSetCurrent(context));
    spin(cuLaunchKernel_ptsz, kernel, NULL, 20000, 300);
    CHECK(cuStreamSynchronize_ptsz(NULL));
    return unused;
}

static void threads_have_their_own_default_streams(void) {
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, launch_into_own_default_stream, NULL);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
}

static void *launch_until_enough(void *unused) {
    CUstream stream;
    CHECK(cuCtxSetCurrent(context));
    CHECK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    while (!enough)
        spin(cuLaunchKernel, kernel, stream, 30000, 1);
    CHECK(cuStreamSynchronize(stream));
    CHECK(cuStreamDestroy_v2(stream));
    return unused;
}

/* Nothing but the program's own launches gets into its graph, and nothing breaks its capture. */
static void capture_once(CUstream stream) {
    CUgraph graph;
    CUgraphExec executable;
    size_t nodes = 0;
    CHECK(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    spin(cuLaunchKernel, kernel, stream, 5000, GRAPH_KERNELS);
    usleep(2000); /* long enough for whoever looks every millisecond */
    CHECK(cuStreamEndCapture(stream, &graph));
    CHECK(cuGraphGetNodes(graph, NULL, &nodes));
    if (nodes != GRAPH_KERNELS)
        exit(fprintf(stderr, "launch_edges: the graph has %zu nodes instead of %d\n", nodes, GRAPH_KERNELS));
    CHECK(cuGraphInstantiateWithFlags(&executable, graph, 0));
    CHECK(cuGraphLaunch(executable, stream));
    CHECK(cuGraphLaunch(executable, stream));
    CHECK(cuGraphExecDestroy(executable));
    CHECK(cuGraphDestroy(graph));
}

static void captures_while_another_thread_launches(void) {
    pthread_t thread;
    CUstream stream;
    pthread_create(&thread, NULL, launch_until_enough, NULL);
    CHECK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    for (int i = 0; i < 30; i++)
        capture_once(stream);
    enough = true;
    pthread_join(thread, NULL);
    CHECK(cuStreamSynchronize(stream));
}

static void contexts_end_with_work_in_flight(void) {
    for (int i = 0; i < 20; i++) {
        CUcontext other;
        CHECK(cuCtxCreate_v2(&other, 0, 0));
        spin(cuLaunchKernel, load(), NULL, 50000, 10);
        CHECK(cuCtxDestroy_v2(other));
        CHECK(cuCtxSetCurrent(context));
        spin(cuLaunchKernel, kernel, NULL, 10000, 1);
    }
}

static void a_reset_begins_anew(void) {
    CHECK(cuDevicePrimaryCtxReset_v2(0));
    set_up();
    spin(cuLaunchKernel, kernel, NULL, 10000, 100);
    CHECK(cuCtxSynchronize());
}

static void a_child_comes_and_goes(void) {
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        execl("/bin/true", "true", (char *)NULL);
        _exit(127);
    }
    waitpid(child, &status, 0);
    if (status != 0)
        exit(fprintf(stderr, "launch_edges: the child ended with status %d\n", status));
}

static atomic_bool released;

static void wait_for_release(void *unused) {
    (void)unused;
    while (!released)
        usleep(1000);
}

/* What stands behind a wait is in flight and executes nothing: the launches that come before its release go on. */
static void a_stream_waits_for_later_launches(void) {
    CUstream waiting, stream;
    CHECK(cuStreamCreate(&waiting, CU_STREAM_NON_BLOCKING));
    CHECK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    CHECK(cuLaunchHostFunc(waiting, wait_for_release, NULL));
    spin(cuLaunchKernel, kernel, waiting, 1000000, 1);
    spin(cuLaunchKernel, kernel, stream, 1000000, 100);
    CHECK(cuStreamSynchronize(stream));
    released = true;
    CHECK(cuStreamSynchronize(waiting));
}

/* As kernels do that poll for what the other writes: the second must start although the first used up all there is. */
static void a_kernel_waits_for_a_later_launch(void) {
    CUstream first, second;
    CHECK(cuStreamCreate(&first, CU_STREAM_NON_BLOCKING));
    CHECK(cuStreamCreate(&second, CU_STREAM_NON_BLOCKING));
    spin(cuLaunchKernel, kernel, first, 10000000000, 1);
    usleep(500000);
    spin(cuLaunchKernel, kernel, second, 10000, 1);
    CUresult result = cuStreamQuery(first);
    if (result != CUDA_ERROR_NOT_READY)
        exit(fprintf(stderr, "launch_edges: the second launch waited for the end of the first (%d)\n", (int)result));
}

int main(int argc, char **argv) {
    FILE *file = argc == 2 ? fopen(argv[1], "r") : NULL;
    if (!file || fread(ptx, 1, sizeof(ptx) - 1, file) == 0)
        return 2;
    fclose(file);
    set_up();
    streams_end_with_work_in_flight();
    over("streams");
    launches_are_interrupted();
    over("signals");
    streams_end_while_their_context_is_not_current();
    over("elsewhere");
    threads_have_their_own_default_streams();
    over("threads");
    captures_while_another_thread_launches();
    over("captures");
    contexts_end_with_work_in_flight();
    over("contexts");
    a_reset_begins_anew();
    over("reset");
    a_child_comes_and_goes();
    over("fork");
    a_stream_waits_for_later_launches();
    over("waits");
    a_kernel_waits_for_a_later_launch();
    over("polls");
    return 0;
}
