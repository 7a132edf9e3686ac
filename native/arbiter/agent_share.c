/* The agent's hold on a share: open, and the limits, read and set. */
#include "agent_share.h"
#include "../region/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int map_grant(const char *directory, struct gpuslice_grant **ret_grant, char *reason) {
    char path[GPUSLICE_DIRECTORY_BYTES + 16];
    const char *why;
    struct stat status;

    snprintf(path, sizeof(path), "%s/grant", directory);
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    int error = fd < 0 || fstat(fd, &status) < 0 ? -errno : 0;

    if (!error && (!S_ISREG(status.st_mode) || status.st_size != (off_t)sizeof(struct gpuslice_grant))) {
        close(fd);
        return agent_reason(reason, -EPROTO, "the grant file is corrupt: it has %lld bytes instead of %zu",
                            (long long)status.st_size, sizeof(struct gpuslice_grant));
    }
    struct gpuslice_grant *grant = MAP_FAILED;

    if (!error) {
        grant = mmap(NULL, sizeof(*grant), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        error = grant == MAP_FAILED ? -errno : 0;
    }
    if (fd >= 0)
        close(fd);
    if (error)
        return agent_reason(reason, error, "cannot open %.150s: %s", path, strerror(-error));
    error = region_check_grant(grant, sizeof(*grant), &why);
    if (error) {
        munmap(grant, sizeof(*grant));
        return agent_reason(reason, error, "%s", why);
    }
    *ret_grant = grant;
    return 0;
}

static int open_beside(const char *directory, const char *name, int flags, char *reason) {
    char path[GPUSLICE_DIRECTORY_BYTES + 16];

    snprintf(path, sizeof(path), "%s/%s", directory, name);
    int fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

    if (fd >= 0)
        return fd;
    int error = -errno;

    return agent_reason(reason, error, "cannot open %.150s: %s", path, strerror(-error));
}

int gpuslice_agent_share_open(const char *directory, struct gpuslice_agent_share **ret_share, char *reason) {
    struct gpuslice_agent_share *share = malloc(sizeof(*share));

    if (!share)
        return agent_reason(reason, -ENOMEM, "no memory for one more share");
    *share = (struct gpuslice_agent_share){.usage = -1, .doorbell = -1};
    int error = map_grant(directory, &share->grant, reason);

    if (!error) {
        share->usage = open_beside(directory, "usage", O_RDONLY, reason);
        error = share->usage < 0 ? share->usage : 0;
    }
    if (!error) {
        share->doorbell = open_beside(directory, "doorbell", O_RDWR, reason);
        error = share->doorbell < 0 ? share->doorbell : 0;
    }
    if (error)
        gpuslice_agent_share_close(share);
    else
        *ret_share = share;
    return error;
}

void gpuslice_agent_share_close(struct gpuslice_agent_share *share) {
    if (share->grant)
        munmap(share->grant, sizeof(*share->grant));
    if (share->usage >= 0)
        close(share->usage);
    if (share->doorbell >= 0)
        close(share->doorbell);
    free(share);
}

const char *gpuslice_agent_share_gpu_uuid(const struct gpuslice_agent_share *share) {
    return share->grant->gpu_uuid;
}

int gpuslice_agent_share_set_limits(struct gpuslice_agent_share *share, const struct gpuslice_share_limits *limits,
                                    char *reason) {
    struct gpuslice_grant *grant = share->grant;
    int error = agent_limits_check(limits, reason);

    if (error)
        return error;
    uint32_t next = ~atomic_load_explicit(&grant->limits_index, memory_order_relaxed) & 1;

    grant->limits[next] = agent_limits_pack(limits);
    /* release: a reader that takes this index finds the copy filled */
    atomic_store_explicit(&grant->limits_index, next, memory_order_release);
    return 0;
}

int gpuslice_agent_share_get_limits(const struct gpuslice_agent_share *share, struct gpuslice_share_limits *ret_limits,
                                    char *reason) {
    struct gpuslice_limits limits;

    if (!gpuslice_limits_read(share->grant, &limits))
        return agent_reason(reason, -EPROTO,
                            "the grant file is corrupt: neither copy of its limits has a right "
                            "checksum");
    *ret_limits = (struct gpuslice_share_limits){
        .memory_bytes = limits.memory_bytes,
        .overhead_bytes = limits.overhead_bytes,
        .cores = limits.cores,
        .weight = limits.weight,
        .policy = limits.policy,
        .priority = limits.priority,
        .overcommit = limits.overcommit,
    };
    return 0;
}
