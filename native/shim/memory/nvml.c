/* What NVML says this process holds: the one truth about contexts and modules, whose size no call returns. */
#include <dlfcn.h>
#include <nvml.h>
#include <unistd.h>

#include "elf.h"
#include "memory/memory.h"

#define PROCESSES_MAX 1024u

static struct {
    __typeof__(&nvmlInit_v2) init;
    __typeof__(&nvmlDeviceGetHandleByUUID) handle_by_uuid;
    __typeof__(&nvmlDeviceGetComputeRunningProcesses_v3) processes;
    __typeof__(&nvmlDeviceGetMemoryInfo) memory;
} nvml;

enum { UNTRIED, READY, ABSENT };
static struct memory_lock lock;
static int state;

/* Opened by us where the program has not: it is asked at the making of contexts, which takes far longer. */
static bool find_library(struct elf_library *ret_library) {
    if (elf_find("libnvidia-ml.so.1", ret_library))
        return true;
    __typeof__(&dlopen) open_library = (__typeof__(&dlopen))elf_libc_symbol("dlopen");
    return open_library && open_library("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL) &&
           elf_find("libnvidia-ml.so.1", ret_library);
}

/* By the library's own symbol table: a lookup by name would find the shim's hooks, which speak of the share. */
static bool load(void) {
    struct elf_library library;
    if (!find_library(&library))
        return false;
    nvml.init = (__typeof__(nvml.init))elf_symbol(&library, "nvmlInit_v2");
    nvml.handle_by_uuid = (__typeof__(nvml.handle_by_uuid))elf_symbol(&library, "nvmlDeviceGetHandleByUUID");
    nvml.processes = (__typeof__(nvml.processes))elf_symbol(&library, "nvmlDeviceGetComputeRunningProcesses_v3");
    nvml.memory = (__typeof__(nvml.memory))elf_symbol(&library, "nvmlDeviceGetMemoryInfo");
    return nvml.memory && nvml.init && nvml.handle_by_uuid && nvml.processes && nvml.init() == NVML_SUCCESS;
}

static bool ready(void) {
    memory_lock_take(&lock);
    if (state == UNTRIED)
        state = load() ? READY : ABSENT;
    bool result = state == READY;
    memory_lock_give(&lock);
    return result;
}

void memory_nvml_forget(void) {
    lock = (struct memory_lock){0};
}

bool memory_nvml_used(const struct memory_gpu *gpu, uint64_t *ret_bytes) {
    static nvmlProcessInfo_t processes[PROCESSES_MAX]; /* too large for a program's small stacks */
    nvmlDevice_t device;
    unsigned count = PROCESSES_MAX;
    bool found = false;
    if (!ready())
        return false;
    memory_lock_take(&lock);
    if (nvml.handle_by_uuid(gpu->tenant->share.grant->gpu_uuid, &device) != NVML_SUCCESS ||
        nvml.processes(device, &count, processes) != NVML_SUCCESS)
        count = 0;
    for (unsigned i = 0; i < count && !found; i++) {
        found = processes[i].pid == (unsigned)getpid() &&
                processes[i].usedGpuMemory != (unsigned long long)NVML_VALUE_NOT_AVAILABLE;
        if (found)
            *ret_bytes = processes[i].usedGpuMemory;
    }
    memory_lock_give(&lock);
    return found;
}

bool memory_nvml_free(const struct memory_gpu *gpu, uint64_t *ret_bytes) {
    nvmlDevice_t device;
    nvmlMemory_t memory;
    if (!ready() || nvml.handle_by_uuid(gpu->tenant->share.grant->gpu_uuid, &device) != NVML_SUCCESS ||
        nvml.memory(device, &memory) != NVML_SUCCESS)
        return false;
    *ret_bytes = memory.free;
    return true;
}
