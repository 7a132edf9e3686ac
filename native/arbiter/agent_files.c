/* The files of a new share. The grant appears last and whole, by a rename: a share that has one is complete. */
#include "../region/internal.h"
#include "agent_share.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NEW_GRANT ".grant.new"

/* One file, all of its blocks allocated (a full disk shows here and not as SIGBUS in a tenant), `head` at its start. */
static int write_file(int directory, const char *name, mode_t mode, const void *head, size_t head_bytes, size_t bytes) {
    int fd = openat(directory, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0)
        return -errno;
    int error = -posix_fallocate(fd, 0, (off_t)bytes);

    if (!error) {
        ssize_t written = pwrite(fd, head, head_bytes, 0);

        if (written != (ssize_t)head_bytes)
            error = written < 0 ? -errno : -ENOSPC;
    }
    if (!error && fchmod(fd, mode) < 0) /* open() would have heeded the umask */
        error = -errno;
    close(fd);
    if (error)
        unlinkat(directory, name, 0);
    return error;
}

static int write_grant(int directory, const char *gpu_uuid, const char *share_id,
                       const struct gpuslice_share_limits *limits) {
    struct gpuslice_grant grant = {
        .magic = GPUSLICE_GRANT_MAGIC,
        .abi_major = GPUSLICE_ABI_MAJOR,
        .abi_minor = GPUSLICE_ABI_MINOR,
        .size = sizeof(grant),
        .resident_target_bytes = UINT64_MAX,
    };

    strcpy(grant.gpu_uuid, gpu_uuid);
    strcpy(grant.share_id, share_id);
    grant.limits[0] = grant.limits[1] = agent_limits_pack(limits);
    return write_file(directory, NEW_GRANT, 0644, &grant, sizeof(grant), sizeof(grant));
}

static int write_usage(int directory) {
    struct {
        uint64_t magic;
        uint32_t abi_major, abi_minor, size, slot_count;
    } head = {GPUSLICE_USAGE_MAGIC, GPUSLICE_ABI_MAJOR, GPUSLICE_ABI_MINOR, sizeof(struct gpuslice_usage),
              GPUSLICE_SLOTS};

    _Static_assert(sizeof(head) == offsetof(struct gpuslice_usage, slot_count) + sizeof(uint32_t),
                   "the head of a usage file has no gaps");
    return write_file(directory, "usage", 0666, &head, sizeof(head), sizeof(struct gpuslice_usage));
}

static int make_doorbell(int directory) {
    if (mkfifoat(directory, "doorbell", 0600) < 0)
        return -errno;
    if (fchmodat(directory, "doorbell", 0666, 0) == 0)
        return 0;
    int error = -errno;

    unlinkat(directory, "doorbell", 0);
    return error;
}

/* Each step undoes itself when it fails; this undoes those before it. */
static int make_all(int directory, const char *gpu_uuid, const char *share_id,
                    const struct gpuslice_share_limits *limits) {
    int error = faccessat(directory, "grant", F_OK, AT_SYMLINK_NOFOLLOW) == 0 ? -EEXIST : 0;

    if (!error)
        error = write_usage(directory);
    if (error)
        return error;
    error = make_doorbell(directory);
    if (!error) {
        error = write_grant(directory, gpu_uuid, share_id, limits);
        if (!error && renameat(directory, NEW_GRANT, directory, "grant") < 0) {
            error = -errno;
            unlinkat(directory, NEW_GRANT, 0);
        }
        if (error)
            unlinkat(directory, "doorbell", 0);
    }
    if (error)
        unlinkat(directory, "usage", 0);
    return error;
}

int gpuslice_files_create(const char *directory, const char *gpu_uuid, const char *share_id,
                          const struct gpuslice_share_limits *limits, char *reason) {
    int error = agent_limits_check(limits, reason);

    if (error)
        return error;
    if (strlen(gpu_uuid) >= GPUSLICE_UUID_BYTES || strlen(share_id) >= GPUSLICE_SHARE_ID_BYTES)
        return agent_reason(reason, -EINVAL, "a GPU UUID has at most %u bytes and a share id at most %u",
                            GPUSLICE_UUID_BYTES - 1, GPUSLICE_SHARE_ID_BYTES - 1);
    int directory_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    error = directory_fd < 0 ? -errno : make_all(directory_fd, gpu_uuid, share_id, limits);
    if (directory_fd >= 0)
        close(directory_fd);
    if (error == -ENOSPC)
        return agent_reason(reason, error, "no room for the files of a share (%zu bytes) in %.150s: make some",
                            sizeof(struct gpuslice_grant) + sizeof(struct gpuslice_usage), directory);
    if (error)
        return agent_reason(reason, error, "cannot create the files of a share in %.150s: %s", directory,
                            strerror(-error));
    return 0;
}
