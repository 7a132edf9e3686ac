/* Hooks: kernels and graphs. */
#include "memory/memory.h"
#include "pacing/pacing.h"

/* The shape of a launch: the same kernel takes another time on another grid. */
static inline uint64_t shape(uint64_t x, uint64_t y, uint64_t z, uint64_t block_x, uint64_t block_y, uint64_t block_z) {
    return x * y * z * 1031 + block_x * block_y * block_z;
}

#define LAUNCH_PARAMETERS                                                                                              \
    (CUfunction f, unsigned int gridDimX, unsigned int gridDimY, unsigned int gridDimZ, unsigned int blockDimX,        \
     unsigned int blockDimY, unsigned int blockDimZ, unsigned int sharedMemBytes, CUstream hStream,                    \
     void **kernelParams, void **extra)
#define COOPERATIVE_PARAMETERS                                                                                         \
    (CUfunction f, unsigned int gridDimX, unsigned int gridDimY, unsigned int gridDimZ, unsigned int blockDimX,        \
     unsigned int blockDimY, unsigned int blockDimZ, unsigned int sharedMemBytes, CUstream hStream,                    \
     void **kernelParams)
#define LAUNCH(symbol, parameters, meaning, ...)                                                                       \
    CUresult symbol parameters {                                                                                       \
        struct pacing_work work;                                                                                       \
        pacing_begin(&work, hStream, meaning,                                                                          \
                     pacing_key(f, shape(gridDimX, gridDimY, gridDimZ, blockDimX, blockDimY, blockDimZ)));             \
        return pacing_end(&work, real.symbol(f, gridDimX, gridDimY, gridDimZ, blockDimX, blockDimY, blockDimZ,         \
                                             sharedMemBytes, hStream, __VA_ARGS__));                                   \
    }

LAUNCH(cuLaunchKernel, LAUNCH_PARAMETERS, PACING_LEGACY, kernelParams, extra)
LAUNCH(cuLaunchKernel_ptsz, LAUNCH_PARAMETERS, PACING_PER_THREAD, kernelParams, extra)
LAUNCH(cuLaunchCooperativeKernel, COOPERATIVE_PARAMETERS, PACING_LEGACY, kernelParams)
LAUNCH(cuLaunchCooperativeKernel_ptsz, COOPERATIVE_PARAMETERS, PACING_PER_THREAD, kernelParams)

static bool overlaps(const CUlaunchConfig *config) {
    for (unsigned i = 0; i < config->numAttrs; i++) {
        const CUlaunchAttribute *attribute = &config->attrs[i];
        if (attribute->id == CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION &&
            attribute->value.programmaticStreamSerializationAllowed)
            return true;
        if (attribute->id == CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT)
            return true;
    }
    return false;
}

static CUresult launch_ex(const CUlaunchConfig *config, CUfunction f, void **parameters, void **extra,
                          enum pacing_default meaning,
                          CUresult (*launch)(const CUlaunchConfig *, CUfunction, void **, void **)) {
    struct pacing_work work;
    if (!config)
        return launch(config, f, parameters, extra);
    uint64_t key = pacing_key(f, shape(config->gridDimX, config->gridDimY, config->gridDimZ, config->blockDimX,
                                       config->blockDimY, config->blockDimZ));
    if (overlaps(config))
        pacing_begin_overlapping(&work, config->hStream, meaning, key);
    else
        pacing_begin(&work, config->hStream, meaning, key);
    return pacing_end(&work, launch(config, f, parameters, extra));
}

CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction f, void **kernelParams, void **extra) {
    return launch_ex(config, f, kernelParams, extra, PACING_LEGACY, real.cuLaunchKernelEx);
}

CUresult cuLaunchKernelEx_ptsz(const CUlaunchConfig *config, CUfunction f, void **kernelParams, void **extra) {
    return launch_ex(config, f, kernelParams, extra, PACING_PER_THREAD, real.cuLaunchKernelEx_ptsz);
}

/* One launch on each of several GPUs, whose contexts are those of the streams: each is a piece of work of its own. */
CUresult cuLaunchCooperativeKernelMultiDevice(CUDA_LAUNCH_PARAMS *launchParamsList, unsigned int numDevices,
                                              unsigned int flags) {
    struct pacing_work works[TENANT_GPUS_MAX];
    unsigned paced = launchParamsList && numDevices <= TENANT_GPUS_MAX ? numDevices : 0;
    for (unsigned i = 0; i < paced; i++) {
        const CUDA_LAUNCH_PARAMS *launch = &launchParamsList[i];
        CUcontext context = NULL;
        works[i] = (struct pacing_work){0};
        if (real.cuStreamGetCtx(launch->hStream, &context) != CUDA_SUCCESS ||
            real.cuCtxPushCurrent_v2(context) != CUDA_SUCCESS)
            continue;
        pacing_begin(&works[i], launch->hStream, PACING_LEGACY,
                     pacing_key(launch->function, shape(launch->gridDimX, launch->gridDimY, launch->gridDimZ,
                                                        launch->blockDimX, launch->blockDimY, launch->blockDimZ)));
        real.cuCtxPopCurrent_v2(&context);
    }
    CUresult result = real.cuLaunchCooperativeKernelMultiDevice(launchParamsList, numDevices, flags);
    for (unsigned i = 0; i < paced; i++)
        pacing_end(&works[i], result);
    return result;
}

/* The oldest launches: the block is the function's, set before. */
CUresult cuLaunch(CUfunction f) {
    struct pacing_work work;
    pacing_begin(&work, NULL, PACING_LEGACY, pacing_key(f, 1));
    return pacing_end(&work, real.cuLaunch(f));
}

CUresult cuLaunchGrid(CUfunction f, int grid_width, int grid_height) {
    struct pacing_work work;
    pacing_begin(&work, NULL, PACING_LEGACY, pacing_key(f, (uint64_t)grid_width * (uint64_t)grid_height));
    return pacing_end(&work, real.cuLaunchGrid(f, grid_width, grid_height));
}

CUresult cuLaunchGridAsync(CUfunction f, int grid_width, int grid_height, CUstream hStream) {
    struct pacing_work work;
    pacing_begin(&work, hStream, PACING_LEGACY, pacing_key(f, (uint64_t)grid_width * (uint64_t)grid_height));
    return pacing_end(&work, real.cuLaunchGridAsync(f, grid_width, grid_height, hStream));
}
