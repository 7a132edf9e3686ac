/* What a tenant of a GPU does, and what it sees there.
 *
 *     tenant [MIB]     takes so much memory, by default as much as it gets, in pieces of 2 MiB; then waits
 *     tenant spin      keeps the last GPU busy with kernels of a millisecond, for ever
 *
 * Says for each GPU it sees, in their order: `gpu N UUID total=BYTES free=BYTES`, then `took=MIB` and, if an allocation
 * was refused, `refused=ERROR`. The last line is `ready`.
 */
#include <cuda.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIECE ((size_t)2 << 20) /* what the driver takes at least */
#define KERNELS_AHEAD 4

static void check(CUresult result, const char *what) {
    if (result == CUDA_SUCCESS)
        return;
    const char *name = "unknown";
    cuGetErrorName(result, &name);
    printf("%s: %s\n", what, name);
    exit(1);
}
#define CHECK(call) check(call, #call)

static void describe(int number, CUdevice device) {
    CUuuid uuid;
    size_t total, free_bytes, ignored;
    CHECK(cuDeviceGetUuid(&uuid, device));
    CHECK(cuDeviceTotalMem(&total, device));
    CHECK(cuMemGetInfo(&free_bytes, &ignored));
    printf("gpu %d GPU-", number);
    for (int i = 0; i < 16; i++)
        printf("%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", (unsigned char)uuid.bytes[i]);
    printf(" total=%zu free=%zu", total, free_bytes);
}

static void take(unsigned long pieces) {
    unsigned long taken = 0;
    CUresult result = CUDA_SUCCESS;
    for (CUdeviceptr pointer; taken < pieces && !(result = cuMemAlloc(&pointer, PIECE)); taken++)
        continue;
    printf(" took=%lu", taken * (PIECE >> 20));
    if (result)
        printf(" refused=%d", result);
    printf("\n");
}

static void spin(const char *kernels) {
    CUmodule module;
    CUfunction function;
    CUevent events[KERNELS_AHEAD];
    unsigned long long ns = 1000000;
    unsigned steps_per_us = 1000;
    void *arguments[] = {&ns, &steps_per_us};
    CHECK(cuModuleLoad(&module, kernels));
    CHECK(cuModuleGetFunction(&function, module, "gpuslice_spin"));
    for (int i = 0; i < KERNELS_AHEAD; i++)
        CHECK(cuEventCreate(&events[i], CU_EVENT_DISABLE_TIMING));
    for (unsigned long launch = 0;; launch++) {
        CUevent event = events[launch % KERNELS_AHEAD];
        CHECK(cuEventSynchronize(event));
        CHECK(cuLaunchKernel(function, 1, 1, 1, 32, 1, 1, 0, NULL, arguments, NULL));
        CHECK(cuEventRecord(event, NULL));
    }
}

/* Process 1 of a container ignores the signals that it does not handle. */
static void end(int number) {
    (void)number;
    _exit(0);
}

int main(int argc, char **argv) {
    int count;
    int spins = argc > 1 && !strcmp(argv[1], "spin");
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGTERM, end);
    CHECK(cuInit(0));
    CHECK(cuDeviceGetCount(&count));
    for (int i = 0; i < count; i++) {
        CUdevice device;
        CUcontext context;
        CHECK(cuDeviceGet(&device, i));
        CHECK(cuDevicePrimaryCtxRetain(&context, device));
        CHECK(cuCtxSetCurrent(context));
        describe(i, device);
        take(spins ? 0 : argc > 1 ? strtoul(argv[1], NULL, 10) / (PIECE >> 20) : ~0UL);
    }
    printf("ready\n");
    if (spins)
        spin("/usr/local/share/gpuslice.ptx");
    for (;;)
        pause();
}
