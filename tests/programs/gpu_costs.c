/* Times calls of the driver, one kind at a time.
 *
 *     gpu_costs PTX
 *     gpu_costs names
 *
 * For each line on standard input, NAME, a tab and COUNT: so many calls, then the median of their nanoseconds on a
 * line. A call that is much shorter than the reading of the clock is timed eight at once.
 */
#include <cuda.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MIB ((size_t)1 << 20)
#define TIMES_MAX 100000

static CUdevice device;
static CUfunction empty;
static CUstream stream;
static CUevent begin, end, pending;
static CUgraphExec graph;
static CUdeviceptr word;

static void must(CUresult result, const char *what) {
    if (result == CUDA_SUCCESS)
        return;
    fprintf(stderr, "gpu_costs: %s: error %d\n", what, (int)result);
    exit(1);
}
#define MUST(call) must(call, #call)

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* --- what is timed: each does it once ----------------------------------------------------------------------- */

static void launch(void) {
    MUST(cuLaunchKernel(empty, 1, 1, 1, 1, 1, 1, 0, stream, NULL, NULL));
}

static void launch_and_wait(void) {
    launch();
    MUST(cuStreamSynchronize(stream));
}

static void graph_launch(void) {
    MUST(cuGraphLaunch(graph, stream));
}

static void event_record(void) {
    MUST(cuEventRecord(pending, stream));
}

static void event_query(void) {
    MUST(cuEventQuery(begin));
}

static void event_elapsed(void) {
    float ms;
    MUST(cuEventElapsedTime(&ms, begin, end));
}

static void stream_query(void) {
    cuStreamQuery(stream);
}

static void stream_write(void) {
    MUST(cuStreamWriteValue64(stream, word, 1, 0));
}

static void mem_get_info(void) {
    size_t free_bytes, total;
    MUST(cuMemGetInfo(&free_bytes, &total));
}

static void allocate(size_t bytes) {
    CUdeviceptr pointer;
    MUST(cuMemAlloc(&pointer, bytes));
    MUST(cuMemFree(pointer));
}

static void allocate_small(void) {
    allocate(4096);
}

static void allocate_block(void) {
    allocate(2 * MIB);
}

static void allocate_large(void) {
    allocate(256 * MIB);
}

static void allocate_async(void) {
    CUdeviceptr pointer;
    MUST(cuMemAllocAsync(&pointer, 2 * MIB, stream));
    MUST(cuMemFreeAsync(pointer, stream));
}

/* --- physical memory: its steps are timed one by one -------------------------------------------------------- */

enum step { RESERVE, CREATE, MAP, ACCESS, UNMAP, RELEASE, STEPS };
static const char *const step_names[STEPS] = {"cuMemAddressReserve", "cuMemCreate", "cuMemMap",
                                              "cuMemSetAccess",      "cuMemUnmap",  "cuMemRelease"};

static uint64_t time_step(enum step wanted, size_t bytes) {
    CUmemAllocationProp properties = {.type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                      .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = device}};
    CUmemAccessDesc access = {.location = properties.location, .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    CUmemGenericAllocationHandle handle;
    CUdeviceptr pointer;
    uint64_t at[STEPS + 1];
    at[RESERVE] = now_ns();
    MUST(cuMemAddressReserve(&pointer, bytes, 0, 0, 0));
    at[CREATE] = now_ns();
    MUST(cuMemCreate(&handle, bytes, &properties, 0));
    at[MAP] = now_ns();
    MUST(cuMemMap(pointer, bytes, 0, handle, 0));
    at[ACCESS] = now_ns();
    MUST(cuMemSetAccess(pointer, bytes, &access, 1));
    at[UNMAP] = now_ns();
    MUST(cuMemUnmap(pointer, bytes));
    at[RELEASE] = now_ns();
    MUST(cuMemRelease(handle));
    at[STEPS] = now_ns();
    MUST(cuMemAddressFree(pointer, bytes));
    return at[wanted + 1] - at[wanted];
}

/* ------------------------------------------------------------------------------------------------------------ */

