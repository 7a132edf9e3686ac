#include "tenant.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "environment.h"
#include "hami.h"
#include "shares.h"
#include "uuid.h"
#include "visibility.h"

struct tenant tenant;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* over opening and initialising, never on a fast path */
static bool opened, shares_given, initialised;
static struct tenant_gpu *by_device[TENANT_GPUS_MAX];

void tenant_complain(const char *format, ...) {
    static atomic_flag said = ATOMIC_FLAG_INIT; /* programs try cuInit and nvmlInit several times */
    char line[1024];
    if (atomic_flag_test_and_set_explicit(&said, memory_order_relaxed))
        return;
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    if (length > 0)
        dprintf(STDERR_FILENO, "gpuslice: %s\n", line);
}

struct tenant_gpu *tenant_gpu(CUdevice device) {
    return device >= 0 && device < TENANT_GPUS_MAX ? by_device[device] : NULL;
}

struct tenant_gpu *tenant_current(void) {
    CUdevice device;
    if (!tenant_active() || real.cuCtxGetDevice(&device) != CUDA_SUCCESS)
        return NULL;
    return tenant_gpu(device);
}

/* Another thread may have been in cuInit when this process was forked off. */
static void unlock_in_child(void) {
    pthread_mutex_init(&lock, NULL);
}

/* pthread_atfork lives in a library of its own before glibc 2.34; this is what it calls, in libc since 2.3.2. */
extern int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *dso);
extern void *__dso_handle __attribute__((visibility("hidden")));

static int open_locked(void) {
    if (opened)
        return 0;
    int error = shares_open(&tenant);
    if (error)
        return error;
    __register_atfork(NULL, NULL, unlock_in_child, &__dso_handle);
    shares_given = tenant.gpu_count != 0;
    opened = true;
    return 0;
}

int tenant_open(void) {
    pthread_mutex_lock(&lock);
    int error = open_locked();
    pthread_mutex_unlock(&lock);
    return error;
}

static int claim_slots(void) {
    for (unsigned i = 0; i < tenant.gpu_count; i++) {
        const char *reason = "";
        int error = gpuslice_slot_claim(&tenant.gpus[i].share, &reason);
        if (error) {
            tenant_complain("%s", reason);
            return error;
        }
    }
    return 0;
}

static struct tenant_gpu *find_uuid(const char *uuid) {
    for (unsigned i = 0; i < tenant.gpu_count; i++)
        if (uuid_equal(tenant.gpus[i].share.grant->gpu_uuid, uuid))
            return &tenant.gpus[i];
    return NULL;
}

static CUresult read_uuid(CUdevice device, char uuid[UUID_TEXT_BYTES]) {
    CUuuid bytes; /* only the newer call tells MIG devices apart */
    CUresult result =
        DRIVER_HAS(cuDeviceGetUuid_v2) ? real.cuDeviceGetUuid_v2(&bytes, device) : real.cuDeviceGetUuid(&bytes, device);
    if (result == CUDA_SUCCESS)
        uuid_format(&bytes, uuid);
    return result;
}

/* Gives each device that CUDA shows its share. Every one has one: visibility_narrow() named no other. */
static CUresult match_devices(void) {
    int count = 0;
    CUresult result = real.cuDeviceGetCount(&count);
    for (int ordinal = 0; result == CUDA_SUCCESS && ordinal < count; ordinal++) {
        CUdevice device;
        char uuid[UUID_TEXT_BYTES];
        result = real.cuDeviceGet(&device, ordinal);
        if (result == CUDA_SUCCESS)
            result = read_uuid(device, uuid);
        if (result != CUDA_SUCCESS)
            return result;
        struct tenant_gpu *gpu = find_uuid(uuid);
        if (!gpu || device < 0 || device >= TENANT_GPUS_MAX) {
            tenant_complain("the driver shows GPU %s, of which this process has no share", uuid);
            return CUDA_ERROR_OPERATING_SYSTEM;
        }
        gpu->device = device;
        by_device[device] = gpu;
    }
    return result;
}

static CUresult start(void) {
    CUresult result = match_devices();
    if (result != CUDA_SUCCESS)
        return result;
    memory_start();
    pacing_start();
    initialised = true;
    /* Release: a hook that sees it also sees the devices matched above. */
    atomic_store_explicit(&tenant.active, true, memory_order_release);
    return CUDA_SUCCESS;
}

static CUresult init_shares(unsigned int flags) {
    struct environment change;
    if (!visibility_narrow(&change, &tenant))
        return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult result = real.cuInit(flags);
    environment_restore(&change);
    return result == CUDA_SUCCESS ? start() : result;
}

/* HAMi's variables speak of the devices that the program sees, and which those are only the driver knows. */
static CUresult init_hami(unsigned int flags) {
    int count = 0;
    if (hami_prepare() != 0)
        return CUDA_ERROR_OPERATING_SYSTEM;
    CUresult result = real.cuInit(flags);
    if (result == CUDA_SUCCESS)
        result = real.cuDeviceGetCount(&count);
    for (int ordinal = 0; result == CUDA_SUCCESS && ordinal < count; ordinal++) {
        CUdevice device;
        char uuid[UUID_TEXT_BYTES];
        size_t total_bytes;
        result = real.cuDeviceGet(&device, ordinal);
        if (result == CUDA_SUCCESS)
            result = read_uuid(device, uuid);
        if (result == CUDA_SUCCESS)
            result = real.cuDeviceTotalMem_v2(&total_bytes, device);
        if (result == CUDA_SUCCESS && hami_open_device(&tenant, (unsigned)ordinal, uuid, total_bytes) != 0)
            result = CUDA_ERROR_OPERATING_SYSTEM;
    }
    return result == CUDA_SUCCESS ? start() : result;
}

static CUresult init_locked(unsigned int flags) {
    /* Before the driver: what fails here leaves a driver that refuses everything, not one without limits. */
    if (open_locked() != 0 || claim_slots() != 0)
        return CUDA_ERROR_OPERATING_SYSTEM;
    if (initialised)
        return real.cuInit(flags);
    if (!shares_given && hami_requested())
        return init_hami(flags);
    return shares_given ? init_shares(flags) : real.cuInit(flags);
}

CUresult tenant_init(unsigned int flags) {
    pthread_mutex_lock(&lock);
    CUresult result = init_locked(flags);
    pthread_mutex_unlock(&lock);
    return result;
}
