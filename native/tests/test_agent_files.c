/* The agent's side of a share: new files, and reading what a tenant may have written, cut, grown or locked. */
#include "../region/words.h"
#include "check.h"
#include "random.h"
#include "temporary.h"
#include "tenant_process.h"

#include <errno.h>
#include <fcntl.h>
#include <gpuslice/agent.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)
#define USAGE_BYTES ((off_t)sizeof(struct gpuslice_usage))
#define HEAD_BYTES 24 /* mark, version, size, number of slots */
#define UUID "GPU-00000000-0000-0000-0000-000000000001"

static const struct gpuslice_share_limits limits = {
    .memory_bytes = MIB, .overhead_bytes = 4096, .cores = 30, .weight = 3, .policy = 1, .priority = 2, .overcommit = 1};
static const char *directory;
static char why[256];

static const char *in_directory(const char *name) {
    static char path[256];

    snprintf(path, sizeof(path), "%s/%s", directory, name);
    return path;
}

static unsigned mode_of(const char *name) {
    struct stat status;

    CHECK(lstat(in_directory(name), &status) == 0);
    return status.st_mode & 07777;
}

CASE(the_files_can_be_used_by_everybody_whatever_the_umask) {
    mode_t before = umask(077);

    directory = temporary_directory();
    CHECK_EQUAL(gpuslice_files_create(directory, UUID, "share-1", &limits, why), 0);
    umask(before);
    CHECK_EQUAL(mode_of("grant"), 0644);
    CHECK_EQUAL(mode_of("usage"), 0666);
    CHECK_EQUAL(mode_of("doorbell"), 0666);
}

CASE(a_new_share_says_what_was_asked) {
    struct gpuslice_agent_share *agent;
    struct gpuslice_share_limits got;
    struct gpuslice_share share;
    const char *reason;

    directory = temporary_directory();
    CHECK_EQUAL(gpuslice_files_create(directory, UUID, "share-1", &limits, why), 0);
    CHECK_EQUAL(gpuslice_agent_share_open(directory, &agent, why), 0);
    CHECK_EQUAL(gpuslice_agent_share_get_limits(agent, &got, why), 0);
    CHECK_EQUAL(got.memory_bytes, limits.memory_bytes);
    CHECK_EQUAL(got.overhead_bytes, limits.overhead_bytes);
    CHECK_EQUAL(got.cores, limits.cores);
    CHECK_EQUAL(got.weight, limits.weight);
    CHECK_EQUAL(got.policy, limits.policy);
    CHECK_EQUAL(got.priority, limits.priority);
    CHECK_EQUAL(got.overcommit, limits.overcommit);
    gpuslice_agent_share_close(agent);
    CHECK_EQUAL(gpuslice_share_open(directory, &share, &reason), 0);
    CHECK(strcmp(share.grant->gpu_uuid, UUID) == 0 && strcmp(share.grant->share_id, "share-1") == 0);
    CHECK(share.grant->resident_target_bytes == UINT64_MAX);
    gpuslice_share_close(&share);
}

CASE(files_that_are_there_are_left_alone) {
    struct stat before, after;

    directory = temporary_share(MIB);
    CHECK(stat(in_directory("usage"), &before) == 0);
    CHECK_EQUAL(gpuslice_files_create(directory, UUID, "share-1", &limits, why), -EEXIST);
    CHECK(stat(in_directory("usage"), &after) == 0);
    CHECK_EQUAL(before.st_ino, after.st_ino);
    CHECK_EQUAL(mode_of("grant"), 0644);
}

