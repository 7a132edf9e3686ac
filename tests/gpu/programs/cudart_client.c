/* A program on the CUDA runtime, as nvcc's users write it: it never names the driver. libcudart finds the driver by
 * itself (dlopen, then cuGetProcAddress with its own version and flags), so it shows whether the shim is in its way.
 *
 *   cudart_client memory          allocates until refused; what cudaMemGetInfo said and what it got, as JSON
 *   cudart_client async           the same through cudaMallocAsync
 *   cudart_client spin PTX NS N STEPS_PER_US [graph]   launches gpuslice_spin N times; elapsed wall ns, as JSON
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* What is used of cuda_runtime_api.h, the same in 12.8 and later and in 13: the header itself needs files that only a
 * whole toolkit has. */
typedef int cudaError_t;
typedef struct cudart_stream *cudaStream_t;
typedef struct cudart_graph *cudaGraph_t;
typedef struct cudart_graph_exec *cudaGraphExec_t;
typedef struct cudart_library *cudaLibrary_t;
typedef struct cudart_kernel *cudaKernel_t;
typedef struct {
    unsigned x, y, z;
} dim3;
enum { cudaSuccess = 0, cudaStreamCaptureModeGlobal = 0 };
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes);
cudaError_t cudaMalloc(void **pointer, size_t bytes);
cudaError_t cudaMallocAsync(void **pointer, size_t bytes, cudaStream_t stream);
cudaError_t cudaGetLastError(void);
const char *cudaGetErrorName(cudaError_t error);
const char *cudaGetErrorString(cudaError_t error);
cudaError_t cudaLibraryLoadData(cudaLibrary_t *library, const void *code, void *jit_options, void **jit_values,
                                unsigned jit_count, void *options, void **values, unsigned count);
cudaError_t cudaLibraryGetKernel(cudaKernel_t *kernel, cudaLibrary_t library, const char *name);
cudaError_t cudaLaunchKernel(const void *kernel, dim3 grid, dim3 block, void **arguments, size_t shared,
                             cudaStream_t stream);
cudaError_t cudaStreamCreate(cudaStream_t *stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, int mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *executable, cudaGraph_t graph, unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream);

#define BLOCK ((size_t)2 << 20)

#define CHECK(call)                                                                                                    \
    do {                                                                                                               \
        cudaError_t error_ = (call);                                                                                   \
        if (error_ != cudaSuccess) {                                                                                   \
            fprintf(stderr, "%s: %s\n", #call, cudaGetErrorString(error_));                                            \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int allocate_until_refused(int async) {
    size_t free_bytes, total_bytes, taken = 0;
    CHECK(cudaMemGetInfo(&free_bytes, &total_bytes));
    cudaError_t refusal;
    for (;;) {
        void *pointer;
        refusal = async ? cudaMallocAsync(&pointer, BLOCK, 0) : cudaMalloc(&pointer, BLOCK);
        if (refusal != cudaSuccess)
            break;
        taken += BLOCK;
    }
    cudaGetLastError();
    printf("{\"free\": %zu, \"total\": %zu, \"allocated\": %zu, \"refusal\": \"%s\"}\n", free_bytes, total_bytes, taken,
           cudaGetErrorName(refusal));
    return 0;
}

static char *read_file(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        exit(1);
    }
    fseek(file, 0, SEEK_END);
    size_t size = (size_t)ftell(file);
    rewind(file);
    char *text = calloc(1, size + 1);
    if (!text || fread(text, 1, size, file) != size)
        exit(1);
    fclose(file);
    return text;
}

static int spin(int argc, char **argv) {
    if (argc < 6) {
        fprintf(stderr, "cudart_client spin PTX NS N STEPS_PER_US [graph]\n");
        return 2;
    }
    unsigned long long ns = strtoull(argv[3], NULL, 10);
    unsigned steps = (unsigned)strtoul(argv[5], NULL, 10);
    int count = atoi(argv[4]), graph = argc > 6 && strcmp(argv[6], "graph") == 0;
    cudaLibrary_t library;
    cudaKernel_t kernel;
    CHECK(cudaLibraryLoadData(&library, read_file(argv[2]), NULL, NULL, 0, NULL, NULL, 0));
    CHECK(cudaLibraryGetKernel(&kernel, library, "gpuslice_spin"));
    void *arguments[] = {&ns, &steps};
    cudaStream_t stream;
    CHECK(cudaStreamCreate(&stream));
    cudaGraphExec_t executable = NULL;
    if (graph) {
        cudaGraph_t recorded;
        CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
        CHECK(cudaLaunchKernel((const void *)kernel, (dim3){1, 1, 1}, (dim3){1, 1, 1}, arguments, 0, stream));
        CHECK(cudaStreamEndCapture(stream, &recorded));
        CHECK(cudaGraphInstantiate(&executable, recorded, 0));
    }
    /* The first launch loads the code. */
    CHECK(cudaLaunchKernel((const void *)kernel, (dim3){1, 1, 1}, (dim3){1, 1, 1}, arguments, 0, stream));
    CHECK(cudaStreamSynchronize(stream));
    uint64_t start = now_ns();
    for (int i = 0; i < count; i++) {
        if (graph)
            CHECK(cudaGraphLaunch(executable, stream));
        else
            CHECK(cudaLaunchKernel((const void *)kernel, (dim3){1, 1, 1}, (dim3){1, 1, 1}, arguments, 0, stream));
    }
    CHECK(cudaStreamSynchronize(stream));
    printf("{\"launches\": %d, \"elapsed_ns\": %" PRIu64 "}\n", count, now_ns() - start);
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "memory") == 0)
        return allocate_until_refused(0);
    if (argc > 1 && strcmp(argv[1], "async") == 0)
        return allocate_until_refused(1);
    if (argc > 1 && strcmp(argv[1], "spin") == 0)
        return spin(argc, argv);
    fprintf(stderr, "cudart_client memory | async | spin PTX NS N STEPS_PER_US [graph]\n");
    return 2;
}
