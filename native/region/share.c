/* Opening the files of a share. */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MADV_WIPEONFORK /* headers older than Linux 4.14 */
#define MADV_WIPEONFORK 18
#endif

const char *region_reason(const char *format, ...) {
    /* initial-exec: the general model calls __tls_get_addr, which the loader has and libc has not */
    static _Thread_local __attribute__((tls_model("initial-exec"))) char sentence[256];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(sentence, sizeof(sentence), format, arguments);
    va_end(arguments);
    return sentence;
}

static int open_file(const char *directory, const char *name, int flags) {
    char path[GPUSLICE_DIRECTORY_BYTES + 16];

    snprintf(path, sizeof(path), "%s/%s", directory, name);
    int fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);

    return fd < 0 ? -errno : fd;
}

int region_open_usage(const struct gpuslice_share *share, int flags) {
    struct stat status;
    int fd = open_file(share->directory, "usage", flags);

    if (fd < 0)
        return fd;
    if (fstat(fd, &status) == 0 && status.st_dev == share->usage_device && status.st_ino == share->usage_inode)
        return fd;
    close(fd);
    return -ESTALE;
}

/* Opens and maps one file of `bytes` bytes. The size is checked first: touching a short mapping kills by SIGBUS. */
static int map_file(const char *directory, const char *name, int protection, size_t bytes, void **mapped,
                    struct stat *status, const char **reason) {
    int fd = open_file(directory, name, protection & PROT_WRITE ? O_RDWR : O_RDONLY);
    int error = fd < 0 ? fd : 0;

    if (!error && fstat(fd, status) < 0)
        error = -errno;
    if (!error && (!S_ISREG(status->st_mode) || (uint64_t)status->st_size != bytes)) {
        *reason = region_reason("the %s file is corrupt: it has %lld bytes instead of %zu", name,
                                (long long)status->st_size, bytes);
        close(fd);
        return -EPROTO;
    }
    if (!error) {
        *mapped = mmap(NULL, bytes, protection, MAP_SHARED, fd, 0);
        if (*mapped == MAP_FAILED)
            error = -errno;
    }
    if (fd >= 0)
        close(fd);
    if (error)
        *reason = region_reason("cannot open %.150s/%s: %s", directory, name, strerror(-error));
    return error;
}

/* The page a forked child finds zeroed. */
static int map_process(struct gpuslice_share *share, const char **reason) {
    size_t bytes = sizeof(struct gpuslice_process);
    void *page = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (page == MAP_FAILED) {
        *reason = region_reason("no memory for the share's bookkeeping: %s", strerror(errno));
        return -ENOMEM;
    }
    share->process = page;
    if (madvise(page, bytes, MADV_WIPEONFORK) < 0)
        share->process->pid = getpid();
    return 0;
}

int gpuslice_share_open(const char *directory, struct gpuslice_share *share, const char **reason) {
    void *grant = MAP_FAILED, *usage = MAP_FAILED;
    struct stat status;

    memset(share, 0, sizeof(*share));
    if (strlen(directory) >= sizeof(share->directory)) {
        *reason = region_reason("the path of the share is longer than %zu bytes", sizeof(share->directory) - 1);
        return -ENAMETOOLONG;
    }
    strcpy(share->directory, directory);
    int error = map_file(directory, "grant", PROT_READ, sizeof(*share->grant), &grant, &status, reason);

    if (!error)
        error = region_check_grant(grant, sizeof(*share->grant), reason);
    if (!error)
        error = map_file(directory, "usage", PROT_READ | PROT_WRITE, sizeof(*share->usage), &usage, &status, reason);
    if (!error)
        error = region_check_usage(usage, sizeof(*share->usage), reason);
    if (!error && !gpuslice_limits_read(grant, &(struct gpuslice_limits){0})) {
        *reason = region_reason("the grant file is corrupt: neither copy of its limits has a right checksum");
        error = -EPROTO;
    }
    if (!error)
        error = map_process(share, reason);
    if (error) {
        if (grant != MAP_FAILED)
            munmap(grant, sizeof(*share->grant));
        if (usage != MAP_FAILED)
            munmap(usage, sizeof(*share->usage));
        return error;
    }
    share->grant = grant;
    share->usage = usage;
    share->usage_device = status.st_dev;
    share->usage_inode = status.st_ino;
    return 0;
}

void gpuslice_share_close(struct gpuslice_share *share) {
    if (gpuslice_slot_own(share)) {
        region_inherit(share);
        munmap((void *)share->process->lock_page, 1);
    }
    munmap((void *)share->grant, sizeof(*share->grant));
    munmap(share->usage, sizeof(*share->usage));
    munmap(share->process, sizeof(*share->process));
    memset(share, 0, sizeof(*share));
}

void gpuslice_doorbell_ring(const struct gpuslice_share *share) {
    /* O_RDWR: where no agent reads any more a write would else end the program with SIGPIPE. */
    int fd = open_file(share->directory, "doorbell", O_RDWR);

    if (fd < 0)
        return;
    ssize_t written = write(fd, "", 1);

    (void)written; /* a full pipe is a rung bell */
    close(fd);
}

static long futex(_Atomic uint32_t *word, int operation, uint32_t value) {
    return syscall(SYS_futex, word, operation, value, NULL, NULL, 0);
}

/* 0 free, 1 taken, 2 taken and waited for. */
void region_lock(_Atomic uint32_t *lock) {
    uint32_t free = 0;

    /* acquire: sees what the last holder wrote */
    if (atomic_compare_exchange_strong_explicit(lock, &free, 1, memory_order_acquire, memory_order_relaxed))
        return;
    while (atomic_exchange_explicit(lock, 2, memory_order_acquire) != 0)
        futex(lock, FUTEX_WAIT_PRIVATE, 2);
}

void region_unlock(_Atomic uint32_t *lock) {
    /* release: pairs with the next holder's acquire */
    if (atomic_exchange_explicit(lock, 0, memory_order_release) == 2)
        futex(lock, FUTEX_WAKE_PRIVATE, 1);
}
