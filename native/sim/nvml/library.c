/* Beginning, ending, versions, errors; and what the other files stand on. */
#include "library.h"

#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "blocks.h"
#include "faults.h"
#include "given.h"
#include "timeline.h"

struct member nvml_self;
struct listed listed;

static pthread_mutex_t changing = PTHREAD_MUTEX_INITIALIZER;
static _Atomic unsigned users;
/* A page that a forked child sees zeroed: 1 while this process, not its parent, is in the node. */
static _Atomic unsigned char *joined;

static nvmlReturn_t join(void) {
    const char *directory = secure_getenv("GPUSLICE_SIM_NODE");
    if (!directory || !*directory)
        return NVML_ERROR_DRIVER_NOT_LOADED;
    if (!joined) {
        size_t size = (size_t)sysconf(_SC_PAGESIZE);
        void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (page == MAP_FAILED)
            return NVML_ERROR_MEMORY;
        madvise(page, size, MADV_WIPEONFORK);
        joined = page;
    }
    if (atomic_load_explicit(joined, memory_order_relaxed))
        return NVML_SUCCESS;
    /* In a child the parent's mapping is there already, and handles are addresses in it: it stays, with a place of
     * the child's own. */
    struct node_file *inherited = nvml_self.node;
    struct member member;
    if (member_join(directory, true, &member) < 0)
        return NVML_ERROR_DRIVER_NOT_LOADED;
    if (inherited) {
        munmap(member.node, sizeof *member.node);
        member.node = inherited;
    }
    nvml_self = member;
    atomic_store_explicit(joined, 1, memory_order_release); /* after the place it stands for */
    return NVML_SUCCESS;
}

/* Which GPUs there are is found out at the first init; later ones are numbered as they were then. */
static void list_gpus(void) {
    unsigned given[SIM_GPUS_MAX], count = gpus_given(nvml_self.node->info.gpu_count, given);
    listed.count = 0;
    for (unsigned i = 0; i < count; i++)
        if (fault_condition(nvml_self.node, given[i]) != FAULT_MISSING)
            listed.gpus[listed.count++] = given[i];
}

static nvmlReturn_t init(void) {
    pthread_mutex_lock(&changing);
    nvmlReturn_t result = join();
    if (result == NVML_SUCCESS && users++ == 0)
        list_gpus();
    pthread_mutex_unlock(&changing);
    return result;
}

EXPORT nvmlReturn_t nvmlInit(void) {
    return init();
}

EXPORT nvmlReturn_t nvmlInit_v2(void) {
    return init();
}

EXPORT nvmlReturn_t nvmlInitWithFlags(unsigned int flags) {
    (void)flags; /* what to do without GPUs or without attaching to them: nothing differs here */
    return init();
}

/* The place in the node is kept for the next init: a process has one for as long as it lives. */
EXPORT nvmlReturn_t nvmlShutdown(void) {
    pthread_mutex_lock(&changing);
    nvmlReturn_t result = users > 0 ? NVML_SUCCESS : NVML_ERROR_UNINITIALIZED;
    if (users > 0)
        users--;
    pthread_mutex_unlock(&changing);
    return result;
}

nvmlReturn_t nvml_ready(void) {
    if (atomic_load_explicit(&users, memory_order_relaxed) == 0)
        return NVML_ERROR_UNINITIALIZED;
    if (atomic_load_explicit(joined, memory_order_acquire))
        return NVML_SUCCESS;
    pthread_mutex_lock(&changing);
    nvmlReturn_t result = join();
    pthread_mutex_unlock(&changing);
    return result;
}

/* What every symbol does that is not modelled. */
nvmlReturn_t nvml_stub(void) {
    nvmlReturn_t result = nvml_ready();
    return result == NVML_SUCCESS ? NVML_ERROR_NOT_SUPPORTED : result;
}

/* A GPU that hangs keeps its callers until it answers again. */
static nvmlReturn_t reach(unsigned gpu) {
    while (fault_condition(nvml_self.node, gpu) == FAULT_HUNG)
        fault_hang(nvml_self.node, gpu);
    return fault_condition(nvml_self.node, gpu) == FAULT_NONE ? NVML_SUCCESS : NVML_ERROR_GPU_IS_LOST;
}

