#include "member.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "journal.h"
#include "timeline.h"

#define OWNER_CHECK_NS 1000000 /* how long to wait for the lock before asking whether its owner lives */

uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static long futex(_Atomic uint32_t *word, int operation, uint32_t value, const struct timespec *timeout) {
    return syscall(SYS_futex, word, operation, value, timeout, NULL, 0);
}

int member_lock_fd(const struct member *member) {
    char path[PATH_MAX + sizeof "/" NODE_FILE];
    snprintf(path, sizeof path, "%s/" NODE_FILE, member->directory);
    return open(path, O_RDWR | O_CLOEXEC);
}

static struct flock entry_lock(unsigned index) {
    return (struct flock){
        .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)(NODE_LOCK_BASE + index), .l_len = 1};
}

bool owner_alive(const struct node_file *node, node_owner owner, int lock_fd) {
    unsigned index = owner_index(owner);
    if (index >= NODE_PROCESSES || owner_of(node->processes[index].generation, index) != owner)
        return false;
    struct flock lock = entry_lock(index);
    /* Cannot ask (no descriptors left): nobody is taken for dead. */
    return fcntl(lock_fd, F_OFD_GETLK, &lock) < 0 || lock.l_type != F_UNLCK;
}

/* The lock of a dead owner passes to us; what it was writing is undone. */
static bool take_from_dead(struct member *member, node_owner owner) {
    int fd = member_lock_fd(member);
    bool dead = fd >= 0 && !owner_alive(member->node, owner, fd);
    if (fd >= 0)
        close(fd);
    if (!dead || !atomic_compare_exchange_strong_explicit(&member->node->lock_owner, &owner, member->self,
                                                          memory_order_acquire, memory_order_relaxed))
        return false;
    journal_roll_back(member->node);
    return true;
}

static void lock_contended(struct member *member) {
    struct node_file *node = member->node;
    const struct timespec patience = {.tv_nsec = OWNER_CHECK_NS};
    for (unsigned round = 0;; round++) {
        node_owner owner = atomic_load_explicit(&node->lock_owner, memory_order_relaxed);
        if (owner == 0 && atomic_compare_exchange_weak_explicit(&node->lock_owner, &owner, member->self,
                                                                memory_order_acquire, memory_order_relaxed))
            return;
        if (round < 100) { /* held for about 100 ns as a rule */
            __asm__ volatile("" ::: "memory");
            continue;
        }
        atomic_store_explicit(&node->lock_contended, 1, memory_order_seq_cst);
        owner = atomic_load_explicit(&node->lock_owner, memory_order_seq_cst);
        if (owner != 0 && futex(&node->lock_contended, FUTEX_WAIT, 1, &patience) < 0 && errno == ETIMEDOUT &&
            atomic_load_explicit(&node->lock_owner, memory_order_relaxed) == owner && take_from_dead(member, owner))
            return;
    }
}

void node_lock(struct member *member) {
    node_owner nobody = 0;
    /* acquire: everything the last owner wrote comes before what we read */
    if (!atomic_compare_exchange_strong_explicit(&member->node->lock_owner, &nobody, member->self, memory_order_acquire,
                                                 memory_order_relaxed))
        lock_contended(member);
}

void node_unlock(struct member *member) {
    struct node_file *node = member->node;
    journal_commit(node);
    /* seq_cst: either we see the waiter's flag, or it sees the lock free before it sleeps */
    atomic_store_explicit(&node->lock_owner, 0, memory_order_seq_cst);
    if (atomic_load_explicit(&node->lock_contended, memory_order_seq_cst) &&
        atomic_exchange_explicit(&node->lock_contended, 0, memory_order_relaxed))
        futex(&node->lock_contended, FUTEX_WAKE, INT_MAX, NULL);
}

void node_kick(struct node_file *node) {
    atomic_fetch_add_explicit(&node->kick, 1, memory_order_release);
    futex(&node->kick, FUTEX_WAKE, INT_MAX, NULL);
}

static uint64_t start_time(void) {
    FILE *file = fopen("/proc/self/stat", "re");
    if (!file)
        return 0;
    char line[1024];
    size_t length = fread(line, 1, sizeof line - 1, file);
    fclose(file);
    line[length] = 0;
    const char *rest = strrchr(line, ')'); /* the name before it may hold anything */
    unsigned long long ticks = 0;
    if (!rest || sscanf(rest + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
                        &ticks) != 1)
        return 0;
    return ticks;
}

static void introduce(struct node_process *process) {
    struct stat status;
    process->pid = (uint64_t)getpid();
    process->pid_namespace = stat("/proc/self/ns/pid", &status) == 0 ? (uint64_t)status.st_ino : 0;
    process->start_time = start_time();
    char full[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", full, sizeof full - 1);
    full[length > 0 ? length : 0] = 0;
    const char *base = strrchr(full, '/');
    snprintf(process->name, sizeof process->name, "%.63s", base ? base + 1 : full);
}

/* Locks the byte of the first entry nobody lives in. The lock lives in a page that forked children do not get, so
 * that it ends with this address space and not before: descriptors are closed by programs and inherited by children. */
static int claim_entry(struct member *member, int fd) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (unsigned i = 0; i < NODE_PROCESSES; i++) {
        struct flock lock = entry_lock(i);
        if (fcntl(fd, F_OFD_SETLK, &lock) < 0)
            continue;
        void *life = mmap(NULL, page, PROT_READ, MAP_SHARED, fd, 0);
        if (life == MAP_FAILED)
            return -errno;
        if (madvise(life, page, MADV_DONTFORK) < 0) {
            int result = -errno;
            munmap(life, page);
            return result;
        }
        member->life = life;
        member->index = i;
        return 0;
    }
    return -EUSERS;
}

static void enter(struct member *member, bool observer) {
    struct node_file *node = member->node;
    struct node_process *process = member_process(member);
    node_lock(member);
    if (process->live) /* it died here, and nobody has noticed yet */
        reap_process(member, member->index);
    journal_commit(node);
    memset(process->gpus, 0, sizeof process->gpus); /* of no meaning until `live` */
    process->place = process->walls_seen = 0;
    memset(process->walls, 0, sizeof process->walls);
    process->instance = 0;
    memset(node->lanes[member->index], 0, sizeof node->lanes[member->index]);
    introduce(process);
    journal_put(node, &process->observer, observer);
    if (member->index >= node->process_count)
        journal_put(node, &node->process_count, member->index + 1);
    journal_put(node, &process->live, 1);
    journal_commit(node);
    reap_dead(member);
    node_unlock(member);
}

int member_join(const char *directory, bool observer, struct member *ret_member) {
    struct member member = {0};
    /* absolute: the program may change its directory */
    if (!realpath(directory, member.directory))
        return -errno;
    int result = node_map(member.directory, &member.node);
    if (result < 0)
        return result;
    int fd = member_lock_fd(&member);
    result = fd < 0 ? -errno : claim_entry(&member, fd);
    if (fd >= 0)
        close(fd);
    if (result < 0) {
        munmap(member.node, sizeof(struct node_file));
        return result;
    }
    member.self = owner_of(atomic_fetch_add(&member_process(&member)->generation, 1) + 1, member.index);
    enter(&member, observer);
    *ret_member = member;
    return 0;
}

void member_leave(struct member *member) {
    node_lock(member);
    timeline_advance(member->node, now_ns());
    reap_process(member, member->index);
    node_unlock(member);
    node_kick(member->node);
    munmap(member->life, (size_t)sysconf(_SC_PAGESIZE));
    munmap(member->node, sizeof(struct node_file));
    *member = (struct member){0};
}