CASE(limits_that_cannot_be_are_refused_with_a_sentence) {
    struct gpuslice_agent_share *agent;
    struct gpuslice_share_limits wrong[6] = {limits, limits, limits, limits, limits, limits};
    static const char *const sentences[6] = {"a share's memory limit is at least 512 bytes, not 0",
                                             "cores is a percentage from 0 to 100, not 101",
                                             "a share's weight is 1 or more, not 0",
                                             "there is no policy number 2",
                                             "there is no priority number 3",
                                             "there is no overcommit mode number 2"};

    wrong[0].memory_bytes = 0;
    wrong[1].cores = 101;
    wrong[2].weight = 0;
    wrong[3].policy = 2;
    wrong[4].priority = 3;
    wrong[5].overcommit = 2;
    directory = temporary_share(MIB);
    CHECK_EQUAL(gpuslice_agent_share_open(directory, &agent, why), 0);
    for (int i = 0; i < 6; i++) {
        CHECK_EQUAL(gpuslice_agent_share_set_limits(agent, &wrong[i], why), -EINVAL);
        CHECK(strcmp(why, sentences[i]) == 0);
        CHECK_EQUAL(gpuslice_files_create("/nowhere", UUID, "share-1", &wrong[i], why), -EINVAL);
    }
    gpuslice_agent_share_close(agent);
    CHECK_EQUAL(gpuslice_files_create("/nowhere", UUID, "share-1", &limits, why), -ENOENT);
    CHECK(strstr(why, "cannot create the files of a share in /nowhere: No such file or directory"));
}

static bool write_text(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool written = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

    close(fd);
    return written;
}

/* A mount namespace of our own; who is not root becomes it in a user namespace. */
static bool may_mount(void) {
    char users[64], groups[64];

    snprintf(users, sizeof(users), "0 %u 1", (unsigned)getuid());
    snprintf(groups, sizeof(groups), "0 %u 1", (unsigned)getgid());
    if (getuid() != 0 && (unshare(CLONE_NEWUSER) < 0 || !write_text("/proc/self/uid_map", users) ||
                          !write_text("/proc/self/setgroups", "deny") || !write_text("/proc/self/gid_map", groups)))
        return false;
    return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

/* 0: nothing was left behind. 77: this user cannot mount here. */
static int fill_a_small_disk(void *kibibytes) {
    char options[64];

    if (!may_mount())
        return 77;
    snprintf(options, sizeof(options), "size=%dk", *(int *)kibibytes);
    if (mount("tmpfs", directory, "tmpfs", 0, options) < 0)
        return 77;
    CHECK_EQUAL(gpuslice_files_create(directory, UUID, "share-1", &limits, why), -ENOSPC);
    CHECK(strstr(why, "no room for the files of a share ("));
    CHECK(rmdir(directory) < 0); /* it is a mount point; but is it empty? */
    static const char *const names[] = {"grant", "usage", "doorbell", ".grant.new"};
    for (int i = 0; i < 4; i++)
        CHECK(access(in_directory(names[i]), F_OK) < 0);
    CHECK(umount(directory) == 0);
    return 0;
}

CASE(a_full_disk_leaves_nothing_behind) {
    int whole = (int)(USAGE_BYTES / 4096) * 4 + 4; /* KiB: room for all but the grant */
    int sizes[] = {64, 128, 256, whole};

    for (int i = 0; i < 4; i++) {
        directory = temporary_directory();
        int status = tenant_wait(tenant_fork(fill_a_small_disk, &sizes[i]));

        if (status == 77)
            printf("  not run: no mounts for this user here\n");
        else
            CHECK_EQUAL(status, 0);
    }
}

/* --- a hostile tenant ----------------------------------------------------------------------------------------- */

static struct gpuslice_agent_share *agent;
static struct gpuslice_share_usage usage;
static struct gpuslice_process_usage processes[4];
static int tenant_fd;

static void begin_hostile(void) {
    directory = temporary_share(MIB);
    CHECK_EQUAL(gpuslice_agent_share_open(directory, &agent, why), 0);
    tenant_fd = open(in_directory("usage"), O_RDWR | O_CLOEXEC);
    CHECK(tenant_fd >= 0);
}

static void end_hostile(void) {
    close(tenant_fd);
    gpuslice_agent_share_close(agent);
}

static int look(void) {
    return gpuslice_agent_share_usage(agent, &usage, processes, 4, why);
}

static void hold_slots(off_t start, off_t count) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = start, .l_len = count};

    CHECK(fcntl(tenant_fd, F_OFD_SETLK, &lock) == 0);
}

