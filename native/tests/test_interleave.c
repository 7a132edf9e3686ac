/* Three processes of one share, advanced one machine instruction at a time in a random order: reserving, refunding
 * and reaping in every interleaving that chance finds, and now and then one is killed where it stands. Whatever
 * happened, the total is the sum of what the slots hold, and after the dead are reaped, of what the living hold.
 *
 *   test_interleave [SEED [ROUNDS]]    the seed of a failed round is printed
 */
#include "check.h"
#include "random.h"
#include "step.h"
#include "temporary.h"
#include "tenant_process.h"

#define LIMIT (UINT64_C(64) << 10)
#define PROCESSES 3
#define ACTIONS 3
#define BURST_MAX 64 /* instructions in a row, at most; each round has a bound of its own below it */

static const char *directory;
static struct gpuslice_share observer; /* in slot 0, holds nothing */
static struct gpuslice_share own;      /* in each child */

static void prepare(void *argument) {
    (void)argument;
    tenant_open(&own, directory);
    gpuslice_charge(&own, 8 << 10, GPUSLICE_MEMORY_DATA);
}

static void act(void *argument) {
    struct random random = random_seeded(*(const uint64_t *)argument);

    for (int i = 0; i < ACTIONS; i++) {
        uint64_t bytes = random_below(&random, 40 << 10);

        switch (random_below(&random, 8)) {
        case 0:
            gpuslice_reap(&own);
            break;
        case 1:
        case 2:
        case 3:
            gpuslice_refund(&own, bytes, GPUSLICE_MEMORY_DATA);
            break;
        default:
            gpuslice_reserve(&own, bytes, GPUSLICE_MEMORY_DATA);
        }
    }
}

struct subject {
    pid_t pid;
    bool acts, lives;
    uint64_t seed;
};

static void advance(struct subject *subject, struct random *random, uint64_t burst) {
    for (uint64_t left = 1 + random_below(random, burst); left > 0 && subject->acts; left--)
        subject->acts = step_once(subject->pid);
    if (subject->acts && random_below(random, 200) == 0) {
        step_kill(subject->pid);
        subject->acts = subject->lives = false;
    }
}

static void round_with(uint64_t seed) {
    struct random random = random_seeded(seed);
    struct subject subjects[PROCESSES];
    uint64_t living = 0, burst = 1 + random_below(&random, BURST_MAX);
    int acting = PROCESSES;

    directory = temporary_share(LIMIT);
    tenant_open(&observer, directory);
    for (int i = 0; i < PROCESSES; i++) {
        subjects[i] = (struct subject){.acts = true, .lives = true, .seed = random_next(&random)};
        subjects[i].pid = step_start(prepare, act, &subjects[i].seed);
    }
    while (acting > 0) {
        advance(&subjects[random_below(&random, PROCESSES)], &random, burst);
        acting = 0;
        for (int i = 0; i < PROCESSES; i++)
            acting += subjects[i].acts;
    }
    tenant_check_sum(&observer);
    gpuslice_reap(&observer);
    for (uint32_t i = 0; i < PROCESSES; i++) {
        if (!subjects[i].lives)
            CHECK_EQUAL(tenant_held_bytes(&observer, i + 1), 0);
        living += tenant_held_bytes(&observer, i + 1);
    }
    CHECK(living <= LIMIT);
    tenant_check_total(&observer, living);
    for (int i = 0; i < PROCESSES; i++)
        if (subjects[i].lives)
            CHECK_EQUAL(step_release(subjects[i].pid), 0);
    tenant_check_total(&observer, 0);
    gpuslice_share_close(&observer);
    temporary_remove(directory);
}

int main(int argc, char **argv) {
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : random_fresh();
    uint64_t rounds = argc > 2 ? strtoull(argv[2], NULL, 0) : 15;
    char name[64];

    check_running = name;
    for (uint64_t i = 0; i < rounds; i++) {
        snprintf(name, sizeof(name), "seed %llu", (unsigned long long)(seed + i));
        round_with(seed + i);
    }
    printf("%llu rounds from seed %llu\n", (unsigned long long)rounds, (unsigned long long)seed);
    return 0;
}
