/* Keeps the GPU busy in one of many ways for some seconds, and says how.
 *
 *   launch_loop --ptx FILE --kernel-us N --mode MODE [--steps-per-us N] [--ahead-ms N]
 *
 * MODE: loop (kernels without a pause), sync (each one is waited for), graph (a graph of 4 kernels), cooperative, ex,
 * streams4 (four streams), memset, d2d (copies of N microseconds or so), host (a host copy after each kernel).
 * --steps-per-us is what gpuslice_spin takes to last as long as asked, 1000 on the simulated node. --ahead-ms bounds the
 * work that waits behind the running kernel: a GPU takes a thousand launches before it holds the next one back.
 * Says "ready", and for each line on standard input, a number of seconds, works so long and then prints JSON: launches,
 * and start and end of the time it had work, in ns of CLOCK_MONOTONIC. It waits for its last work before it says so.
 */
#define __CUDA_API_VERSION_INTERNAL 1
#include <cuda.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define STREAMS 4
#define GRAPH_KERNELS 4
#define MARKS 4 /* in what may be ahead */
#define BUFFER_BYTES (UINT64_C(1) << 30)

struct client {
    const char *mode;
    uint64_t kernel_ns, ahead_ns;
    uint32_t steps_per_us;
    CUevent marks[MARKS];
    CUfunction spin, empty;
    CUstream streams[STREAMS];
    CUgraphExec graph;
    CUdeviceptr buffers[2];
    size_t bytes; /* of a memset or copy */
    char host[4096];
};

static void check(CUresult result, const char *what) {
    if (result == CUDA_SUCCESS)
        return;
    fprintf(stderr, "launch_loop: %s: error %d\n", what, (int)result);
    exit(1);
}
#define CHECK(call) check(call, #call)

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

struct arguments {
    uint64_t ns;
    uint32_t steps_per_us;
    void *pointers[2];
};

static void **arguments_of(struct arguments *arguments, const struct client *client) {
    *arguments = (struct arguments){.ns = client->kernel_ns, .steps_per_us = client->steps_per_us};
    arguments->pointers[0] = &arguments->ns;
    arguments->pointers[1] = &arguments->steps_per_us;
    return arguments->pointers;
}

static CUfunction kernel_of(const struct client *client) {
    return client->kernel_ns ? client->spin : client->empty;
}

static void launch(const struct client *client, CUstream stream) {
    struct arguments arguments;
    void **pointers = arguments_of(&arguments, client);
    CHECK(cuLaunchKernel(kernel_of(client), 1, 1, 1, 32, 1, 1, 0, stream, pointers, NULL));
}

static void launch_cooperative(const struct client *client) {
    struct arguments arguments;
    void **pointers = arguments_of(&arguments, client);
    CHECK(cuLaunchCooperativeKernel(kernel_of(client), 1, 1, 1, 32, 1, 1, 0, client->streams[0], pointers));
}

static void launch_ex(const struct client *client) {
    struct arguments arguments;
    void **pointers = arguments_of(&arguments, client);
    CUlaunchConfig config = {.gridDimX = 1,
                             .gridDimY = 1,
                             .gridDimZ = 1,
                             .blockDimX = 32,
                             .blockDimY = 1,
                             .blockDimZ = 1,
                             .hStream = client->streams[0]};
    CHECK(cuLaunchKernelEx(&config, kernel_of(client), pointers, NULL));
}

static void capture_graph(struct client *client) {
    CUgraph graph;
    CHECK(cuStreamBeginCapture_v2(client->streams[0], CU_STREAM_CAPTURE_MODE_GLOBAL));
    for (int i = 0; i < GRAPH_KERNELS; i++)
        launch(client, client->streams[0]);
    CHECK(cuStreamEndCapture(client->streams[0], &graph));
    CHECK(cuGraphInstantiateWithFlags(&client->graph, graph, 0));
}

/* One step of the mode; `step` counts. */
static void work(struct client *client, uint64_t step) {
    CUstream stream = client->streams[0];
    if (!strcmp(client->mode, "streams4"))
        launch(client, client->streams[step % STREAMS]);
    else if (!strcmp(client->mode, "graph"))
        CHECK(cuGraphLaunch(client->graph, stream));
    else if (!strcmp(client->mode, "cooperative"))
        launch_cooperative(client);
    else if (!strcmp(client->mode, "ex"))
        launch_ex(client);
    else if (!strcmp(client->mode, "memset"))
        CHECK(cuMemsetD8Async(client->buffers[0], 1, client->bytes, stream));
    else if (!strcmp(client->mode, "d2d"))
        CHECK(cuMemcpyDtoDAsync_v2(client->buffers[1], client->buffers[0], client->bytes, stream));
    else
        launch(client, stream);
    if (!strcmp(client->mode, "sync"))
        CHECK(cuStreamSynchronize(stream));
    else if (!strcmp(client->mode, "host"))
        CHECK(cuMemcpyHtoDAsync_v2(client->buffers[0], client->host, sizeof(client->host), stream));
}

