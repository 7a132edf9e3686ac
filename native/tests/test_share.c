/* A share within one process: memory against the limit, GPU time, and files that cannot be opened. */
#include "../region/internal.h"
#include "check.h"
#include "temporary.h"
#include "tenant_process.h"

#include <errno.h>
#include <fcntl.h>
#include <gpuslice/agent.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)
#define REACH (UINT64_C(8) << 40) /* what 34 bits of granules count */

#define GRAIN (UINT64_C(1) << GPUSLICE_BUSY_GRAIN_BITS)

static struct gpuslice_share share;
static const char *directory, *reason;
static char why[256];

static void begin(uint64_t memory_bytes) {
    directory = temporary_share(memory_bytes);
    tenant_open(&share, directory);
}

static int reserve(uint64_t bytes) {
    return gpuslice_reserve(&share, bytes, GPUSLICE_MEMORY_DATA);
}

static void resize(uint64_t memory_bytes) {
    struct gpuslice_share_limits limits = {.memory_bytes = memory_bytes, .weight = 1};
    struct gpuslice_agent_share *agent;

    CHECK_EQUAL(gpuslice_agent_share_open(directory, &agent, why), 0);
    CHECK_EQUAL(gpuslice_agent_share_set_limits(agent, &limits, why), 0);
    gpuslice_agent_share_close(agent);
}

CASE(a_share_gives_its_limit_and_no_granule_more) {
    begin(MIB);
    CHECK_EQUAL(reserve(MIB - 512), 0);
    CHECK_EQUAL(reserve(513), -ENOMEM);
    CHECK_EQUAL(reserve(1), 0);
    CHECK_EQUAL(gpuslice_total_bytes(&share), MIB);
    CHECK_EQUAL(reserve(1), -ENOMEM);
    CHECK_EQUAL(reserve(0), 0);
    gpuslice_refund(&share, 1, GPUSLICE_MEMORY_DATA);
    CHECK_EQUAL(gpuslice_total_bytes(&share), MIB - 512);
    gpuslice_share_close(&share);
}

CASE(a_limit_that_is_no_whole_number_of_granules_is_not_exceeded) {
    begin(MIB + 511);
    CHECK_EQUAL(reserve(MIB + 1), -ENOMEM);
    CHECK_EQUAL(reserve(MIB), 0);
    CHECK_EQUAL(reserve(1), -ENOMEM);
    gpuslice_share_close(&share);
}

CASE(sizes_beyond_every_card_are_refused_and_take_nothing) {
    begin(UINT64_MAX);
    for (uint64_t bytes = UINT64_MAX; bytes > REACH; bytes /= 2)
        CHECK_EQUAL(reserve(bytes), -ENOMEM);
    CHECK_EQUAL(gpuslice_total_bytes(&share), 0);
    CHECK_EQUAL(reserve(REACH - 512), 0);
    CHECK_EQUAL(reserve(1), -ENOMEM);
    gpuslice_charge(&share, UINT64_MAX, GPUSLICE_MEMORY_DATA);
    CHECK_EQUAL(gpuslice_total_bytes(&share), REACH - 512);
    gpuslice_refund(&share, UINT64_MAX, GPUSLICE_MEMORY_DATA);
    tenant_check_total(&share, 0);
    gpuslice_share_close(&share);
}

CASE(what_the_driver_has_already_taken_is_charged_beyond_the_limit) {
    begin(MIB);
    gpuslice_charge(&share, 2 * MIB, GPUSLICE_MEMORY_MODULE);
    CHECK_EQUAL(gpuslice_total_bytes(&share), 2 * MIB);
    CHECK_EQUAL(reserve(1), -ENOMEM);
    gpuslice_refund(&share, 2 * MIB, GPUSLICE_MEMORY_MODULE);
    CHECK_EQUAL(reserve(MIB), 0);
    gpuslice_share_close(&share);
}

CASE(no_refund_gives_back_more_than_was_taken) {
    begin(MIB);
    CHECK_EQUAL(reserve(4096), 0);
    gpuslice_refund(&share, 8192, GPUSLICE_MEMORY_DATA);
    gpuslice_refund(&share, 512, GPUSLICE_MEMORY_DATA);
    tenant_check_total(&share, 0);
    CHECK_EQUAL(gpuslice_slot_own(&share)->memory_bytes[GPUSLICE_MEMORY_DATA], 0);
    gpuslice_share_close(&share);
}

