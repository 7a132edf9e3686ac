/* Who holds a slot, and when it becomes free: across kill, exec, closed descriptors, threads, users, namespaces. */
#include "check.h"
#include "temporary.h"
#include "tenant_process.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define KIB UINT64_C(1024)
#define LIMIT (64 * KIB)

static const char *directory;
static struct gpuslice_share share; /* of the process that runs the case, in slot 0 */
static int usage_fd;

static void begin(void) {
    char path[256];

    directory = temporary_share(LIMIT);
    tenant_open(&share, directory);
    snprintf(path, sizeof(path), "%s/usage", directory);
    usage_fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(usage_fd >= 0);
}

static void end(void) {
    close(usage_fd);
    gpuslice_share_close(&share);
}

/* Two processes tell each other how far they are by bytes in pipes. */
static int said[2], heard[2];

static void open_pipes(void) {
    CHECK(pipe2(said, O_CLOEXEC) == 0 && pipe2(heard, O_CLOEXEC) == 0);
}

static void close_pipes(void) {
    close(said[0]);
    close(said[1]);
    close(heard[0]);
    close(heard[1]);
}

static void say(int pipe_end) {
    CHECK(write(pipe_end, "", 1) == 1);
}

static bool hear(int pipe_end) {
    char byte;

    return read(pipe_end, &byte, 1) == 1;
}

static int hold_memory(void *bytes) {
    struct gpuslice_share own;

    tenant_open(&own, directory);
    CHECK_EQUAL(gpuslice_reserve(&own, *(uint64_t *)bytes, GPUSLICE_MEMORY_DATA), 0);
    say(said[1]);
    return hear(heard[0]);
}

CASE(a_slot_is_held_until_its_process_is_killed) {
    uint64_t bytes = 8 * KIB;

    begin();
    open_pipes();
    pid_t child = tenant_fork(hold_memory, &bytes);
    hear(said[0]);
    CHECK(gpuslice_slot_is_held(usage_fd, 1));
    CHECK_EQUAL(gpuslice_reap(&share), 0);
    CHECK_EQUAL(gpuslice_reserve(&share, LIMIT, GPUSLICE_MEMORY_DATA), -ENOMEM);
    tenant_kill(child);
    CHECK(!gpuslice_slot_is_held(usage_fd, 1));
    CHECK_EQUAL(gpuslice_reserve(&share, LIMIT, GPUSLICE_MEMORY_DATA), 0);
    close_pipes();
    end();
}

static int hold_memory_and_fork(void *bytes) {
    struct gpuslice_share own;

    tenant_open(&own, directory);
    CHECK_EQUAL(gpuslice_reserve(&own, *(uint64_t *)bytes, GPUSLICE_MEMORY_DATA), 0);
    if (fork() == 0) {
        CHECK(gpuslice_slot_own(&own) == NULL);
        say(said[1]);
        close(heard[1]); /* so that it ends with the process that runs the case */
        _exit(hear(heard[0]));
    }
    pause();
    return 0;
}

CASE(a_killed_process_frees_its_slot_although_its_forked_child_lives) {
    uint64_t bytes = 8 * KIB;

    begin();
    open_pipes();
    pid_t child = tenant_fork(hold_memory_and_fork, &bytes);
    hear(said[0]);
    CHECK(gpuslice_slot_is_held(usage_fd, 1));
    tenant_kill(child);
    CHECK(!gpuslice_slot_is_held(usage_fd, 1));
    tenant_check_total(&share, 0);
    close_pipes(); /* the grandchild ends */
    end();
}

static int close_everything(void *bytes) {
    struct gpuslice_share own;
    int out = said[1], in = heard[0];

    tenant_open(&own, directory);
    CHECK_EQUAL(gpuslice_reserve(&own, *(uint64_t *)bytes, GPUSLICE_MEMORY_DATA), 0);
    for (int fd = 0; fd < 1024; fd++)
        if (fd != out && fd != in)
            close(fd);
    CHECK_EQUAL(gpuslice_reserve(&own, *(uint64_t *)bytes, GPUSLICE_MEMORY_DATA), 0);
    say(out);
    return hear(in);
}

