#include "shares.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "uuid.h"

/* ssh, su and sudo drop the environment, so in containers the shares are where nobody needs to name them. */
#define CONTAINER_SHARES "/run/gpuslice/shares"

static int open_share(struct tenant *tenant, const char *directory) {
    const char *reason = "";
    if (tenant->gpu_count == TENANT_GPUS_MAX) {
        tenant_complain("%s is one share too many: a process can hold %d", directory, TENANT_GPUS_MAX);
        return -E2BIG;
    }
    struct tenant_gpu *gpu = &tenant->gpus[tenant->gpu_count];
    int error = gpuslice_share_open(directory, &gpu->share, &reason);
    if (error) {
        tenant_complain("%s", reason);
        return error;
    }
    gpu->device = -1;
    for (unsigned i = 0; i < tenant->gpu_count; i++) {
        const char *uuid = tenant->gpus[i].share.grant->gpu_uuid;
        if (uuid_equal(uuid, gpu->share.grant->gpu_uuid)) {
            tenant_complain("%s is a second share of GPU %s: a process can hold one", directory, uuid);
            gpuslice_share_close(&gpu->share);
            return -EEXIST;
        }
    }
    tenant->gpu_count++;
    return 0;
}

static int open_named(struct tenant *tenant, const char *list) {
    int error = 0;
    while (*list && !error) {
        size_t length = strcspn(list, ":");
        char directory[PATH_MAX];
        if (length >= sizeof directory) {
            tenant_complain("GPUSLICE_SHARES names a directory longer than %d bytes", PATH_MAX);
            return -ENAMETOOLONG;
        }
        memcpy(directory, list, length);
        directory[length] = '\0';
        if (length)
            error = open_share(tenant, directory);
        list += length + (list[length] == ':');
    }
    return error;
}

static int is_visible(const struct dirent *entry) {
    return entry->d_name[0] != '.';
}

static int open_all(struct tenant *tenant, const char *parent) {
    struct dirent **entries;
    int count = scandir(parent, &entries, is_visible, versionsort);
    if (count < 0 && errno == ENOENT)
        return 0;
    if (count < 0) {
        tenant_complain("cannot read %s: %s", parent, strerror(errno));
        return -errno;
    }
    int error = 0;
    for (int i = 0; i < count; i++) {
        char directory[PATH_MAX];
        snprintf(directory, sizeof directory, "%s/%s", parent, entries[i]->d_name);
        if (!error)
            error = open_share(tenant, directory);
        free(entries[i]);
    }
    free(entries);
    return error;
}

int shares_open(struct tenant *tenant) {
    const char *named = getenv("GPUSLICE_SHARES");
    int error = named && *named ? open_named(tenant, named) : open_all(tenant, CONTAINER_SHARES);
    while (error && tenant->gpu_count)
        gpuslice_share_close(&tenant->gpus[--tenant->gpu_count].share);
    return error;
}
