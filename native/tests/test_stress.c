/* Processes of one share that come, reserve, refund, charge, fork, close everything, end or are killed, at random,
 * while an agent reads and resizes: at the end of each round not a byte is charged, no slot is taken, no total wrong.
 *
 *   test_stress [SECONDS [SEED]]    the seed is printed; it fixes what each process does, not how they interleave
 */
#include "check.h"
#include "random.h"
#include "temporary.h"
#include "tenant_process.h"

#include <errno.h>
#include <gpuslice/agent.h>
#include <signal.h>
#include <unistd.h>

#define KIB UINT64_C(1024)
#define LIMIT (1024 * KIB)
#define PROCESSES 8
#define PIECES 16

struct tenant {
    struct gpuslice_share share;
    uint64_t pieces[PIECES]; /* bytes held, by this process's own account */
    struct random random;
};

static const char *directory;

static uint64_t own_account(const struct tenant *tenant) {
    uint64_t sum = 0;

    for (int i = 0; i < PIECES; i++)
        sum += tenant->pieces[i];
    return sum;
}

static void take_or_give_back(struct tenant *tenant) {
    uint64_t *piece = &tenant->pieces[random_below(&tenant->random, PIECES)];
    uint64_t bytes = (1 + random_below(&tenant->random, 256)) * GPUSLICE_GRANULE;
    enum gpuslice_memory_kind kind = (enum gpuslice_memory_kind)random_below(&tenant->random, GPUSLICE_MEMORY_PINNED);

    if (*piece) {
        gpuslice_refund(&tenant->share, *piece, kind);
        *piece = 0;
    } else if (random_below(&tenant->random, 20) == 0) {
        gpuslice_charge(&tenant->share, bytes, kind);
        *piece = bytes;
    } else {
        int error = gpuslice_reserve(&tenant->share, bytes, kind);

        CHECK_EQUAL(error, error ? -ENOMEM : 0);
        *piece = error ? 0 : bytes;
    }
}

static int work_as_a_forked_child(void *argument) {
    struct tenant *tenant = argument;

    memset(tenant->pieces, 0, sizeof(tenant->pieces));
    tenant->random.state++;
    for (int i = 0; i < 50; i++)
        take_or_give_back(tenant);
    CHECK_EQUAL(tenant_held_bytes(&tenant->share, tenant->share.process->slot_index), own_account(tenant));
    return 0;
}

static void close_all_descriptors(void) {
    for (int fd = 3; fd < 64; fd++)
        close(fd);
}

/* Works until its dice, or somebody else, end it. */
static int work(void *argument) {
    static struct tenant tenant;

    tenant.random = random_seeded(*(const uint64_t *)argument);
    tenant_open(&tenant.share, directory);
    for (;;) {
        uint64_t dice = random_below(&tenant.random, 20000);

        take_or_give_back(&tenant);
        CHECK_EQUAL(tenant_held_bytes(&tenant.share, tenant.share.process->slot_index), own_account(&tenant));
        if (dice < 2)
            raise(SIGKILL);
        else if (dice < 4)
            return 0;
        else if (dice < 5) {
            gpuslice_share_close(&tenant.share);
            return 0;
        } else if (dice < 8)
            CHECK_EQUAL(tenant_wait(tenant_fork(work_as_a_forked_child, &tenant)), 0);
        else if (dice < 10)
            close_all_descriptors();
        else if (dice < 30)
            gpuslice_reap(&tenant.share);
    }
}

static void look_and_resize(struct gpuslice_agent_share *agent, struct random *random) {
    struct gpuslice_process_usage processes[PROCESSES];
    struct gpuslice_share_usage usage;
    struct gpuslice_share_limits limits = {.memory_bytes = LIMIT / (1 + random_below(random, 4)), .weight = 1};
    char why[256];

    CHECK_EQUAL(gpuslice_agent_share_usage(agent, &usage, processes, PROCESSES, why), 0);
    CHECK_EQUAL(gpuslice_agent_share_set_limits(agent, &limits, why), 0);
}

static void check_ended_well(pid_t child) {
    int status = tenant_wait(child);

    CHECK(status == 0 || status == 128 + SIGKILL);
}

/* Everybody is killed; then the share is as it was when it was new. */
static void end_round(struct gpuslice_share *observer, struct gpuslice_agent_share *agent, pid_t *children) {
    struct gpuslice_share_usage usage;
    char why[256];

    for (int i = 0; i < PROCESSES; i++) {
        kill(children[i], SIGKILL);
        check_ended_well(children[i]);
    }
    do /* children of those killed end by PR_SET_PDEATHSIG, in their own time */
        CHECK_EQUAL(gpuslice_agent_share_usage(agent, &usage, NULL, 0, why), 0);
    while (usage.process_count > 1);
    tenant_check_total(observer, 0);
}

static void round_with(uint64_t seed, uint64_t until_ns) {
    struct gpuslice_share observer;
    struct gpuslice_agent_share *agent;
    struct random random = random_seeded(seed);
    pid_t children[PROCESSES];
    uint64_t seeds[PROCESSES];
    char why[256];

    directory = temporary_share(LIMIT);
    tenant_open(&observer, directory);
    CHECK_EQUAL(gpuslice_agent_share_open(directory, &agent, why), 0);
    for (int i = 0; i < PROCESSES; i++) {
        seeds[i] = random_next(&random);
        children[i] = tenant_fork(work, &seeds[i]);
    }
    for (int i = 0; i < 200 && gpuslice_now_ns() < until_ns; i++) {
        uint64_t victim = random_below(&random, PROCESSES);

        usleep((useconds_t)random_below(&random, 2000));
        kill(children[victim], SIGKILL);
        check_ended_well(children[victim]);
        look_and_resize(agent, &random);
        seeds[victim] = random_next(&random);
        children[victim] = tenant_fork(work, &seeds[victim]);
    }
    end_round(&observer, agent, children);
    gpuslice_agent_share_close(agent);
    gpuslice_share_close(&observer);
    temporary_remove(directory);
}

int main(int argc, char **argv) {
    uint64_t seconds = argc > 1 ? strtoull(argv[1], NULL, 0) : 3;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : random_fresh();
    uint64_t until_ns = gpuslice_now_ns() + seconds * UINT64_C(1000000000);
    unsigned rounds = 0;
    char name[64];

    check_running = name;
    do {
        snprintf(name, sizeof(name), "seed %llu", (unsigned long long)seed);
        printf("%s\n", name);
        round_with(seed++, until_ns);
        rounds++;
    } while (gpuslice_now_ns() < until_ns);
    printf("%u rounds\n", rounds);
    return 0;
}