CASE(memory_is_counted_by_its_kind_and_pinned_memory_against_no_limit) {
    begin(MIB);
    struct gpuslice_slot *slot = gpuslice_slot_own(&share);

    for (int kind = 0; kind <= GPUSLICE_MEMORY_PINNED; kind++)
        CHECK_EQUAL(gpuslice_reserve(&share, 4096 * (uint64_t)(kind + 1) - 1, (enum gpuslice_memory_kind)kind), 0);
    CHECK_EQUAL(gpuslice_reserve(&share, 4 * MIB, GPUSLICE_MEMORY_PINNED), 0);
    CHECK_EQUAL(slot->memory_bytes[GPUSLICE_MEMORY_PINNED], 6 * 4096 + 4 * MIB);
    CHECK_EQUAL(slot->memory_bytes[GPUSLICE_MEMORY_MANAGED], 5 * 4096);
    CHECK_EQUAL(gpuslice_total_bytes(&share), (1 + 2 + 3 + 4 + 5) * 4096);
    gpuslice_refund(&share, 4 * MIB, GPUSLICE_MEMORY_PINNED);
    gpuslice_refund(&share, 5 * 4096, GPUSLICE_MEMORY_MANAGED);
    CHECK_EQUAL(slot->memory_bytes[GPUSLICE_MEMORY_PINNED], 6 * 4096);
    CHECK_EQUAL(slot->memory_bytes[GPUSLICE_MEMORY_MANAGED], 0);
    CHECK_EQUAL(gpuslice_total_bytes(&share), (1 + 2 + 3 + 4) * 4096);
    gpuslice_share_close(&share);
}

CASE(a_limit_lowered_below_what_is_used_refuses_more_and_takes_back) {
    begin(MIB);
    CHECK_EQUAL(reserve(MIB), 0);
    resize(MIB / 2);
    CHECK_EQUAL(reserve(1), -ENOMEM);
    gpuslice_refund(&share, MIB / 4, GPUSLICE_MEMORY_DATA);
    CHECK_EQUAL(reserve(1), -ENOMEM);
    gpuslice_refund(&share, MIB / 2, GPUSLICE_MEMORY_DATA);
    CHECK_EQUAL(reserve(MIB / 4), 0);
    CHECK_EQUAL(reserve(1), -ENOMEM);
    resize(2 * MIB);
    CHECK_EQUAL(reserve(MIB + MIB / 2), 0);
    CHECK_EQUAL(reserve(1), -ENOMEM);
    gpuslice_share_close(&share);
}

CASE(a_closed_share_leaves_no_memory_behind) {
    struct gpuslice_share other;

    begin(MIB);
    tenant_open(&other, directory);
    CHECK_EQUAL(reserve(MIB), 0);
    gpuslice_share_close(&share);
    CHECK_EQUAL(gpuslice_total_bytes(&other), 0);
    gpuslice_share_close(&other);
}

CASE(gpu_time_is_the_union_of_what_all_processes_executed) {
    struct gpuslice_share other;

    begin(MIB);
    tenant_open(&other, directory);
    CHECK_EQUAL(gpuslice_busy_add(&share, 100 * GRAIN, 300 * GRAIN), 200 * GRAIN);
    CHECK_EQUAL(gpuslice_busy_add(&other, 200 * GRAIN, 400 * GRAIN), 100 * GRAIN);
    CHECK_EQUAL(gpuslice_busy_add(&share, 150 * GRAIN, 350 * GRAIN), 0);
    CHECK_EQUAL(gpuslice_busy_add(&share, 500 * GRAIN, 600 * GRAIN), 100 * GRAIN);
    CHECK_EQUAL(gpuslice_busy_add(&share, 700 * GRAIN, 650 * GRAIN), 0); /* ends before it begins */
    CHECK_EQUAL(share.usage->busy_ns, 400 * GRAIN);
    CHECK_EQUAL(gpuslice_slot_own(&share)->busy_ns, (200 + 50 + 100) * GRAIN);
    CHECK_EQUAL(gpuslice_slot_own(&other)->busy_ns, 200 * GRAIN);
    gpuslice_share_close(&other);
    gpuslice_share_close(&share);
}

