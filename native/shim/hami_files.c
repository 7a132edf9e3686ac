#include "hami_files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tenant.h"

/* HAMi's name for the file that the processes of a container share; our directory stands beside it. */
#define CACHE "CUDA_DEVICE_MEMORY_SHARED_CACHE"

static int complain(int error, const char *what, const char *path) {
    tenant_complain("cannot %s %s: %s", what, path, strerror(-error));
    return error;
}

/* The same for the same set of limits, in whatever order they stand in the environment. */
static uint64_t hash_of_limits(void) {
    static const char memory[] = "CUDA_DEVICE_MEMORY_LIMIT", cores[] = "CUDA_DEVICE_SM_LIMIT";
    uint64_t sum = 0;
    for (char **entry = environ; entry && *entry; entry++) {
        uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
        for (const char *c = *entry; *c; c++)
            hash = (hash ^ (unsigned char)*c) * UINT64_C(0x100000001b3);
        if (strncmp(*entry, memory, strlen(memory)) == 0 || strncmp(*entry, cores, strlen(cores)) == 0)
            sum += hash;
    }
    return sum;
}

/* Where no cache is named, the programs of one user with the same limits share them, as all of a container do in
 * HAMi. */
static int parent_path(char path[PATH_MAX]) {
    const char *cache = getenv(CACHE);
    int length = cache && *cache ? snprintf(path, PATH_MAX, "%s.gpuslice", cache)
                                 : snprintf(path, PATH_MAX, "/tmp/gpuslice-hami-%u-%016llx", geteuid(),
                                            (unsigned long long)hash_of_limits());
    return length < PATH_MAX - 64 ? 0 : complain(-ENAMETOOLONG, "use", CACHE);
}

int hami_files_prepare(void) {
    char path[PATH_MAX];
    struct stat status;
    const char *cache = getenv(CACHE);
    bool named = cache && *cache;
    int error = parent_path(path);
    if (error)
        return error;
    if (mkdir(path, 0700) == 0 && named)
        chmod(path, 0777); /* whatever the umask: the processes of a container may have several users */
    if (lstat(path, &status) != 0)
        return complain(-errno, "make", path);
    if (!S_ISDIR(status.st_mode) || (!named && status.st_uid != geteuid()))
        return complain(-EEXIST, "make", path);
    return 0;
}

static bool same_limits(const struct gpuslice_share *share, const struct gpuslice_share_limits *limits) {
    struct gpuslice_limits found;
    return gpuslice_limits_read(share->grant, &found) && found.memory_bytes == limits->memory_bytes &&
           found.cores == limits->cores && found.priority == limits->priority;
}

static bool is_held(const char *directory) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/usage", directory);
    int usage_fd = open(path, O_RDONLY | O_CLOEXEC);
    bool held = false;
    for (uint32_t slot = 0; usage_fd >= 0 && slot < GPUSLICE_SLOTS && !held; slot++)
        held = gpuslice_slot_is_held(usage_fd, slot);
    if (usage_fd >= 0)
        close(usage_fd);
    return held;
}

static void remove_share(const char *directory) {
    static const char names[][12] = {"grant", ".grant.new", "usage", "doorbell"};
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%s/%s", directory, names[i]);
        unlink(path);
    }
    rmdir(directory);
}

static int make_share(const char *directory, const char *uuid, const struct gpuslice_share_limits *limits) {
    char reason[256];
    remove_share(directory);
    if (mkdir(directory, 0777) != 0)
        return complain(-errno, "make", directory);
    chmod(directory, 0777);
    int error = gpuslice_files_create(directory, uuid, "hami", limits, reason);
    if (error)
        tenant_complain("%s", reason);
    return error;
}

/* Called with the parent directory locked. A slot is claimed before the lock is given up: by that others see that
 * the files are in use. */
static int open_locked(const char *directory, const char *uuid, const struct gpuslice_share_limits *limits,
                       struct gpuslice_share *share) {
    const char *reason = "";
    int error = gpuslice_share_open(directory, share, &reason);
    if ((error || !same_limits(share, limits)) && !is_held(directory)) {
        if (!error)
            gpuslice_share_close(share);
        error = make_share(directory, uuid, limits);
        if (error)
            return error;
        error = gpuslice_share_open(directory, share, &reason);
    }
    if (!error) {
        error = gpuslice_slot_claim(share, &reason);
        if (error)
            gpuslice_share_close(share);
    }
    if (error)
        tenant_complain("%s", reason);
    return error;
}

int hami_files_open(const char *uuid, const struct gpuslice_share_limits *limits, struct gpuslice_share *share) {
    char directory[PATH_MAX];
    int error = parent_path(directory);
    if (error)
        return error;
    int parent = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (parent < 0 || flock(parent, LOCK_EX) != 0)
        error = complain(-errno, "lock", directory);
    if (!error) {
        size_t length = strlen(directory);
        snprintf(directory + length, sizeof directory - length, "/%s", uuid);
        error = open_locked(directory, uuid, limits, share);
    }
    if (parent >= 0)
        close(parent);
    return error;
}
