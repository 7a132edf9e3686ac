#include "temporary.h"
#include "check.h"

#include <dirent.h>
#include <fcntl.h>
#include <gpuslice/agent.h>
#include <limits.h>
#include <unistd.h>

#define DIRECTORIES_MAX 64

static char *directories[DIRECTORIES_MAX];
static int directory_count;
static pid_t owner;

static void remove_directory(const char *path) {
    DIR *directory = opendir(path);
    struct dirent *entry;

    while (directory && (entry = readdir(directory)))
        unlinkat(dirfd(directory), entry->d_name, 0);
    if (directory)
        closedir(directory);
    rmdir(path);
}

static void remove_all(void) {
    if (getpid() != owner)
        return;
    for (int i = 0; i < directory_count; i++) {
        remove_directory(directories[i]);
        free(directories[i]);
    }
    directory_count = 0;
}

void temporary_remove(const char *directory) {
    for (int i = 0; i < directory_count; i++) {
        if (directories[i] != directory)
            continue;
        remove_directory(directories[i]);
        free(directories[i]);
        directories[i] = directories[--directory_count];
        return;
    }
}

const char *temporary_directory(void) {
    const char *root = getenv("TMPDIR");
    char path[PATH_MAX];

    if (owner == 0) {
        owner = getpid();
        atexit(remove_all);
        check_failing = remove_all;
    }
    CHECK(directory_count < DIRECTORIES_MAX);
    snprintf(path, sizeof(path), "%s/gpuslice-test-XXXXXX", root ? root : "/tmp");
    CHECK(mkdtemp(path));
    return directories[directory_count++] = strdup(path);
}

const char *temporary_share(uint64_t memory_bytes) {
    const char *directory = temporary_directory();
    struct gpuslice_share_limits limits = {.memory_bytes = memory_bytes, .cores = 30, .weight = 1};
    char reason[256] = "";

    if (gpuslice_files_create(directory, "GPU-00000000-0000-0000-0000-000000000001", "share-1", &limits, reason) < 0)
        fprintf(stderr, "%s\n", reason);
    CHECK(reason[0] == 0);
    return directory;
}