CASE(a_usage_file_cut_or_grown_is_reported_corrupt) {
    static const off_t sizes[] = {0, 1, 255, 256, USAGE_BYTES - 1, USAGE_BYTES + 1, 1 << 30};

    begin_hostile();
    hold_slots(0, 0);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        CHECK(ftruncate(tenant_fd, sizes[i]) == 0);
        CHECK_EQUAL(look(), -EPROTO);
        CHECK(strstr(why, "the usage file is corrupt: it has "));
    }
    CHECK(ftruncate(tenant_fd, USAGE_BYTES) == 0);
    CHECK_EQUAL(look(), -EPROTO);
    CHECK(strstr(why, "does not begin with gpuslice's mark"));
    end_hostile();
}

CASE(a_usage_file_full_of_ones_overflows_nothing) {
    static unsigned char ones[USAGE_BYTES - HEAD_BYTES];

    begin_hostile();
    memset(ones, 0xff, sizeof(ones));
    CHECK(pwrite(tenant_fd, ones, sizeof(ones), HEAD_BYTES) == (ssize_t)sizeof(ones));
    hold_slots(0, 0); /* every byte there is */
    CHECK_EQUAL(look(), 0);
    CHECK_EQUAL(usage.process_count, GPUSLICE_SLOTS);
    CHECK_EQUAL(usage.live_bytes, GPUSLICE_SLOTS * GRANULES_MAX * GPUSLICE_GRANULE);
    CHECK_EQUAL(usage.total_bytes, GRANULES_MAX * GPUSLICE_GRANULE);
    CHECK(usage.busy_ns <= gpuslice_now_ns());
    CHECK_EQUAL(processes[3].slot, 3);
    CHECK(processes[3].busy_ns <= gpuslice_now_ns() && processes[3].last_activity_ns <= gpuslice_now_ns());
    CHECK(processes[3].launches <= INT64_MAX && processes[3].throttled_ns <= INT64_MAX);
    CHECK(processes[3].data_bytes <= GRANULES_MAX * GPUSLICE_GRANULE);
    end_hostile();
}

CASE(locks_of_any_extent_show_each_held_slot_once) {
    const off_t base = (off_t)GPUSLICE_LOCK_BASE;

    begin_hostile();
    hold_slots(0, 1024); /* below the slots: none */
    CHECK_EQUAL(look(), 0);
    CHECK_EQUAL(usage.process_count, 0);
    hold_slots(base - 5, 6);
    hold_slots(base + 500, 2);
    hold_slots(base + 1022, 100);
    CHECK_EQUAL(look(), 0);
    CHECK_EQUAL(usage.process_count, 1 + 2 + 2);
    CHECK_EQUAL(processes[0].slot, 0);
    CHECK_EQUAL(processes[1].slot, 500);
    CHECK_EQUAL(processes[2].slot, 501);
    CHECK_EQUAL(processes[3].slot, 1022);
    end_hostile();
}

/* Every other byte below the slots, so that no two locks are made one. */
static void lock_often(unsigned count) {
    for (off_t i = 0; i < (off_t)count; i++)
        hold_slots(2 * i, 1);
}

CASE(a_usage_file_with_too_many_locks_is_reported_and_still_held) {
    const off_t base = (off_t)GPUSLICE_LOCK_BASE;

    begin_hostile();
    lock_often(20000);
    CHECK_EQUAL(gpuslice_agent_share_process_count(agent), 0);
    for (off_t slot = 0; slot < GPUSLICE_SLOTS; slot += 2)
        hold_slots(base + slot, 1);
    CHECK_EQUAL(look(), -EPROTO);
    CHECK(strstr(why, "so many locks"));
    uint32_t count = gpuslice_agent_share_process_count(agent);

    CHECK(count > 0 && count < GPUSLICE_SLOTS / 2); /* the rest would have taken too long */
    end_hostile();
}