static const struct {
    const char *name;
    void (*call)(void);
    unsigned batch; /* calls between two readings of the clock */
} costs[] = {
    {"cuLaunchKernel", launch, 8},
    {"cuLaunchKernel and wait", launch_and_wait, 1},
    {"cuGraphLaunch", graph_launch, 8},
    {"cuEventRecord", event_record, 8},
    {"cuEventQuery", event_query, 8},
    {"cuEventElapsedTime", event_elapsed, 8},
    {"cuStreamQuery", stream_query, 8},
    {"cuStreamWriteValue64", stream_write, 8},
    {"cuMemGetInfo", mem_get_info, 1},
    {"cuMemAlloc and free, 4 KiB", allocate_small, 1},
    {"cuMemAlloc and free, 2 MiB", allocate_block, 1},
    {"cuMemAlloc and free, 256 MiB", allocate_large, 1},
    {"cuMemAllocAsync and free, 2 MiB", allocate_async, 1},
};
#define COSTS (sizeof costs / sizeof *costs)
static const unsigned physical_mib[] = {2, 64, 1024};

static int compare(const void *a, const void *b) {
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static double median(double *times, size_t count) {
    qsort(times, count, sizeof *times, compare);
    return times[count / 2];
}

static double time_calls(void (*call)(void), unsigned batch, size_t count) {
    static double times[TIMES_MAX];
    for (size_t i = 0; i < count; i++) {
        uint64_t start = now_ns();
        for (unsigned j = 0; j < batch; j++)
            call();
        times[i] = (double)(now_ns() - start) / batch;
        if (i % 64 == 63) /* a full queue would hold the next launches back */
            MUST(cuStreamSynchronize(stream));
    }
    MUST(cuStreamSynchronize(stream));
    return median(times, count);
}

static double time_steps(enum step step, size_t bytes, size_t count) {
    static double times[TIMES_MAX];
    for (size_t i = 0; i < count; i++)
        times[i] = (double)time_step(step, bytes);
    return median(times, count);
}

/* Negative: there is no cost of that name. */
static double time_named(const char *name, size_t count) {
    char physical[64];
    for (size_t i = 0; i < COSTS; i++)
        if (!strcmp(name, costs[i].name))
            return time_calls(costs[i].call, costs[i].batch, count);
    for (size_t i = 0; i < sizeof physical_mib / sizeof *physical_mib; i++)
        for (enum step step = RESERVE; step < STEPS; step++) {
            snprintf(physical, sizeof physical, "%s, %u MiB", step_names[step], physical_mib[i]);
            if (!strcmp(name, physical))
                return time_steps(step, physical_mib[i] * MIB, count);
        }
    return -1;
}

static void say_names(void) {
    for (size_t i = 0; i < COSTS; i++)
        puts(costs[i].name);
    for (size_t i = 0; i < sizeof physical_mib / sizeof *physical_mib; i++)
        for (enum step step = RESERVE; step < STEPS; step++)
            printf("%s, %u MiB\n", step_names[step], physical_mib[i]);
}

static void set_up(const char *ptx_path) {
    static char ptx[1 << 20];
    FILE *file = fopen(ptx_path, "r");
    CUcontext context;
    CUmodule module;
    CUgraph recorded;
    void *host;
    if (!file || fread(ptx, 1, sizeof(ptx) - 1, file) == 0)
        must(CUDA_ERROR_FILE_NOT_FOUND, ptx_path);
    fclose(file);
    MUST(cuInit(0));
    MUST(cuDeviceGet(&device, 0));
    MUST(cuDevicePrimaryCtxRetain(&context, device));
    MUST(cuCtxSetCurrent(context));
    MUST(cuModuleLoadData(&module, ptx));
    MUST(cuModuleGetFunction(&empty, module, "gpuslice_empty"));
    MUST(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    MUST(cuEventCreate(&begin, 0));
    MUST(cuEventCreate(&end, 0));
    MUST(cuEventCreate(&pending, 0));
    MUST(cuEventRecord(begin, stream));
    launch();
    MUST(cuEventRecord(end, stream));
    MUST(cuMemHostAlloc(&host, 4096, CU_MEMHOSTALLOC_DEVICEMAP));
    MUST(cuMemHostGetDevicePointer(&word, host, 0));
    MUST(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    launch();
    MUST(cuStreamEndCapture(stream, &recorded));
    MUST(cuGraphInstantiate(&graph, recorded, 0));
    MUST(cuStreamSynchronize(stream));
}

int main(int argc, char **argv) {
    char name[64];
    size_t count;
    if (argc != 2)
        return 2;
    if (!strcmp(argv[1], "names"))
        return say_names(), 0;
    set_up(argv[1]);
    while (scanf(" %63[^\t]\t%zu", name, &count) == 2) {
        double ns = time_named(name, count < TIMES_MAX ? count : TIMES_MAX);
        if (ns < 0)
            return fprintf(stderr, "gpu_costs: there is no '%s'\n", name), 2;
        printf("%.1f\n", ns);
        fflush(stdout);
    }
    return 0;
}
