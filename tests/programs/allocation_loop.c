/* Times pairs of cuMemAlloc and cuMemFree while many other allocations live.
 *
 *     allocation_loop LIVE PAIRS
 *
 * For each line on standard input: PAIRS pairs, then the nanoseconds a pair took on the average, on a line.
 */
#include <cuda.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

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

static uint64_t time_pairs(unsigned long pairs) {
    uint64_t start = now_ns();
    for (unsigned long i = 0; i < pairs; i++) {
        CUdeviceptr pointer;
        MUST(cuMemAlloc(&pointer, size_of(i)));
        MUST(cuMemFree(pointer));
    }
    return (now_ns() - start) / pairs;
}

int main(int argc, char **argv) {
    CUdevice device;
    CUcontext context;
    if (argc != 3)
        return 2;
    unsigned long live = strtoul(argv[1], NULL, 10), pairs = strtoul(argv[2], NULL, 10);
    MUST(cuInit(0));
    MUST(cuDeviceGet(&device, 0));
    MUST(cuDevicePrimaryCtxRetain(&context, device));
    MUST(cuCtxSetCurrent(context));
    for (unsigned long i = 0; i < live; i++) {
        CUdeviceptr pointer;
        MUST(cuMemAlloc(&pointer, size_of(i * 31)));
    }
    for (int c = getchar(); c != EOF; c = getchar())
        if (c == '\n') {
            printf("%llu\n", (unsigned long long)time_pairs(pairs));
            fflush(stdout);
        }
    return 0;
}