CASE(gpu_time_that_is_learned_late_is_counted_all_the_same) {
    struct gpuslice_share other;

    begin(MIB);
    tenant_open(&other, directory);
    CHECK_EQUAL(gpuslice_busy_add(&share, 900 * GRAIN, 1000 * GRAIN), 100 * GRAIN);
    CHECK_EQUAL(gpuslice_busy_add(&other, 100 * GRAIN, 950 * GRAIN), 800 * GRAIN);
    CHECK_EQUAL(gpuslice_busy_add(&share, 200 * GRAIN, 300 * GRAIN), 0);
    CHECK_EQUAL(share.usage->covered_until_ns, 1000 * GRAIN);
    /* A lap of the map later: nothing of it is taken for the old one. */
    uint64_t lap = 32 * GPUSLICE_BUSY_WORDS * GRAIN;
    CHECK_EQUAL(gpuslice_busy_add(&share, lap + 900 * GRAIN, lap + 1000 * GRAIN), 100 * GRAIN);
    /* Longer than the map: all new. */
    CHECK_EQUAL(gpuslice_busy_add(&share, 10 * lap, 13 * lap), 3 * lap);
    gpuslice_share_close(&other);
    gpuslice_share_close(&share);
}

CASE(a_rung_doorbell_is_heard_and_nobody_listening_does_no_harm) {
    struct gpuslice_agent_share *agent;
    char path[256], bytes[8];

    begin(MIB);
    gpuslice_doorbell_ring(&share);
    snprintf(path, sizeof(path), "%s/doorbell", directory);
    int doorbell = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    CHECK(doorbell >= 0);
    CHECK_EQUAL(gpuslice_agent_share_open(directory, &agent, why), 0);
    gpuslice_doorbell_ring(&share);
    gpuslice_doorbell_ring(&share);
    CHECK_EQUAL(read(doorbell, bytes, sizeof(bytes)), 2);
    for (int i = 0; i < 100000; i++)
        gpuslice_doorbell_ring(&share); /* more than a pipe holds */
    gpuslice_agent_share_close(agent);
    close(doorbell);
    gpuslice_share_close(&share);
}

CASE(an_agent_that_dies_while_it_is_rung_at_ends_no_program) {
    char path[256];

    begin(MIB);
    snprintf(path, sizeof(path), "%s/doorbell", directory);
    pid_t agent = fork();

    if (agent == 0)
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (int doorbell; agent == 0; close(doorbell))
        doorbell = open(path, O_RDONLY | O_NONBLOCK);
    for (int i = 0; i < 100000; i++)
        gpuslice_doorbell_ring(&share); /* SIGPIPE would be the end of this process */
    kill(agent, SIGKILL);
    waitpid(agent, NULL, 0);
    gpuslice_share_close(&share);
}

/* --- what cannot be opened ------------------------------------------------------------------------------------ */