CASE(a_share_full_of_processes_is_read_whole_in_whatever_order_they_came) {
    begin_hostile();
    for (off_t slot = GPUSLICE_SLOTS; slot-- > 0;)
        hold_slots((off_t)GPUSLICE_LOCK_BASE + slot, 1);
    CHECK_EQUAL(look(), 0);
    CHECK_EQUAL(gpuslice_agent_share_process_count(agent), GPUSLICE_SLOTS);
    end_hostile();
}

/* A process that shares the file with garbage finds its own numbers useless, but ends every call. */
CASE(random_contents_crash_nobody) {
    static unsigned char noise[USAGE_BYTES - HEAD_BYTES];
    uint64_t seed = random_fresh();
    struct random random = random_seeded(seed);

    printf("  seed %llu\n", (unsigned long long)seed);
    begin_hostile();
    for (int round = 0; round < 50; round++) {
        struct gpuslice_share share;

        for (size_t i = 0; i < sizeof(noise); i++)
            noise[i] = (unsigned char)random_next(&random);
        CHECK(pwrite(tenant_fd, noise, sizeof(noise), HEAD_BYTES) == (ssize_t)sizeof(noise));
        CHECK_EQUAL(look(), 0);
        tenant_open(&share, directory);
        gpuslice_reserve(&share, 4096, GPUSLICE_MEMORY_DATA);
        gpuslice_charge(&share, 4096, GPUSLICE_MEMORY_DATA);
        gpuslice_refund(&share, 1 << 20, GPUSLICE_MEMORY_DATA);
        gpuslice_busy_add(&share, 1, UINT64_MAX);
        gpuslice_reap(&share);
        CHECK_EQUAL(look(), 0);
        CHECK_EQUAL(usage.process_count, 1);
        gpuslice_share_close(&share);
    }
    end_hostile();
}

CASE(a_process_with_its_numbers_is_seen_until_it_ends) {
    struct gpuslice_share share, other;

    begin_hostile();
    tenant_open(&share, directory);
    tenant_open(&other, directory);
    gpuslice_reserve(&share, 4096, GPUSLICE_MEMORY_CONTEXT);
    gpuslice_reserve(&other, 8192, GPUSLICE_MEMORY_DATA);
    gpuslice_busy_add(&share, 1 << 20, 3 << 20);
    CHECK_EQUAL(look(), 0);
    CHECK_EQUAL(usage.total_bytes, 4096 + 8192);
    CHECK_EQUAL(usage.live_bytes, 4096 + 8192);
    CHECK_EQUAL(usage.busy_ns, 2 << 20);
    CHECK_EQUAL(usage.process_count, 2);
    CHECK_EQUAL(usage.pacing_local, 1);
    CHECK_EQUAL(processes[0].pid, getpid());
    CHECK_EQUAL(processes[0].held_bytes, 4096);
    CHECK_EQUAL(processes[0].context_bytes, 4096);
    CHECK_EQUAL(processes[0].busy_ns, 2 << 20);
    CHECK_EQUAL(processes[1].data_bytes, 8192);
    gpuslice_share_close(&share);
    CHECK_EQUAL(look(), 0);
    CHECK_EQUAL(usage.process_count, 1);
    CHECK_EQUAL(processes[0].slot, 1);
    gpuslice_share_close(&other);
    end_hostile();
}

CASE(the_arbiter_paces_a_share_from_the_moment_it_is_added) {
    struct gpuslice_arbiter *arbiter;

    begin_hostile();
    CHECK_EQUAL(gpuslice_arbiter_start(&arbiter, why), 0);
    CHECK_EQUAL(look(), 0);
    CHECK_EQUAL(usage.pacing_local, 1);
    CHECK_EQUAL(gpuslice_arbiter_add(arbiter, agent, why), 0);
    CHECK_EQUAL(look(), 0);
    CHECK_EQUAL(usage.pacing_local, 0);
    CHECK_EQUAL(gpuslice_arbiter_remove(arbiter, agent), 0);
    gpuslice_arbiter_stop(arbiter);
    end_hostile();
}

int main(int argc, char **argv) {
    return check_main(argc, argv);
}