CASE(a_process_that_closes_all_its_descriptors_keeps_its_slot) {
    uint64_t bytes = 8 * KIB;

    begin();
    open_pipes();
    pid_t child = tenant_fork(close_everything, &bytes);
    hear(said[0]);
    CHECK(gpuslice_slot_is_held(usage_fd, 1));
    CHECK_EQUAL(gpuslice_reap(&share), 0);
    CHECK_EQUAL(gpuslice_total_bytes(&share), 2 * bytes);
    tenant_kill(child);
    tenant_check_total(&share, 0);
    close_pipes();
    end();
}

static int hold_memory_and_exec(void *bytes) {
    struct gpuslice_share own;

    tenant_open(&own, directory);
    CHECK_EQUAL(gpuslice_reserve(&own, *(uint64_t *)bytes, GPUSLICE_MEMORY_DATA), 0);
    signal(SIGPIPE, SIG_DFL);
    execl("/bin/sleep", "sleep", "1000", NULL);
    return 1;
}

CASE(a_process_that_becomes_another_program_frees_its_slot) {
    uint64_t bytes = 8 * KIB;

    begin();
    open_pipes();
    pid_t child = tenant_fork(hold_memory_and_exec, &bytes);
    close(said[1]);
    CHECK(!hear(said[0])); /* exec has closed its end; the old address space goes a moment later */
    while (gpuslice_slot_is_held(usage_fd, 1))
        sched_yield();
    tenant_check_total(&share, 0);
    tenant_kill(child);
    said[1] = -1;
    close_pipes();
    end();
}

CASE(what_a_process_finds_in_its_slot_is_its_own) {
    struct gpuslice_share first, second;
    char stat_text[1024] = "", *field;
    struct stat pid_namespace;

    begin();
    tenant_open(&first, directory);
    struct gpuslice_slot *slot = gpuslice_slot_own(&first);
    CHECK(slot == &first.usage->slots[1]);
    gpuslice_charge(&first, 8 * KIB, GPUSLICE_MEMORY_DATA);
    gpuslice_busy_add(&first, 1 << 20, 2 << 20);
    slot->launches = 7;
    munmap((void *)first.process->lock_page, 1); /* dies without a word */

    tenant_open(&second, directory);
    slot = gpuslice_slot_own(&second);
    CHECK(slot == &second.usage->slots[1]);
    CHECK_EQUAL(slot->generation, 2);
    CHECK_EQUAL(tenant_held_bytes(&second, 1), 0);
    CHECK_EQUAL(slot->memory_bytes[GPUSLICE_MEMORY_DATA], 0);
    CHECK_EQUAL(slot->busy_ns, 0);
    CHECK_EQUAL(slot->launches, 0);
    CHECK_EQUAL(slot->pid, getpid());
    CHECK(stat("/proc/self/ns/pid", &pid_namespace) == 0);
    CHECK_EQUAL(slot->pid_namespace, pid_namespace.st_ino);
    FILE *file = fopen("/proc/self/stat", "r");
    CHECK(file && fgets(stat_text, sizeof(stat_text), file));
    fclose(file);
    field = strrchr(stat_text, ')') + 2;
    for (int i = 3; i < 22; i++)
        field = strchr(field, ' ') + 1;
    CHECK_EQUAL(slot->start_time, strtoull(field, NULL, 10));
    gpuslice_share_close(&second);
    end();
}

