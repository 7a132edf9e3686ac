#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "pids.h"

static uint64_t namespace_of(const char *pid) {
    char path[300];
    struct stat status;
    snprintf(path, sizeof path, "/proc/%.255s/ns/pid", pid);
    return stat(path, &status) == 0 ? (uint64_t)status.st_ino : 0;
}

/* The last number of the NSpid line: the pid in the innermost namespace. */
static uint64_t innermost_pid(const char *pid) {
    char path[300], line[512];
    snprintf(path, sizeof path, "/proc/%.255s/status", pid);
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    uint64_t innermost = 0;
    while (fgets(line, sizeof line, file)) {
        if (strncmp(line, "NSpid:", 6) != 0)
            continue;
        line[strcspn(line, "\n")] = 0;
        const char *last = strrchr(line, '\t');
        innermost = last ? strtoull(last + 1, NULL, 10) : 0;
        break;
    }
    fclose(file);
    return innermost;
}

void pid_identify(uint64_t pid, uint64_t *ret_pid, uint64_t *ret_pid_namespace) {
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)pid);
    *ret_pid = innermost_pid(text);
    *ret_pid_namespace = namespace_of(text);
}

unsigned pid_seen(uint64_t pid, uint64_t pid_namespace) {
    if (pid_namespace == namespace_of("self") || pid_namespace == PID_HOST_NAMESPACE)
        return (unsigned)pid;
    unsigned seen = 0;
    DIR *proc = opendir("/proc");
    if (!proc)
        return seen;
    for (struct dirent *entry; (entry = readdir(proc));) {
        if (entry->d_name[0] < '1' || entry->d_name[0] > '9')
            continue;
        if (innermost_pid(entry->d_name) == pid && namespace_of(entry->d_name) == pid_namespace) {
            seen = (unsigned)strtoul(entry->d_name, NULL, 10);
            break;
        }
    }
    closedir(proc);
    return seen;
}
