/* Limits of a cgroup on a device's memory: the kernel's wall (walls.h). */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "library.h"
#include "pids.h"
#include "walls.h"

static bool is_admin(void) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
    return syscall(SYS_capget, &header, data) == 0 &&
           data[CAP_TO_INDEX(CAP_SYS_ADMIN)].effective & CAP_TO_MASK(CAP_SYS_ADMIN);
}

/* Whoever may not move processes into the cgroup is not its administrator: root of a container sees the machine's
 * cgroups, if at all, in a mount that is read-only. */
static bool administers(const struct cgroup *cgroup) {
    char procs[CGROUP_PATH + sizeof "/cgroup.procs"];
    snprintf(procs, sizeof procs, "%s/cgroup.procs", cgroup->path);
    return is_admin() && faccessat(AT_FDCWD, procs, W_OK, AT_EACCESS) == 0;
}

static nvmlReturn_t identify(nvmlDevice_t device, const char *name, const struct sim_gpu **ret_gpu,
                             struct cgroup *ret_cgroup) {
    nvmlReturn_t result = nvml_gpu(device, ret_gpu);
    if (result != NVML_SUCCESS)
        return result;
    if (!walls_supported(nvml_self.node))
        return NVML_ERROR_NOT_SUPPORTED;
    if (!name)
        return NVML_ERROR_INVALID_ARGUMENT;
    return cgroup_identify(name, ret_cgroup) == 0 ? NVML_SUCCESS : NVML_ERROR_OPERATING_SYSTEM;
}

static bool enlist(uint64_t pid, void *cgroup) {
    uint64_t own_pid, pid_namespace;
    pid_identify(pid, &own_pid, &pid_namespace);
    walls_enlist(&nvml_self, cgroup, own_pid, pid_namespace);
    return true;
}

/* The processes that hold memory already and may never ask for more. */
static void enlist_all(struct cgroup *cgroup) {
    int directory = cgroup_open(cgroup, NULL);
    if (directory >= 0)
        cgroup_visit(directory, enlist, cgroup);
}

static bool is_a_limit(const struct sim_gpu *gpu, unsigned long long bytes) {
    return bytes == NVML_DEVICE_MEMORY_LIMIT_MAX || bytes <= gpu->memory_bytes + gpu->reserved_bytes;
}

EXPORT nvmlReturn_t nvmlDeviceSetMemoryLimits_v1(nvmlDevice_t device, nvmlSetMemoryLimits_v1_t *limits) {
    const struct sim_gpu *gpu;
    struct cgroup cgroup;
    nvmlReturn_t result = identify(device, limits ? limits->nameSpace : NULL, &gpu, &cgroup);
    if (result != NVML_SUCCESS)
        return result;
    if (limits->softLimit > limits->hardLimit || !is_a_limit(gpu, limits->softLimit) ||
        !is_a_limit(gpu, limits->hardLimit))
        return NVML_ERROR_INVALID_ARGUMENT;
    if (!administers(&cgroup))
        return NVML_ERROR_NO_PERMISSION;
    int error = walls_set(&nvml_self, &cgroup, gpu_index(gpu), limits->softLimit, limits->hardLimit);
    if (error < 0)
        return NVML_ERROR_INSUFFICIENT_RESOURCES;
    enlist_all(&cgroup);
    return NVML_SUCCESS;
}

EXPORT nvmlReturn_t nvmlDeviceGetMemoryLimits_v1(nvmlDevice_t device, nvmlGetMemoryLimits_v1_t *limits) {
    const struct sim_gpu *gpu;
    struct cgroup cgroup;
    nvmlReturn_t result = identify(device, limits ? limits->nameSpace : NULL, &gpu, &cgroup);
    if (result != NVML_SUCCESS)
        return result;
    enlist_all(&cgroup);
    struct wall_limits found;
    if (walls_get(&nvml_self, &cgroup, gpu_index(gpu), &found) < 0)
        return NVML_ERROR_NOT_FOUND;
    limits->softLimit = found.soft_bytes;
    limits->hardLimit = found.hard_bytes;
    limits->currentUsed = found.used_bytes;
    return NVML_SUCCESS;
}