CASE(the_1025th_process_is_told_that_all_slots_are_taken) {
    static struct gpuslice_share all[GPUSLICE_SLOTS]; /* a share opened twice holds two slots, like two processes */
    const char *reason;

    begin();
    for (uint32_t i = 1; i < GPUSLICE_SLOTS; i++) {
        tenant_open(&all[i], directory);
        CHECK_EQUAL(all[i].process->slot_index, i);
    }
    CHECK_EQUAL(gpuslice_share_open(directory, &all[0], &reason), 0);
    CHECK_EQUAL(gpuslice_slot_claim(&all[0], &reason), -ENOSPC);
    CHECK(strcmp(reason, "all 1024 process slots of the share are taken") == 0);
    CHECK_EQUAL(gpuslice_reserve(&all[0], 1, GPUSLICE_MEMORY_DATA), -ENOSPC);
    gpuslice_share_close(&all[500]);
    CHECK_EQUAL(gpuslice_slot_claim(&all[0], &reason), 0);
    CHECK_EQUAL(all[0].process->slot_index, 500);
    for (uint32_t i = 0; i < GPUSLICE_SLOTS; i++)
        if (i != 500)
            i == 0 ? gpuslice_share_close(&all[0]) : gpuslice_share_close(&all[i]);
    end();
}

static void *say_and_wait(void *unused) {
    (void)unused;
    say(said[1]);
    hear(heard[0]);
    _exit(0);
}

static int end_the_first_thread(void *bytes) {
    struct gpuslice_share own;
    pthread_t thread;

    tenant_open(&own, directory);
    CHECK_EQUAL(gpuslice_reserve(&own, *(uint64_t *)bytes, GPUSLICE_MEMORY_DATA), 0);
    CHECK(pthread_create(&thread, NULL, say_and_wait, NULL) == 0);
    pthread_exit(NULL);
}

CASE(a_slot_is_held_as_long_as_any_thread_lives) {
    uint64_t bytes = 8 * KIB;

    begin();
    open_pipes();
    pid_t child = tenant_fork(end_the_first_thread, &bytes);
    hear(said[0]);
    CHECK(gpuslice_slot_is_held(usage_fd, 1));
    tenant_kill(child);
    tenant_check_total(&share, 0);
    close_pipes();
    end();
}

static int claim_as_nobody(void *unused) {
    struct gpuslice_share own;

    (void)unused;
    CHECK(setgid(65534) == 0 && setuid(65534) == 0);
    tenant_open(&own, directory);
    return gpuslice_reserve(&own, KIB, GPUSLICE_MEMORY_DATA) != 0;
}

CASE(a_process_of_another_user_can_use_the_share) {
    if (getuid() != 0) {
        printf("  not run: only root can become another user\n");
        return;
    }
    begin();
    CHECK(chmod(directory, 0755) == 0);
    CHECK_EQUAL(tenant_wait(tenant_fork(claim_as_nobody, NULL)), 0);
    tenant_check_total(&share, 0);
    end();
}

static int hold_memory_in_a_pid_namespace(void *bytes) {
    int status;

    if (unshare(CLONE_NEWUSER | CLONE_NEWPID) < 0)
        return 77;
    pid_t first = fork(); /* pid 1 of the namespace */
    if (first == 0)
        _exit(hold_memory(bytes));
    waitpid(first, &status, 0);
    return 0;
}

CASE(processes_of_different_pid_namespaces_see_whether_the_other_lives) {
    uint64_t bytes = 8 * KIB;

    begin();
    open_pipes();
    pid_t child = tenant_fork(hold_memory_in_a_pid_namespace, &bytes);
    close(said[1]);
    if (!hear(said[0])) {
        CHECK_EQUAL(tenant_wait(child), 77);
        printf("  not run: no namespaces for this user here\n");
    } else {
        CHECK_EQUAL(share.usage->slots[1].pid, 1);
        CHECK(share.usage->slots[1].pid_namespace != share.usage->slots[0].pid_namespace);
        CHECK_EQUAL(gpuslice_reap(&share), 0);
        say(heard[1]);
        CHECK_EQUAL(tenant_wait(child), 0);
    }
    tenant_check_total(&share, 0);
    said[1] = -1;
    close_pipes();
    end();
}

int main(int argc, char **argv) {
    return check_main(argc, argv);
}
