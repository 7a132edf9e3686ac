#include "processes.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../region/internal.h"
#include "../region/words.h"

static uint64_t own_namespace(void) {
    struct stat status;
    return stat("/proc/self/ns/pid", &status) == 0 ? (uint64_t)status.st_ino : 0;
}

/* The innermost of the pids that /proc/PID/status lists for a process, or 0. */
static uint32_t innermost_pid(const char *pid) {
    char path[64], line[256];
    uint32_t innermost = 0;
    snprintf(path, sizeof path, "/proc/%.20s/status", pid);
    FILE *status = fopen(path, "re");
    while (status && fgets(line, sizeof line, status)) {
        const char *last = strncmp(line, "NSpid:", 6) == 0 ? strrchr(line, '\t') : NULL;
        if (last)
            innermost = (uint32_t)strtoul(last, NULL, 10);
    }
    if (status)
        fclose(status);
    return innermost;
}

static bool is_in_namespace(const char *pid, uint64_t namespace) {
    char path[64];
    struct stat status;
    snprintf(path, sizeof path, "/proc/%.20s/ns/pid", pid);
    return stat(path, &status) == 0 && (uint64_t)status.st_ino == namespace;
}

/* The caller's number of a process of a namespace below its own, or 0: it does not see that process. */
static uint32_t find_pid(uint64_t namespace, uint32_t pid) {
    uint32_t found = 0;
    DIR *proc = opendir("/proc");
    struct dirent *entry;
    while (proc && !found && (entry = readdir(proc)))
        if (isdigit((unsigned char)entry->d_name[0]) && is_in_namespace(entry->d_name, namespace) &&
            innermost_pid(entry->d_name) == pid)
            found = (uint32_t)strtoul(entry->d_name, NULL, 10);
    if (proc)
        closedir(proc);
    return found;
}

/* What a live process holds in this slot, or 0. The lock says who is alive; what the slot says may be left over from
 * a dead process. */
static uint64_t held_bytes(const struct gpuslice_share *share, int usage_fd, uint32_t index) {
    const struct gpuslice_slot *slot = &share->usage->slots[index];
    uint64_t bytes = word_bytes(atomic_load_explicit(&slot->held_word, memory_order_relaxed));
    return bytes && gpuslice_slot_is_held(usage_fd, index) ? bytes : 0;
}

static bool read_slot(const struct gpuslice_share *share, int usage_fd, uint32_t index, uint64_t namespace,
                      struct share_process *ret_process) {
    const struct gpuslice_slot *slot = &share->usage->slots[index];
    uint64_t bytes = held_bytes(share, usage_fd, index);
    /* acquire: the namespace was stored before the pid */
    uint32_t pid = bytes ? atomic_load_explicit(&slot->pid, memory_order_acquire) : 0;
    if (pid && slot->pid_namespace != namespace)
        pid = find_pid(slot->pid_namespace, pid);
    *ret_process = (struct share_process){
        .slot = index,
        .pid = pid,
        .held_bytes = bytes,
        .busy_ns = atomic_load_explicit(&slot->busy_ns, memory_order_relaxed),
    };
    return pid != 0;
}

uint64_t processes_held_bytes(const struct gpuslice_share *share) {
    uint64_t bytes = 0;
    int usage_fd = region_open_usage(share, O_RDONLY);
    if (usage_fd < 0)
        return gpuslice_total_bytes(share);
    for (uint32_t index = 0; index < GPUSLICE_SLOTS; index++)
        bytes += held_bytes(share, usage_fd, index);
    close(usage_fd);
    return bytes;
}

unsigned processes_list(const struct gpuslice_share *share, struct share_process *processes, unsigned capacity) {
    unsigned count = 0;
    uint64_t namespace = own_namespace();
    int usage_fd = region_open_usage(share, O_RDONLY);
    for (uint32_t index = 0; usage_fd >= 0 && index < GPUSLICE_SLOTS; index++) {
        struct share_process process;
        if (!read_slot(share, usage_fd, index, namespace, &process))
            continue;
        if (count < capacity)
            processes[count] = process;
        count++;
    }
    if (usage_fd >= 0)
        close(usage_fd);
    return count;
}

bool processes_include(const struct gpuslice_share *share, uint32_t pid) {
    struct share_process processes[GPUSLICE_SLOTS];
    unsigned count = processes_list(share, processes, GPUSLICE_SLOTS);
    for (unsigned i = 0; i < count; i++)
        if (processes[i].pid == pid)
            return true;
    return false;
}
