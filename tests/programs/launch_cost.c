/* Times launches of a kernel that costs nothing.
 *
 *     launch_cost PTX LAUNCHES own|default median|mean
 *
 * The stream is one of its own or the legacy default stream.
 * For each line on standard input: LAUNCHES launches one by one, then the median or mean of their nanoseconds on a
 * line. The time of reading the clock is in it, the same with and without hooks.
 */
#include <cuda.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BATCH 8 /* launches between two readings of the clock */

static void must(CUresult result, const char *what) {
    if (result == CUDA_SUCCESS)
        return;
    fprintf(stderr, "launch_cost: %s: error %d\n", what, (int)result);
    exit(1);
}
#define MUST(call) must(call, #call)

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static int compare(const void *a, const void *b) {
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static double sum(const double *costs, size_t count) {
    double total = 0;
    for (size_t i = 0; i < count; i++)
        total += costs[i];
    return total;
}

static double typical_cost(const char *kind, CUfunction kernel, CUstream stream, size_t batches, double *costs) {
    for (size_t i = 0; i < batches; i++) {
        uint64_t start = now_ns();
        for (int j = 0; j < BATCH; j++)
            MUST(cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, stream, NULL, NULL));
        costs[i] = (double)(now_ns() - start) / BATCH;
    }
    MUST(cuStreamSynchronize(stream));
    if (!strcmp(kind, "mean"))
        return sum(costs, batches) / (double)batches;
    qsort(costs, batches, sizeof(*costs), compare);
    return costs[batches / 2];
}

int main(int argc, char **argv) {
    static char ptx[1 << 20];
    CUdevice device;
    CUcontext context;
    CUmodule module;
    CUfunction kernel;
    CUstream stream = NULL;
    FILE *file = argc == 5 ? fopen(argv[1], "r") : NULL;
    if (!file || fread(ptx, 1, sizeof(ptx) - 1, file) == 0)
        return 2;
    size_t batches = strtoul(argv[2], NULL, 10) / BATCH;
    double *costs = malloc(batches * sizeof(*costs));
    MUST(cuInit(0));
    MUST(cuDeviceGet(&device, 0));
    MUST(cuDevicePrimaryCtxRetain(&context, device));
    MUST(cuCtxSetCurrent(context));
    MUST(cuModuleLoadData(&module, ptx));
    MUST(cuModuleGetFunction(&kernel, module, "gpuslice_empty"));
    if (argv[3][0] == 'o')
        MUST(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    for (int c = getchar(); c != EOF && costs; c = getchar())
        if (c == '\n') {
            printf("%.2f\n", typical_cost(argv[4], kernel, stream, batches, costs));
            fflush(stdout);
        }
    return 0;
}