nvmlReturn_t nvml_gpu(nvmlDevice_t device, const struct sim_gpu **ret_gpu) {
    nvmlReturn_t result = nvml_ready();
    if (result != NVML_SUCCESS)
        return result;
    for (unsigned i = 0; i < nvml_self.node->info.gpu_count; i++) {
        if (device == gpu_handle(i)) {
            *ret_gpu = &nvml_self.node->gpus[i];
            return reach(i);
        }
    }
    return NVML_ERROR_INVALID_ARGUMENT;
}

struct node_fault gpu_fault(const struct sim_gpu *gpu) {
    node_lock(&nvml_self);
    struct node_fault fault = nvml_self.node->faults[gpu_index(gpu)];
    node_unlock(&nvml_self);
    return fault;
}

/* Where in the node file's table of instances an address is. */
static bool place_of(const void *address, struct mig_place *ret_place) {
    const struct node_file *node = nvml_self.node;
    size_t offset = (size_t)((const char *)address - (const char *)node->mig);
    if ((const char *)address < (const char *)node->mig || offset >= sizeof node->mig)
        return false;
    ret_place->gpu = (unsigned)(offset / sizeof node->mig[0]);
    offset %= sizeof node->mig[0];
    const size_t first = offsetof(struct node_mig, instances);
    if (offset < first)
        return false;
    ret_place->gpu_instance = (unsigned)((offset - first) / sizeof(struct node_gpu_instance));
    offset = (offset - first) % sizeof(struct node_gpu_instance);
    const size_t computes = offsetof(struct node_gpu_instance, compute);
    if (offset < computes)
        return false;
    ret_place->compute_instance = (unsigned)((offset - computes) / sizeof(struct node_compute_instance));
    return address == (const void *)instance_handle(*ret_place);
}

nvmlReturn_t nvml_instance(nvmlDevice_t device, struct mig_place *ret_place) {
    nvmlReturn_t result = nvml_ready();
    if (result != NVML_SUCCESS)
        return result;
    node_lock(&nvml_self);
    bool there = place_of(device, ret_place) && mig_compute_instance(nvml_self.node, *ret_place);
    node_unlock(&nvml_self);
    return there ? NVML_SUCCESS : NVML_ERROR_INVALID_ARGUMENT;
}

nvmlReturn_t nvml_target(nvmlDevice_t device, struct target *ret_target) {
    nvmlReturn_t result = nvml_instance(device, &ret_target->place);
    ret_target->is_instance = result == NVML_SUCCESS;
    if (!ret_target->is_instance)
        return nvml_gpu(device, &ret_target->gpu);
    return nvml_gpu(gpu_handle(ret_target->place.gpu), &ret_target->gpu);
}

struct sim_gpu instance_view(struct mig_place place) {
    node_lock(&nvml_self);
    struct sim_gpu view =
        mig_compute_instance(nvml_self.node, place) ? mig_view(nvml_self.node, place) : nvml_self.node->gpus[place.gpu];
    node_unlock(&nvml_self);
    return view;
}

nvmlReturn_t nvml_text(const char *text, char *buffer, unsigned length) {
    if (!buffer)
        return NVML_ERROR_INVALID_ARGUMENT;
    size_t bytes = strlen(text) + 1;
    if (bytes > length)
        return NVML_ERROR_INSUFFICIENT_SIZE;
    memcpy(buffer, text, bytes);
    return NVML_SUCCESS;
}

struct gpu_moment gpu_moment(const struct sim_gpu *gpu) {
    struct node_file *node = nvml_self.node;
    const struct node_gpu_state *state = &node->gpu_states[gpu_index(gpu)];
    struct gpu_moment moment;
    node_lock(&nvml_self);
    reap_dead(&nvml_self);
    timeline_advance(node, now_ns());
    moment.now_ns = node->timeline.now_ns;
    moment.busy = timeline_rate(&state->meter, moment.now_ns, state->busy, 1);
    moment.busy_ns = state->busy;
    moment.used_bytes = state->used_blocks << BLOCK_SHIFT;
    node_unlock(&nvml_self);
    return moment;
}

static nvmlReturn_t node_text(const char *text, char *buffer, unsigned length) {
    nvmlReturn_t result = nvml_ready();
    return result != NVML_SUCCESS ? result : nvml_text(text, buffer, length);
}

