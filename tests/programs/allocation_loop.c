/* Times pairs of cuMemAlloc and cuMemFree while many other allocations live.
 *
 *     allocation_loop LIVE PAIRS
 *
 * For each line on standard input: PAIRS pairs, then the median of their nanoseconds, on a line.
 */
#include <cuda.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define BATCH 8  /* pairs between two readings of the clock */
#define SIZES 64 /* 4 KiB to 256 KiB, so that blocks are shared */

static void must(CUresult result, const char *what) {
    if (result == CUDA_SUCCESS)
        return;
    fprintf(stderr, "allocation_loop: %s: error %d\n", what, (int)result);
    exit(1);
}
#define MUST(call) must(call, #call)

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static size_t size_of(unsigned long number) {
    return (number * 7919 % SIZES + 1) * 4096;
}

static int compare(const void *a, const void *b) {
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static double median_cost(size_t batches, double *costs) {
    for (size_t i = 0; i < batches; i++) {
        uint64_t start = now_ns();
        for (size_t j = 0; j < BATCH; j++) {
            CUdeviceptr pointer;
            MUST(cuMemAlloc(&pointer, size_of(i * BATCH + j)));
            MUST(cuMemFree(pointer));
        }
        costs[i] = (double)(now_ns() - start) / BATCH;
    }
    qsort(costs, batches, sizeof(*costs), compare);
    return costs[batches / 2];
}

int main(int argc, char **argv) {
    CUdevice device;
    CUcontext context;
    if (argc != 3)
        return 2;
    unsigned long live = strtoul(argv[1], NULL, 10);
    size_t batches = strtoul(argv[2], NULL, 10) / BATCH;
    double *costs = malloc(batches * sizeof(*costs));
    MUST(cuInit(0));
    MUST(cuDeviceGet(&device, 0));
    MUST(cuDevicePrimaryCtxRetain(&context, device));
    MUST(cuCtxSetCurrent(context));
    for (unsigned long i = 0; i < live; i++) {
        CUdeviceptr pointer;
        MUST(cuMemAlloc(&pointer, size_of(i * 31)));
    }
    for (int c = getchar(); c != EOF && costs; c = getchar())
        if (c == '\n') {
            printf("%.2f\n", median_cost(batches, costs));
            fflush(stdout);
        }
    return 0;
}
