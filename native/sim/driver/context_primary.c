/* Primary contexts: one a device, counted. */
#include "context.h"

static struct {
    struct context *context; /* NULL: not active */
    unsigned count, flags;
} primaries[DEVICES_MAX];

/* Making and ending one waits in the engine, so it cannot be done under driver_lock. */
static pthread_mutex_t primary_lock = PTHREAD_MUTEX_INITIALIZER;

static CUresult check(CUdevice device) {
    CUresult result = require_init();
    if (!result && device_gpu(device) < 0)
        result = CUDA_ERROR_INVALID_DEVICE;
    return result;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *handle, CUdevice device) {
    CUresult result = check(device);
    if (result)
        return result;
    if (!handle)
        return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&primary_lock);
    if (!primaries[device].context)
        result = context_new(device, primaries[device].flags, true, &primaries[device].context);
    if (!result) {
        primaries[device].count++;
        *handle = (CUcontext)primaries[device].context;
    }
    pthread_mutex_unlock(&primary_lock);
    return result;
}

static void end(CUdevice device) {
    if (primaries[device].context)
        context_end(primaries[device].context);
    primaries[device].context = NULL;
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
    CUresult result = check(device);
    if (result)
        return result;
    pthread_mutex_lock(&primary_lock);
    if (!primaries[device].count)
        result = CUDA_ERROR_INVALID_CONTEXT;
    else if (--primaries[device].count == 0)
        end(device);
    pthread_mutex_unlock(&primary_lock);
    return result;
}
CUresult cuDevicePrimaryCtxRelease(CUdevice device) {
    return cuDevicePrimaryCtxRelease_v2(device);
}

CUresult cuDevicePrimaryCtxReset_v2(CUdevice device) {
    CUresult result = check(device);
    if (result)
        return result;
    pthread_mutex_lock(&primary_lock);
    end(device);
    primaries[device].count = 0;
    primaries[device].flags = 0;
    pthread_mutex_unlock(&primary_lock);
    return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxReset(CUdevice device) {
    return cuDevicePrimaryCtxReset_v2(device);
}

CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice device, unsigned flags) {
    CUresult result = check(device);
    if (result)
        return result;
    if (flags & ~(unsigned)CU_CTX_FLAGS_MASK)
        return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&primary_lock);
    primaries[device].flags = flags;
    if (primaries[device].context)
        primaries[device].context->flags = flags;
    pthread_mutex_unlock(&primary_lock);
    return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxSetFlags(CUdevice device, unsigned flags) {
    return cuDevicePrimaryCtxSetFlags_v2(device, flags);
}

CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active) {
    CUresult result = check(device);
    if (result)
        return result;
    if (!flags || !active)
        return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&primary_lock);
    *flags = primaries[device].flags;
    *active = primaries[device].context != NULL;
    pthread_mutex_unlock(&primary_lock);
    return CUDA_SUCCESS;
}
