/* What a forked child has of its parent's share: nothing, until it claims a slot of its own. */
#include "check.h"
#include "temporary.h"
#include "tenant_process.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define KIB UINT64_C(1024)

static const char *directory;
static struct gpuslice_share share; /* of the process that runs the case, in slot 0 */

static void begin(void) {
    directory = temporary_share(64 * KIB);
    tenant_open(&share, directory);
}

static void end(void) {
    gpuslice_share_close(&share);
}

static int use_the_parents_share(void *unused) {
    (void)unused;
    CHECK(gpuslice_slot_own(&share) == NULL);
    gpuslice_refund(&share, 8 * KIB, GPUSLICE_MEMORY_DATA); /* of the parent: not ours to give back */
    CHECK_EQUAL(gpuslice_total_bytes(&share), 8 * KIB);
    CHECK_EQUAL(gpuslice_reserve(&share, 4 * KIB, GPUSLICE_MEMORY_DATA), 0);
    CHECK_EQUAL(share.process->slot_index, 1);
    CHECK_EQUAL(tenant_held_bytes(&share, 0), 8 * KIB);
    CHECK_EQUAL(tenant_held_bytes(&share, 1), 4 * KIB);
    CHECK_EQUAL(gpuslice_busy_add(&share, 1 << 20, 2 << 20), 1 << 20);
    return 0;
}

static void a_forked_child_claims_its_own(pid_t (*fork_one)(int (*work)(void *), void *)) {
    begin();
    CHECK_EQUAL(gpuslice_reserve(&share, 8 * KIB, GPUSLICE_MEMORY_DATA), 0);
    CHECK_EQUAL(tenant_wait(fork_one(use_the_parents_share, NULL)), 0);
    CHECK_EQUAL(share.process->slot_index, 0);
    CHECK_EQUAL(gpuslice_slot_own(&share)->busy_ns, 0);
    tenant_check_total(&share, 8 * KIB);
    end();
}

CASE(a_forked_child_claims_a_slot_of_its_own_and_leaves_its_parents_alone) {
    a_forked_child_claims_its_own(tenant_fork);
}

static pid_t fork_on_an_old_kernel(int (*work)(void *), void *argument) {
    CHECK(madvise(share.process, sizeof(*share.process), 19 /* MADV_KEEPONFORK */) == 0);
    share.process->pid = getpid();
    return tenant_fork(work, argument);
}

CASE(it_does_so_on_a_kernel_that_cannot_wipe_pages_on_fork) {
    a_forked_child_claims_its_own(fork_on_an_old_kernel);
}

static pid_t fork_behind_the_back_of_libc(int (*work)(void *), void *argument) {
    fflush(stdout);
    pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);

    CHECK(child >= 0);
    if (child == 0)
        syscall(SYS_exit_group, work(argument));
    return child;
}

CASE(it_does_so_when_libc_knows_nothing_of_the_fork) {
    a_forked_child_claims_its_own(fork_behind_the_back_of_libc);
}

static _Atomic bool ready_to_stop;

static void *reserve_and_refund(void *unused) {
    (void)unused;
    while (!ready_to_stop) {
        gpuslice_charge(&share, KIB, GPUSLICE_MEMORY_DATA);
        gpuslice_refund(&share, KIB, GPUSLICE_MEMORY_DATA);
    }
    return NULL;
}

static int reserve_once(void *unused) {
    (void)unused;
    return gpuslice_reserve(&share, KIB, GPUSLICE_MEMORY_DATA) != 0;
}

CASE(a_child_forked_while_a_thread_is_in_a_transaction_is_not_locked_out) {
    pthread_t thread;

    begin();
    ready_to_stop = false;
    CHECK(pthread_create(&thread, NULL, reserve_and_refund, NULL) == 0);
    for (int i = 0; i < 200; i++)
        CHECK_EQUAL(tenant_wait(tenant_fork(reserve_once, NULL)), 0);
    ready_to_stop = true;
    pthread_join(thread, NULL);
    tenant_check_total(&share, 0);
    end();
}

/* --- a fork by one thread in the middle of another's claim ----------------------------------------------------- */

static pthread_t forking_thread;
static _Atomic pid_t forking_tid, forked_child;
static bool fork_in_claims;

static int wait_for_the_end(void *unused) {
    (void)unused;
    pause();
    return 0;
}

static void *fork_one(void *unused) {
    (void)unused;
    forking_tid = (pid_t)syscall(SYS_gettid);
    forked_child = tenant_fork(wait_for_the_end, NULL);
    CHECK_EQUAL(tenant_wait(forked_child), 128 + SIGKILL); /* it ends with this thread, at the latest */
    return NULL;
}

/* Field 3 of its stat: S is sleeping, on a lock for example. */
static bool is_asleep(pid_t tid) {
    char path[64], text[512] = "";

    snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
    FILE *file = fopen(path, "re");
    CHECK(file && fgets(text, sizeof(text), file));
    fclose(file);
    return strrchr(text, ')')[2] == 'S';
}

int __real_madvise(void *address, size_t length, int advice);
int __wrap_madvise(void *address, size_t length, int advice);

/* The moment when a claim has its lock and would still hand it to a child. */
int __wrap_madvise(void *address, size_t length, int advice) {
    if (advice == MADV_DONTFORK && fork_in_claims) {
        CHECK(pthread_create(&forking_thread, NULL, fork_one, NULL) == 0);
        while (forking_tid == 0 || (forked_child == 0 && !is_asleep(forking_tid)))
            sched_yield();
    }
    return __real_madvise(address, length, advice);
}

CASE(a_child_forked_while_a_thread_claims_a_slot_does_not_keep_it) {
    struct gpuslice_share other;

    begin();
    fork_in_claims = true;
    tenant_open(&other, directory);
    fork_in_claims = false;
    while (forked_child == 0)
        sched_yield();
    gpuslice_share_close(&other);
    tenant_open(&other, directory);
    CHECK_EQUAL(other.process->slot_index, 1);
    gpuslice_share_close(&other);
    kill(forked_child, SIGKILL);
    pthread_join(forking_thread, NULL);
    end();
}

int main(int argc, char **argv) {
    return check_main(argc, argv);
}
