#include "cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

static bool is_cgroup(const char *path) {
    struct statfs status;
    return statfs(path, &status) == 0 && (status.f_type == CGROUP2_SUPER_MAGIC || status.f_type == CGROUP_SUPER_MAGIC);
}

/* How much of the path is where its file system is mounted. */
static size_t mount_length(const char *path, dev_t device) {
    char above[CGROUP_PATH];
    snprintf(above, sizeof above, "%s", path);
    size_t length = strlen(path);
    for (char *slash; (slash = strrchr(above, '/')) && slash != above; length = (size_t)(slash - above)) {
        *slash = 0;
        struct stat status;
        if (stat(above, &status) < 0 || status.st_dev != device)
            break;
    }
    return length;
}

int cgroup_identify(const char *path, struct cgroup *ret_cgroup) {
    char full[PATH_MAX];
    struct stat status;
    if (!realpath(path, full) || stat(full, &status) < 0)
        return -errno;
    if (!is_cgroup(full) || !S_ISDIR(status.st_mode))
        return -EINVAL;
    if (strlen(full) >= sizeof ret_cgroup->path)
        return -ENAMETOOLONG;
    *ret_cgroup = (struct cgroup){.device = (uint64_t)status.st_dev,
                                  .inode = (uint64_t)status.st_ino,
                                  .root_length = mount_length(full, status.st_dev)};
    snprintf(ret_cgroup->path, sizeof ret_cgroup->path, "%.*s", CGROUP_PATH - 1, full);
    return 0;
}

static int open_if_it(const struct cgroup *cgroup, const char *path) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat status;
    if (fd >= 0 && fstat(fd, &status) == 0 && status.st_dev == cgroup->device && status.st_ino == cgroup->inode)
        return fd;
    if (fd >= 0)
        close(fd);
    return -ENOENT;
}

/* In one of the trees in this directory, or in the one that is mounted there itself. */
static int open_below(const struct cgroup *cgroup, const char *trees) {
    DIR *entries = opendir(trees);
    if (!entries)
        return -ENOENT;
    int fd = -ENOENT;
    for (struct dirent *entry; fd < 0 && (entry = readdir(entries));) {
        char path[PATH_MAX];
        struct stat status;
        if (strcmp(entry->d_name, "..") == 0 ||
            snprintf(path, sizeof path, "%s/%s", trees, entry->d_name) >= (int)sizeof path)
            continue;
        size_t length = strlen(path);
        if (stat(path, &status) < 0 || status.st_dev != cgroup->device ||
            snprintf(path + length, sizeof path - length, "%s", cgroup->path + cgroup->root_length) >=
                (int)(sizeof path - length))
            continue;
        fd = open_if_it(cgroup, path);
    }
    closedir(entries);
    return fd;
}

int cgroup_open(const struct cgroup *cgroup, const char *trees) {
    int fd = open_if_it(cgroup, cgroup->path);
    return fd >= 0 || !trees ? fd : open_below(cgroup, trees);
}

static bool visit_processes(int directory, bool (*visit)(uint64_t pid, void *argument), void *argument) {
    int fd = openat(directory, "cgroup.procs", O_RDONLY | O_CLOEXEC);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "r");
    if (!file) {
        if (fd >= 0)
            close(fd);
        return true; /* removed meanwhile */
    }
    bool going = true;
    unsigned long long pid;
    /* Processes of no name in our pid namespace are 0 here, or left out. */
    while (going && fscanf(file, "%llu", &pid) == 1)
        going = pid == 0 || visit(pid, argument);
    fclose(file);
    return going;
}

bool cgroup_visit(int directory, bool (*visit)(uint64_t pid, void *argument), void *argument) {
    bool going = visit_processes(directory, visit, argument);
    DIR *entries = fdopendir(directory);
    if (!entries) {
        close(directory);
        return going;
    }
    for (struct dirent *entry; going && (entry = readdir(entries));) {
        if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
            continue;
        int below = openat(directory, entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (below >= 0)
            going = cgroup_visit(below, visit, argument);
    }
    closedir(entries);
    return going;
}

uint64_t cgroup_own_place(void) {
    uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    int fd = open("/proc/self/cgroup", O_RDONLY | O_CLOEXEC);
    unsigned char text[4096];
    ssize_t length = 0;
    while (fd >= 0 && (length = read(fd, text, sizeof text)) > 0)
        for (ssize_t i = 0; i < length; i++)
            hash = (hash ^ text[i]) * UINT64_C(0x100000001b3);
    if (fd >= 0)
        close(fd);
    return hash;
}
