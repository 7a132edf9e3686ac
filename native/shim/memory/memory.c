/* What every memory hook stands on: which share, reserve with a second try, and what cuMemGetInfo says. */
#include "memory/memory.h"

#define BYTES_MAX (UINT64_C(1) << 42) /* no card has that much; above it sums could overflow */
#define CLOSE_BYTES (UINT64_C(64) << 20)

static struct memory_gpu gpus[TENANT_GPUS_MAX]; /* by CUDA ordinal */
static CUdevice gpu_count;
/* Grows whenever a context is made or destroyed: a new one can have the address of an old one on another GPU. */
static _Atomic uint32_t contexts_generation = 1;

/* See tenant.c: pthread_atfork is not in libc before glibc 2.34. */
extern int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *dso);
extern void *__dso_handle __attribute__((visibility("hidden")));

/* A forked child holds nothing, and a lock that another thread of its parent held would never be given back. */
static void forget_parent(void) {
    for (CUdevice device = 0; device < gpu_count; device++)
        gpus[device] = (struct memory_gpu){.tenant = gpus[device].tenant, .device = device};
    memory_forget_contexts();
    memory_linear_forget();
    memory_free_forget();
    memory_contexts_forget();
    memory_pools_forget();
    memory_physical_forget();
    memory_graph_forget();
    memory_nvml_forget();
}

void memory_start(void) {
    int devices = 0;
    if (real.cuDeviceGetCount(&devices) != CUDA_SUCCESS)
        return;
    gpu_count = devices < TENANT_GPUS_MAX ? devices : TENANT_GPUS_MAX;
    for (CUdevice device = 0; device < gpu_count; device++) {
        gpus[device].tenant = tenant_gpu(device);
        gpus[device].device = device;
    }
    __register_atfork(NULL, NULL, forget_parent, &__dso_handle);
}

struct memory_gpu *memory_gpu(CUdevice device) {
    if (device < 0 || device >= gpu_count || !gpus[device].tenant)
        return NULL;
    return &gpus[device];
}

struct memory_gpu *memory_gpu_at(const CUmemLocation *location) {
    if (location->type == CU_MEM_LOCATION_TYPE_DEVICE)
        return memory_gpu(location->id);
    if (location->type == CU_MEM_LOCATION_TYPE_DEVICE_LOCALITY_DOMAIN)
        return memory_gpu(location->localized.deviceId);
    return NULL;
}

void memory_each_gpu(void (*visit)(struct memory_gpu *gpu, void *argument), void *argument) {
    for (CUdevice device = 0; device < gpu_count; device++)
        if (gpus[device].tenant)
            visit(&gpus[device], argument);
}

void memory_forget_contexts(void) {
    /* Relaxed: whoever uses a context that another thread makes has ordered itself after that. */
    atomic_fetch_add_explicit(&contexts_generation, 1, memory_order_relaxed);
}

struct memory_gpu *memory_current(CUcontext *ret_context) {
    static _Thread_local struct {
        CUcontext context;
        struct memory_gpu *gpu;
        uint32_t generation;
    } last;

    CUcontext context = NULL;
    if (!tenant_active() || real.cuCtxGetCurrent(&context) != CUDA_SUCCESS || !context)
        return NULL;
    *ret_context = context;
    uint32_t generation = atomic_load_explicit(&contexts_generation, memory_order_relaxed);
    if (last.context == context && last.generation == generation)
        return last.gpu;
    CUdevice device;
    if (real.cuCtxGetDevice(&device) != CUDA_SUCCESS)
        return NULL;
    last.context = context;
    last.gpu = memory_gpu(device);
    last.generation = generation;
    return last.gpu;
}

void memory_begin(struct memory_gpu *gpu) {
    for (;;) {
        /* Sequentially consistent with close_gate(): one of us sees the other. */
        atomic_fetch_add(&gpu->begun, 1);
        if (__builtin_expect(atomic_load(&gpu->gate) == 0, 1))
            return;
        memory_end(gpu);
        syscall(SYS_futex, &gpu->gate, FUTEX_WAIT_PRIVATE, 1, NULL, NULL, 0);
    }
}

void memory_end(struct memory_gpu *gpu) {
    /* Release: who finds begun equal to ended sees everything that the ended calls did. */
    atomic_fetch_add_explicit(&gpu->ended, 1, memory_order_release);
}