EXPORT nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned int length) {
    return node_text(nvml_self.node ? nvml_self.node->info.driver_version : "", version, length);
}

EXPORT nvmlReturn_t nvmlSystemGetNVMLVersion(char *version, unsigned int length) {
    return node_text(nvml_self.node ? nvml_self.node->info.nvml_version : "", version, length);
}

/* NVML answers this one uninitialised as well. */
static nvmlReturn_t cuda_version(int *ret_version) {
    if (!ret_version)
        return NVML_ERROR_INVALID_ARGUMENT;
    pthread_mutex_lock(&changing);
    nvmlReturn_t result = join();
    pthread_mutex_unlock(&changing);
    if (result == NVML_SUCCESS)
        *ret_version = (int)nvml_self.node->info.cuda_version;
    return result;
}

EXPORT nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *version) {
    return cuda_version(version);
}

EXPORT nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *version) {
    return cuda_version(version);
}

EXPORT nvmlReturn_t nvmlSystemGetDriverBranch(nvmlSystemDriverBranchInfo_t *info, unsigned int length) {
    if (!info || info->version != nvmlSystemDriverBranchInfo_v1)
        return info ? NVML_ERROR_ARGUMENT_VERSION_MISMATCH : NVML_ERROR_INVALID_ARGUMENT;
    return node_text("r615_00", info->branch, length < sizeof info->branch ? length : sizeof info->branch);
}

EXPORT const char *nvmlErrorString(nvmlReturn_t result) {
    static const char *const sentences[] = {
        [NVML_SUCCESS] = "Success",
        [NVML_ERROR_UNINITIALIZED] = "Uninitialized",
        [NVML_ERROR_INVALID_ARGUMENT] = "Invalid Argument",
        [NVML_ERROR_NOT_SUPPORTED] = "Not Supported",
        [NVML_ERROR_NO_PERMISSION] = "Insufficient Permissions",
        [NVML_ERROR_ALREADY_INITIALIZED] = "Already Initialized",
        [NVML_ERROR_NOT_FOUND] = "Not Found",
        [NVML_ERROR_INSUFFICIENT_SIZE] = "Insufficient Size",
        [NVML_ERROR_INSUFFICIENT_POWER] = "Insufficient External Power",
        [NVML_ERROR_DRIVER_NOT_LOADED] = "Driver Not Loaded",
        [NVML_ERROR_TIMEOUT] = "Timeout",
        [NVML_ERROR_IRQ_ISSUE] = "Interrupt Request Issue",
        [NVML_ERROR_LIBRARY_NOT_FOUND] = "NVML Shared Library Not Found",
        [NVML_ERROR_FUNCTION_NOT_FOUND] = "Function Not Found",
        [NVML_ERROR_CORRUPTED_INFOROM] = "Corrupted infoROM",
        [NVML_ERROR_GPU_IS_LOST] = "GPU is lost",
        [NVML_ERROR_RESET_REQUIRED] = "GPU requires restart",
        [NVML_ERROR_OPERATING_SYSTEM] = "The operating system has blocked the request.",
        [NVML_ERROR_LIB_RM_VERSION_MISMATCH] = "Driver/library version mismatch",
        [NVML_ERROR_IN_USE] = "In use by another client",
        [NVML_ERROR_MEMORY] = "Insufficient Memory",
        [NVML_ERROR_NO_DATA] = "No data",
        [NVML_ERROR_INSUFFICIENT_RESOURCES] = "Insufficient Resources",
        [NVML_ERROR_FREQ_NOT_SUPPORTED] = "Frequency not supported",
        [NVML_ERROR_ARGUMENT_VERSION_MISMATCH] = "Argument version mismatch",
        [NVML_ERROR_DEPRECATED] = "Deprecated",
        [NVML_ERROR_NOT_READY] = "Not Ready",
        [NVML_ERROR_GPU_NOT_FOUND] = "No GPUs were found",
        [NVML_ERROR_INVALID_STATE] = "Invalid state",
    };
    if ((unsigned)result < sizeof sentences / sizeof sentences[0] && sentences[result])
        return sentences[result];
    return "Unknown Error";
}
