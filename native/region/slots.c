/* Who holds a slot: an open-file-description lock that lives exactly as long as the holder's address space.
 *
 * The lock's descriptor maps one page and is closed at once, so neither closefrom() nor a reused descriptor drops
 * it, and the page is MADV_DONTFORK, so a forked child does not keep it. What is left is a fork by another thread
 * between open and madvise; fork() waits for that. */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* What pthread_atfork calls. It is in every libc.so.6, whereas pthread_atfork itself is in libpthread before glibc
 * 2.34 and would make the shim depend on that. */
int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *dso_handle);
extern void *__dso_handle __attribute__((weak, visibility("hidden")));

static _Atomic uint32_t claiming; /* a lock: held during a claim, and by fork() */
static bool fork_waits;           /* under claiming */

static void fork_begins(void) {
    region_lock(&claiming);
}

static void fork_ends(void) {
    region_unlock(&claiming);
}

struct gpuslice_slot *gpuslice_slot_own(const struct gpuslice_share *share) {
    struct gpuslice_process *process = share->process;

    if (process->pid != 0 && process->pid != getpid())
        return NULL;
    /* acquire: the slot's number and the lock page were stored before it */
    return atomic_load_explicit(&process->slot, memory_order_acquire);
}

static struct flock lock_of(uint32_t slot_index, short type) {
    return (struct flock){
        .l_type = type, .l_whence = SEEK_SET, .l_start = (off_t)(GPUSLICE_LOCK_BASE + slot_index), .l_len = 1};
}

bool gpuslice_slot_is_held(int usage_fd, uint32_t slot_index) {
    struct flock lock = lock_of(slot_index, F_WRLCK);

    /* In doubt, held: memory of a live process is never taken away. */
    return fcntl(usage_fd, F_OFD_GETLK, &lock) < 0 || lock.l_type != F_UNLCK;
}

/* Locks the first free slot. Its number, or a negative errno. */
static int lock_free_slot(int usage_fd) {
    for (uint32_t i = 0; i < GPUSLICE_SLOTS; i++) {
        struct flock lock = lock_of(i, F_WRLCK);

        if (fcntl(usage_fd, F_OFD_SETLK, &lock) == 0)
            return (int)i;
        if (errno != EAGAIN && errno != EACCES)
            return -errno;
    }
    return -ENOSPC;
}

/* Field 22 of /proc/self/stat; the second one is the program's name, which may contain anything. */
static uint64_t read_start_time(void) {
    char text[1024];
    int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return 0;
    ssize_t length = read(fd, text, sizeof(text) - 1);

    close(fd);
    if (length <= 0)
        return 0;
    text[length] = 0;
    const char *field = strrchr(text, ')');

    for (int spaces = 0; field && spaces < 20; spaces++)
        field = strchr(field + 1, ' ');
    return field ? strtoull(field, NULL, 10) : 0;
}

static void introduce(struct gpuslice_slot *slot) {
    struct stat status;
    bool known = stat("/proc/self/ns/pid", &status) == 0;

    /* release, here and below: whoever sees the pid sees what belongs to it */
    atomic_store_explicit(&slot->pid, 0, memory_order_release);
    slot->pid_namespace = known ? (uint64_t)status.st_ino : 0;
    slot->start_time = read_start_time();
    for (int kind = 0; kind < GPUSLICE_MEMORY_KINDS; kind++)
        atomic_store_explicit(&slot->memory_bytes[kind], 0, memory_order_relaxed);
    memset((char *)slot + offsetof(struct gpuslice_slot, swapped_bytes), 0,
           sizeof(*slot) - offsetof(struct gpuslice_slot, swapped_bytes));
    atomic_fetch_add_explicit(&slot->generation, 1, memory_order_relaxed);
    atomic_store_explicit(&slot->pid, (uint32_t)getpid(), memory_order_release);
}

/* Locks a slot and ties the lock to this address space. The slot's number, or a negative errno. */
static int hold_slot(struct gpuslice_share *share) {
    struct gpuslice_process *process = share->process;
    int fd = region_open_usage(share, O_RDWR);

    if (fd < 0)
        return fd;
    int slot_index = lock_free_slot(fd);

    if (slot_index >= 0) {
        void *page = mmap(NULL, 1, PROT_READ, MAP_SHARED, fd, 0);

        if (page == MAP_FAILED)
            slot_index = -errno;
        else if (madvise(page, 1, MADV_DONTFORK) < 0) {
            slot_index = -errno;
            munmap(page, 1);
        } else
            process->lock_page = page;
    }
    close(fd);
    return slot_index;
}

static int claim(struct gpuslice_share *share) {
    struct gpuslice_process *process = share->process;

    if (process->pid != 0 && process->pid != getpid()) {
        memset(process, 0, sizeof(*process));
        process->pid = getpid();
    }
    if (gpuslice_slot_own(share))
        return 0;
    int slot_index = hold_slot(share);

    if (slot_index < 0)
        return slot_index;
    process->slot_index = (uint32_t)slot_index;
    region_inherit(share);
    introduce(&share->usage->slots[slot_index]);
    /* release: pairs with gpuslice_slot_own */
    atomic_store_explicit(&process->slot, &share->usage->slots[slot_index], memory_order_release);
    return 0;
}

int gpuslice_slot_claim(struct gpuslice_share *share, const char **reason) {
    sigset_t all, before;

    /* A handler that forks would wait for the very claim it interrupts. (pthread_sigmask is the same system call, but
     * glibc before 2.32 has it in libpthread.) */
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before);
    region_lock(&claiming);
    if (!fork_waits)
        fork_waits = __register_atfork(fork_begins, fork_ends, fork_ends, &__dso_handle) == 0;
    int error = claim(share);

    region_unlock(&claiming);
    sigprocmask(SIG_SETMASK, &before, NULL);
    if (error == -ENOSPC)
        *reason = region_reason("all %u process slots of the share are taken", GPUSLICE_SLOTS);
    else if (error == -EINVAL)
        *reason = region_reason("this kernel has no open-file-description locks (Linux 3.15 has them)");
    else if (error)
        *reason = region_reason("cannot claim a process slot in %.150s: %s", share->directory, strerror(-error));
    else
        gpuslice_reap(share);
    return error;
}
