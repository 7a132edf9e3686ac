#include "nvml/view.h"

#include <pthread.h>

#include "hami.h"

/* Written under the lock by whoever initialises NVML; a program that uses handles from before is wrong anyway. */
static struct {
    pthread_mutex_t lock;
    struct nvml_gpu gpus[TENANT_GPUS_MAX];
    unsigned gpu_count;
    nvmlDevice_t boards[TENANT_GPUS_MAX];
    unsigned board_count;
    atomic_bool active;
} view = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void show_board(nvmlDevice_t board) {
    unsigned index;
    if (!nvml_view_shows(board, &index))
        view.boards[view.board_count++] = board;
}

/* A share whose GPU fell off the bus is not shown; the agent reports it. */
static void find_device(struct tenant_gpu *tenant_gpu) {
    struct nvml_gpu *gpu = &view.gpus[view.gpu_count];
    gpu->tenant = tenant_gpu;
    if (real_nvml.nvmlDeviceGetHandleByUUID(tenant_gpu->share.grant->gpu_uuid, &gpu->device) != NVML_SUCCESS)
        return;
    if (real_nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(gpu->device, &gpu->board) != NVML_SUCCESS)
        gpu->board = gpu->device;
    show_board(gpu->board);
    view.gpu_count++;
}

/* A program that only asks NVML sees the limits of HAMi's variables too. */
static bool open_hami(void) {
    unsigned int count = 0;
    bool opened = hami_prepare() == 0 && real_nvml.nvmlDeviceGetCount_v2(&count) == NVML_SUCCESS;
    for (unsigned int i = 0; opened && i < count; i++) {
        nvmlDevice_t device;
        char uuid[NVML_DEVICE_UUID_V2_BUFFER_SIZE];
        nvmlMemory_t memory;
        opened = real_nvml.nvmlDeviceGetHandleByIndex_v2(i, &device) == NVML_SUCCESS &&
                 real_nvml.nvmlDeviceGetUUID(device, uuid, sizeof uuid) == NVML_SUCCESS &&
                 real_nvml.nvmlDeviceGetMemoryInfo(device, &memory) == NVML_SUCCESS &&
                 hami_open_device(&tenant, i, uuid, memory.total) == 0;
    }
    return opened;
}

nvmlReturn_t nvml_view_open(void) {
    if (tenant_open() != 0 || (tenant.gpu_count == 0 && hami_requested() && !open_hami()))
        return NVML_ERROR_OPERATING_SYSTEM;
    pthread_mutex_lock(&view.lock);
    view.gpu_count = view.board_count = 0;
    for (unsigned i = 0; i < tenant.gpu_count; i++)
        find_device(&tenant.gpus[i]);
    atomic_store_explicit(&view.active, tenant.gpu_count != 0, memory_order_release); /* after the lists it guards */
    pthread_mutex_unlock(&view.lock);
    return NVML_SUCCESS;
}

bool nvml_view_active(void) {
    return atomic_load_explicit(&view.active, memory_order_acquire);
}

struct nvml_gpu *nvml_view_gpu(nvmlDevice_t device) {
    for (unsigned i = 0; nvml_view_active() && i < view.gpu_count; i++)
        if (view.gpus[i].device == device)
            return &view.gpus[i];
    return NULL;
}

unsigned nvml_view_count(void) {
    return view.board_count;
}

nvmlDevice_t nvml_view_board(unsigned index) {
    return view.boards[index];
}

bool nvml_view_shows(nvmlDevice_t device, unsigned *ret_index) {
    for (*ret_index = 0; *ret_index < view.board_count; ++*ret_index)
        if (view.boards[*ret_index] == device)
            return true;
    *ret_index = 0;
    return nvml_view_gpu(device) != NULL;
}

unsigned nvml_view_filter(nvmlDevice_t *devices, unsigned count) {
    unsigned kept = 0, index;
    for (unsigned i = 0; i < count; i++)
        if (nvml_view_shows(devices[i], &index))
            devices[kept++] = devices[i];
    return kept;
}