void memory_open_gate(struct memory_gpu *gpu) {
    atomic_store(&gpu->gate, 0);
    syscall(SYS_futex, &gpu->gate, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

uint64_t memory_blocks(uint64_t bytes) {
    return bytes > BYTES_MAX ? UINT64_MAX : (bytes + MEMORY_BLOCK - 1) & ~(MEMORY_BLOCK - 1);
}

static bool reserve_once(struct memory_gpu *gpu, uint64_t bytes, enum gpuslice_memory_kind kind) {
    return gpuslice_reserve(&gpu->tenant->share, bytes, kind) == 0;
}

/* What gives memory back, cheapest first: often the account is only behind (a pool has shrunk unseen). False: there
 * is no such step. */
static bool take_step(struct memory_gpu *gpu, unsigned step) {
    switch (step) {
    case 0:
        memory_pools_settle(gpu);
        return true;
    case 1:
        memory_graph_settle(gpu);
        return true;
    case 2:
        memory_queued_settle(gpu);
        return true;
    case 3:
        memory_pools_trim(gpu);
        return true;
    case 4:
        memory_graph_trim(gpu);
        return true;
    case 5:
        memory_overhead_refresh(gpu);
        return true;
    default:
        return false;
    }
}

/* Some of the calls that these steps make are forbidden to a thread that captures, unless it says that it knows. */
static CUstreamCaptureMode relax(CUstreamCaptureMode mode) {
    real.cuThreadExchangeStreamCaptureMode(&mode);
    return mode;
}

static bool reserve_again(struct memory_gpu *gpu, uint64_t bytes, enum gpuslice_memory_kind kind) {
    CUstreamCaptureMode mode = relax(CU_STREAM_CAPTURE_MODE_RELAXED);
    bool fits = false;
    for (unsigned step = 0; !fits; step++) {
        memory_end(gpu); /* nothing is reserved yet, so we need not hold up a look at NVML: it may be our own */
        bool more = take_step(gpu, step);
        memory_begin(gpu);
        if (!more)
            break;
        fits = reserve_once(gpu, bytes, kind);
    }
    relax(mode);
    return fits;
}

static uint64_t limit_of(const struct memory_gpu *gpu) {
    struct gpuslice_limits limits;
    return gpuslice_limits_read(gpu->tenant->share.grant, &limits) ? limits.memory_bytes : 0;
}

/* What overhead may have grown by unseen since the last look could then exceed the limit. */
static bool is_close_to_limit(const struct memory_gpu *gpu, uint64_t bytes) {
    return gpuslice_total_bytes(&gpu->tenant->share) + bytes + CLOSE_BYTES > limit_of(gpu);
}

bool memory_reserve(struct memory_gpu *gpu, uint64_t bytes, enum gpuslice_memory_kind kind) {
    if (bytes > BYTES_MAX)
        return false;
    if (memory_overhead_is_due(gpu, is_close_to_limit(gpu, bytes))) {
        memory_end(gpu);
        memory_overhead_refresh(gpu);
        memory_begin(gpu);
    }
    return reserve_once(gpu, bytes, kind) || reserve_again(gpu, bytes, kind);
}

void memory_give_back(struct memory_gpu *gpu) {
    CUstreamCaptureMode mode = relax(CU_STREAM_CAPTURE_MODE_RELAXED);
    for (unsigned step = 0; take_step(gpu, step); step++)
        continue;
    relax(mode);
}

static void settle_shrinking(struct memory_gpu *gpu, void *unused) {
    (void)unused;
    memory_pools_settle(gpu);
    memory_graph_settle(gpu);
}

void memory_settle_shrinking(void) {
    memory_each_gpu(settle_shrinking, NULL);
}

void memory_charge(struct memory_gpu *gpu, uint64_t bytes, enum gpuslice_memory_kind kind) {
    if (bytes)
        gpuslice_charge(&gpu->tenant->share, bytes, kind);
}

void memory_refund(struct memory_gpu *gpu, uint64_t bytes, enum gpuslice_memory_kind kind) {
    if (bytes)
        gpuslice_refund(&gpu->tenant->share, bytes, kind);
}

void memory_adjust(struct memory_gpu *gpu, uint64_t reserved, uint64_t taken, enum gpuslice_memory_kind kind) {
    if (taken > reserved)
        memory_charge(gpu, taken - reserved, kind);
    else
        memory_refund(gpu, reserved - taken, kind);
}

bool memory_is_over(const struct memory_gpu *gpu) {
    return gpuslice_total_bytes(&gpu->tenant->share) > limit_of(gpu);
}

/* What the share can still take. Everything that can have shrunk unseen is looked at first, so that what is called
 * free is what an allocation finds. */
static uint64_t free_of(struct memory_gpu *gpu) {
    CUstreamCaptureMode mode = relax(CU_STREAM_CAPTURE_MODE_RELAXED);
    memory_pools_settle(gpu);
    memory_graph_settle(gpu);
    memory_queued_settle(gpu);
    memory_overhead_refresh(gpu);
    relax(mode);
    gpuslice_reap(&gpu->tenant->share);
    uint64_t limit = limit_of(gpu), total = gpuslice_total_bytes(&gpu->tenant->share);
    /* Whole blocks: half a block that is left can not be allocated. */
    return total < limit ? (limit - total) & ~(MEMORY_BLOCK - 1) : 0;
}

CUresult cuMemGetInfo_v2(size_t *free, size_t *total) {
    CUcontext context;
    struct memory_gpu *gpu = memory_current(&context);
    if (!gpu)
        return real.cuMemGetInfo_v2(free, total);
    uint64_t rest = free_of(gpu);
    CUresult result = real.cuMemGetInfo_v2(free, total);
    if (result == CUDA_SUCCESS && free && rest < *free)
        *free = rest;
    if (result == CUDA_SUCCESS && total)
        *total = limit_of(gpu);
    return result;
}

/* The first ABI counts in 32 bits. */
static unsigned int narrow(size_t bytes) {
    return bytes > UINT32_MAX ? UINT32_MAX : (unsigned int)bytes;
}

CUresult cuMemGetInfo(unsigned int *free, unsigned int *total) {
    size_t wide_free = 0, wide_total = 0;
    CUcontext context;
    if (!memory_current(&context))
        return real.cuMemGetInfo(free, total);
    CUresult result = cuMemGetInfo_v2(free ? &wide_free : NULL, total ? &wide_total : NULL);
    if (result == CUDA_SUCCESS && free)
        *free = narrow(wide_free);
    if (result == CUDA_SUCCESS && total)
        *total = narrow(wide_total);
    return result;
}