static void overwrite(const char *name, size_t offset, const void *bytes, size_t count) {
    char path[256];

    snprintf(path, sizeof(path), "%s/%s", directory, name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    CHECK(fd >= 0 && pwrite(fd, bytes, count, (off_t)offset) == (ssize_t)count);
    close(fd);
}

static void set_size(const char *name, off_t bytes) {
    char path[256];

    snprintf(path, sizeof(path), "%s/%s", directory, name);
    CHECK(truncate(path, bytes) == 0);
}

static void check_refused(int error, const char *sentence) {
    reason = "";
    int got = gpuslice_share_open(directory, &share, &reason);

    if (got != error || !strstr(reason, sentence))
        fprintf(stderr, "%d %s\n", got, reason);
    CHECK(got == error && strstr(reason, sentence));
}

CASE(a_share_without_files_is_refused) {
    directory = temporary_directory();
    check_refused(-ENOENT, "/grant: No such file or directory");
    directory = "/nowhere";
    check_refused(-ENOENT, "cannot open /nowhere/grant");
}

CASE(a_path_that_is_too_long_is_refused) {
    static char path[GPUSLICE_DIRECTORY_BYTES + 1];

    memset(path, 'x', sizeof(path) - 1);
    directory = path;
    check_refused(-ENAMETOOLONG, "the path of the share is longer than 4031 bytes");
}

CASE(a_file_of_the_wrong_size_is_refused) {
    directory = temporary_share(MIB);
    set_size("usage", 4096);
    check_refused(-EPROTO, "the usage file is corrupt: it has 4096 bytes instead of 295168");
    set_size("usage", 295169);
    check_refused(-EPROTO, "the usage file is corrupt: it has 295169 bytes instead of 295168");
    set_size("usage", 0);
    set_size("usage", 295168);
    check_refused(-EPROTO, "the usage file is corrupt: it does not begin with gpuslice's mark");
    set_size("grant", 0);
    check_refused(-EPROTO, "the grant file is corrupt: it has 0 bytes instead of 384");
}

CASE(a_file_that_is_no_file_is_refused_at_once) {
    char path[256];

    directory = temporary_share(MIB);
    snprintf(path, sizeof(path), "%s/usage", directory);
    CHECK(unlink(path) == 0 && mkfifo(path, 0666) == 0);
    check_refused(-EPROTO, "the usage file is corrupt");
}

CASE(files_of_another_major_version_are_refused_with_both_versions) {
    uint32_t version[2] = {2, 7};

    directory = temporary_share(MIB);
    overwrite("usage", offsetof(struct gpuslice_usage, abi_major), version, sizeof(version));
    check_refused(-EPROTO, "the usage file has ABI 2.7 and this library speaks 1.0");
    overwrite("grant", offsetof(struct gpuslice_grant, abi_major), version, sizeof(version));
    check_refused(-EPROTO, "the grant file has ABI 2.7 and this library speaks 1.0");
}

CASE(files_of_another_minor_version_are_welcome) {
    uint32_t minor = 9;

    directory = temporary_share(MIB);
    overwrite("usage", offsetof(struct gpuslice_usage, abi_minor), &minor, sizeof(minor));
    overwrite("grant", offsetof(struct gpuslice_grant, abi_minor), &minor, sizeof(minor));
    CHECK_EQUAL(gpuslice_share_open(directory, &share, &reason), 0);
    gpuslice_share_close(&share);
}

CASE(a_corrupt_grant_is_refused) {
    char text[GPUSLICE_UUID_BYTES];

    directory = temporary_share(MIB);
    overwrite("grant", offsetof(struct gpuslice_grant, limits), "x", 1);
    CHECK_EQUAL(gpuslice_share_open(directory, &share, &reason), 0); /* the other copy is whole */
    gpuslice_share_close(&share);
    overwrite("grant", offsetof(struct gpuslice_grant, limits[1].cores), "x", 1);
    check_refused(-EPROTO, "neither copy of its limits has a right checksum");
    memset(text, 'G', sizeof(text));
    overwrite("grant", offsetof(struct gpuslice_grant, gpu_uuid), text, sizeof(text));
    check_refused(-EPROTO, "its GPU UUID or share id has no end");
    overwrite("grant", 0, "junk", 4);
    check_refused(-EPROTO, "the grant file is corrupt: it does not begin with gpuslice's mark");
}

CASE(a_grant_that_is_damaged_later_grants_nothing_more) {
    begin(MIB);
    CHECK_EQUAL(reserve(4096), 0);
    overwrite("grant", offsetof(struct gpuslice_grant, limits[0].memory_bytes), "xx", 2);
    overwrite("grant", offsetof(struct gpuslice_grant, limits[1].memory_bytes), "xx", 2);
    CHECK_EQUAL(reserve(4096), -EPROTO);
    gpuslice_refund(&share, 4096, GPUSLICE_MEMORY_DATA);
    tenant_check_total(&share, 0);
    gpuslice_share_close(&share);
}

CASE(a_share_whose_files_were_replaced_is_not_claimed_in) {
    char from[256], to[256];

    directory = temporary_share(MIB);
    CHECK_EQUAL(gpuslice_share_open(directory, &share, &reason), 0);
    snprintf(from, sizeof(from), "%s/usage", temporary_share(MIB));
    snprintf(to, sizeof(to), "%s/usage", directory);
    CHECK(rename(from, to) == 0);
    CHECK_EQUAL(gpuslice_slot_claim(&share, &reason), -ESTALE);
    CHECK_EQUAL(reserve(4096), -ESTALE);
    gpuslice_share_close(&share);
}

int main(int argc, char **argv) {
    return check_main(argc, argv);
}
