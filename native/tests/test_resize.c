/* A live resize: whoever reads the limits meanwhile sees the old ones or the new ones, and so does everybody after
 * the agent was killed in the middle of it. */
#include "check.h"
#include "step.h"
#include "temporary.h"
#include "tenant_process.h"

#include <errno.h>
#include <gpuslice/agent.h>
#include <pthread.h>
#include <unistd.h>

#define KIB UINT64_C(1024)

static const char *directory;
static struct gpuslice_share share;
static struct gpuslice_agent_share *agent;
static char why[256];

/* Limits that belong together, so that a mixture of two shows. */
static struct gpuslice_share_limits number(uint32_t n) {
    return (struct gpuslice_share_limits){.memory_bytes = (n + 1) * 64 * KIB,
                                          .overhead_bytes = n,
                                          .cores = n % 101,
                                          .weight = n + 1,
                                          .policy = n & 1,
                                          .priority = n % 3};
}

static bool belong_together(const struct gpuslice_limits *limits) {
    uint32_t n = limits->weight - 1;

    return limits->memory_bytes == (n + 1) * 64 * KIB && limits->overhead_bytes == n && limits->cores == n % 101 &&
           limits->policy == (n & 1) && limits->priority == n % 3;
}

static void begin(void) {
    directory = temporary_share(64 * KIB);
    tenant_open(&share, directory);
}

static int resize_for_ever(void *unused) {
    (void)unused;
    CHECK_EQUAL(gpuslice_agent_share_open(directory, &agent, why), 0);
    for (uint32_t n = 0;; n++) {
        struct gpuslice_share_limits limits = number(n % 1000);

        CHECK_EQUAL(gpuslice_agent_share_set_limits(agent, &limits, why), 0);
    }
}

static _Atomic bool ready_to_stop;

static void *read_for_ever(void *count) {
    while (!ready_to_stop) {
        struct gpuslice_limits limits;

        CHECK(gpuslice_limits_read(share.grant, &limits));
        CHECK(limits.weight == 1 || belong_together(&limits));
        CHECK_EQUAL(gpuslice_reserve(&share, KIB, GPUSLICE_MEMORY_DATA), 0);
        gpuslice_refund(&share, KIB, GPUSLICE_MEMORY_DATA);
        ++*(_Atomic uint64_t *)count;
    }
    return NULL;
}

CASE(readers_see_whole_limits_while_agents_resize_and_are_killed) {
    static _Atomic uint64_t reads;
    pthread_t threads[2];

    begin();
    ready_to_stop = false;
    for (int i = 0; i < 2; i++)
        CHECK(pthread_create(&threads[i], NULL, read_for_ever, (void *)&reads) == 0);
    for (int i = 0; i < 20; i++) {
        uint64_t until = reads + 2000;
        pid_t child = tenant_fork(resize_for_ever, NULL);

        while (reads < until)
            usleep(100);
        tenant_kill(child);
    }
    ready_to_stop = true;
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    tenant_check_total(&share, 0);
    gpuslice_share_close(&share);
}

static void prepare_agent(void *unused) {
    (void)unused;
    CHECK_EQUAL(gpuslice_agent_share_open(directory, &agent, why), 0);
}

static void act_resize(void *unused) {
    struct gpuslice_share_limits limits = number(7);

    (void)unused;
    CHECK_EQUAL(gpuslice_agent_share_set_limits(agent, &limits, why), 0);
}

static unsigned long observe(void) {
    const unsigned char *bytes = (const unsigned char *)share.grant;
    unsigned long hash = 0xcbf29ce484222325;

    for (size_t i = 0; i < sizeof(*share.grant); i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3;
    return hash;
}

CASE(an_agent_killed_within_a_resize_leaves_the_old_limits_or_the_new) {
    bool stopped = true;

    for (unsigned changes = 0; stopped; changes++) {
        struct gpuslice_limits limits;

        begin();
        pid_t child = step_start(prepare_agent, act_resize, NULL);
        stopped = step_until_change(child, changes, observe);
        step_kill(child);
        CHECK(gpuslice_limits_read(share.grant, &limits));
        CHECK_EQUAL(limits.memory_bytes, share.grant->limits_index == 0 ? 64 * KIB : 512 * KIB);
        CHECK_EQUAL(gpuslice_reserve(&share, 512 * KIB, GPUSLICE_MEMORY_DATA),
                    share.grant->limits_index == 0 ? -ENOMEM : 0);
        CHECK(stopped || share.grant->limits_index == 1);

        CHECK_EQUAL(gpuslice_agent_share_open(directory, &agent, why), 0); /* the next agent */
        act_resize(NULL);
        CHECK(gpuslice_limits_read(share.grant, &limits));
        CHECK_EQUAL(limits.memory_bytes, 512 * KIB);
        gpuslice_agent_share_close(agent);
        gpuslice_share_close(&share);
        temporary_remove(directory);
    }
}

int main(int argc, char **argv) {
    return check_main(argc, argv);
}
