/* cuInit, versions, and what every call asks first. */
#include <errno.h>
#include <stdlib.h>

#include "sim.h"

pthread_mutex_t driver_lock = PTHREAD_MUTEX_INITIALIZER;

static _Atomic bool initialised;
static _Atomic bool forked; /* as with the real driver, a child of an initialised process has no CUDA until exec */

static void after_fork_in_child(void) {
    pthread_mutex_init(&driver_lock, NULL);
    if (!atomic_load(&initialised))
        return;
    atomic_store(&initialised, false);
    atomic_store(&forked, true);
    context_forget_child();
}

static void before_fork(void) {
    lock_driver();
}
static void after_fork_in_parent(void) {
    unlock_driver();
}

CUresult require_init(void) {
    return atomic_load_explicit(&initialised, memory_order_acquire) ? CUDA_SUCCESS : CUDA_ERROR_NOT_INITIALIZED;
}

CUresult from_errno(int error) {
    switch (-error) {
    case 0:
        return CUDA_SUCCESS;
    case ENOMEM:
        return CUDA_ERROR_OUT_OF_MEMORY;
    case EINVAL:
        return CUDA_ERROR_INVALID_VALUE;
    case ENOENT:
        return CUDA_ERROR_INVALID_VALUE;
    case ENODEV:
        return CUDA_ERROR_NO_DEVICE;
    case EIO: /* what was waited for never ends: a fault (engine_gpu_fault) */
        return CUDA_ERROR_LAUNCH_FAILED;
    case EPROTO:
        return CUDA_ERROR_SYSTEM_DRIVER_MISMATCH;
    default:
        return CUDA_ERROR_OPERATING_SYSTEM;
    }
}

static CUresult initialise(void) {
    int error = engine_attach();
    if (error == -ENOENT)
        return CUDA_ERROR_NO_DEVICE;
    if (error)
        return from_errno(error);
    static bool fork_handled;
    if (!fork_handled && pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child))
        return CUDA_ERROR_OUT_OF_MEMORY;
    fork_handled = true;
    return device_choose_visible();
}

CUresult cuInit(unsigned int flags) {
    if (flags)
        return CUDA_ERROR_INVALID_VALUE;
    if (atomic_load(&forked))
        return CUDA_ERROR_NOT_INITIALIZED;
    lock_driver();
    CUresult result = CUDA_SUCCESS;
    if (!atomic_load(&initialised)) {
        result = initialise();
        /* release: whoever sees it set also sees the list of devices */
        if (!result)
            atomic_store_explicit(&initialised, true, memory_order_release);
    }
    unlock_driver();
    return result;
}

CUresult cuDriverGetVersion(int *version) {
    if (!version)
        return CUDA_ERROR_INVALID_VALUE;
    *version = CUDA_VERSION;
    return CUDA_SUCCESS;
}

/* NVIDIA's private tables are not imitated; see docs/simulated-driver.md. */
CUresult cuGetExportTable(const void **table, const CUuuid *id) {
    if (!table || !id)
        return CUDA_ERROR_INVALID_VALUE;
    *table = NULL;
    return CUDA_ERROR_NOT_FOUND;
}

CUresult cuProfilerStart(void);
CUresult cuProfilerStop(void);
__attribute__((visibility("default"))) CUresult cuProfilerStart(void) {
    struct context *context;
    return current_context(&context);
}
__attribute__((visibility("default"))) CUresult cuProfilerStop(void) {
    struct context *context;
    return current_context(&context);
}
