/* Which default stream a program gets:
 *
 *   entry_streams KERNELS dlsym SUFFIX                 dlsym of the names with "" or "_ptsz" behind them
 *   entry_streams KERNELS procaddress VERSION FLAGS    cuGetProcAddress
 *
 * One thread keeps its default stream busy, another asks whether its own is: prints the answer, 600 (not ready) where
 * both have the legacy stream, 0 where each thread has its own. KERNELS is a file with gpuslice_spin. */
#include <cuda.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SPIN_NS 400000000ull

static CUresult (*stream_query)(CUstream stream);
static CUcontext context;

static void *ask(void *result) {
    cuCtxSetCurrent(context);
    *(CUresult *)result = stream_query(NULL);
    return NULL;
}

static void *find(char **arguments, const char *name) {
    static void *library;
    char exported[64];
    void *found = NULL;
    CUdriverProcAddressQueryResult status;
    library = library ? library : dlopen("libcuda.so.1", RTLD_NOW);
    if (strcmp(arguments[2], "dlsym") == 0) {
        snprintf(exported, sizeof exported, "%s%s", name, arguments[3]);
        return dlsym(library, exported);
    }
    CUresult (*get)(const char *, void **, int, cuuint64_t, CUdriverProcAddressQueryResult *) = (CUresult (*)(
        const char *, void **, int, cuuint64_t, CUdriverProcAddressQueryResult *))dlsym(library, "cuGetProcAddress_v2");
    get(name, &found, atoi(arguments[3]), (cuuint64_t)atoi(arguments[4]), &status);
    return found;
}

#define TRY(call)                                                                                                      \
    do {                                                                                                               \
        CUresult result = (call);                                                                                      \
        if (result != CUDA_SUCCESS) {                                                                                  \
            fprintf(stderr, "%s: error %d\n", #call, result);                                                          \
            return 1;                                                                                                  \
        }                                                                                                              \
    } while (0)

int main(int count, char **arguments) {
    CUdevice device;
    CUmodule module;
    CUfunction spin;
    CUresult answer;
    pthread_t thread;
    unsigned long long ns = SPIN_NS;
    unsigned int steps_per_us = 1000;
    void *parameters[] = {&ns, &steps_per_us};
    if (count < 4)
        return 2;
    __typeof__(&cuLaunchKernel) launch = (__typeof__(&cuLaunchKernel))find(arguments, "cuLaunchKernel");
    stream_query = (CUresult (*)(CUstream))find(arguments, "cuStreamQuery");
    TRY(cuInit(0));
    TRY(cuDeviceGet(&device, 0));
    TRY(cuDevicePrimaryCtxRetain(&context, device));
    TRY(cuCtxSetCurrent(context));
    TRY(cuModuleLoad(&module, arguments[1]));
    TRY(cuModuleGetFunction(&spin, module, "gpuslice_spin"));
    TRY(launch(spin, 1, 1, 1, 1, 1, 1, 0, NULL, parameters, NULL));
    pthread_create(&thread, NULL, ask, &answer);
    pthread_join(thread, NULL);
    TRY(cuCtxSynchronize());
    printf("%d\n", answer);
    return 0;
}