/* Waits until what was launched before the last `ahead_ns` is done. */
static void keep_ahead(const struct client *client, uint64_t step) {
    uint64_t step_ns = client->kernel_ns * (client->graph ? GRAPH_KERNELS : 1) + 1;
    uint64_t batch = client->ahead_ns / MARKS / step_ns + 1;
    if (client->ahead_ns == 0 || step % batch != batch - 1)
        return;
    CUevent mark = client->marks[step / batch % MARKS];
    CHECK(cuEventSynchronize(mark));
    CHECK(cuEventRecord(mark, client->streams[strcmp(client->mode, "streams4") ? 0 : step % STREAMS]));
}

static bool is_mode(const char *mode) {
    static const char *const modes[] = {"loop",     "sync",   "graph", "cooperative", "ex",
                                        "streams4", "memset", "d2d",   "host"};
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
        if (!strcmp(mode, modes[i]))
            return true;
    return false;
}

static void set_up(struct client *client, const char *ptx_path) {
    static char ptx[1 << 20];
    FILE *file = fopen(ptx_path, "r");
    CUdevice device;
    CUcontext context;
    CUmodule module;
    if (!file || fread(ptx, 1, sizeof(ptx) - 1, file) == 0)
        check(CUDA_ERROR_FILE_NOT_FOUND, ptx_path);
    fclose(file);
    CHECK(cuInit(0));
    CHECK(cuDeviceGet(&device, 0));
    CHECK(cuDevicePrimaryCtxRetain(&context, device));
    CHECK(cuCtxSetCurrent(context));
    CHECK(cuModuleLoadData(&module, ptx));
    CHECK(cuModuleGetFunction(&client->spin, module, "gpuslice_spin"));
    CHECK(cuModuleGetFunction(&client->empty, module, "gpuslice_empty"));
    for (int i = 0; i < STREAMS; i++)
        CHECK(cuStreamCreate(&client->streams[i], CU_STREAM_NON_BLOCKING));
    for (int i = 0; i < MARKS; i++)
        CHECK(cuEventCreate(&client->marks[i], CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING));
    for (int i = 0; i < 2; i++)
        CHECK(cuMemAlloc_v2(&client->buffers[i], BUFFER_BYTES));
    client->bytes = client->kernel_ns * 1000 < BUFFER_BYTES ? client->kernel_ns * 1000 : BUFFER_BYTES;
    if (!strcmp(client->mode, "graph"))
        capture_graph(client);
    CHECK(cuCtxSynchronize());
}

static void work_for(struct client *client, double seconds) {
    uint64_t start_ns = now_ns(), until_ns = start_ns + (uint64_t)(seconds * 1e9), steps = 0;
    while (now_ns() < until_ns) {
        work(client, steps);
        keep_ahead(client, steps++);
    }
    CHECK(cuCtxSynchronize());
    printf("{\"launches\": %llu, \"start_ns\": %llu, \"end_ns\": %llu}\n", (unsigned long long)steps,
           (unsigned long long)start_ns, (unsigned long long)now_ns());
    fflush(stdout);
}

int main(int argc, char **argv) {
    static struct client client = {.mode = "loop", .steps_per_us = 1000};
    static const struct option options[] = {{"ptx", required_argument, NULL, 'p'},
                                            {"kernel-us", required_argument, NULL, 'k'},
                                            {"mode", required_argument, NULL, 'm'},
                                            {"steps-per-us", required_argument, NULL, 's'},
                                            {"ahead-ms", required_argument, NULL, 'a'},
                                            {0}};
    const char *ptx = "gpuslice.ptx";
    double seconds;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == 'p')
            ptx = optarg;
        else if (option == 'k')
            client.kernel_ns = (uint64_t)(atof(optarg) * 1000);
        else if (option == 'm')
            client.mode = optarg;
        else if (option == 's')
            client.steps_per_us = (uint32_t)strtoul(optarg, NULL, 10);
        else if (option == 'a')
            client.ahead_ns = (uint64_t)(atof(optarg) * 1e6);
        else
            return 2;
    }
    if (!is_mode(client.mode))
        return fprintf(stderr, "launch_loop: there is no mode %s\n", client.mode), 2;
    set_up(&client, ptx);
    printf("ready\n");
    fflush(stdout);
    while (scanf("%lf", &seconds) == 1)
        work_for(&client, seconds);
    return 0;
}
