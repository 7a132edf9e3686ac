/* A process that is killed, or frozen, between any two instructions of a transaction leaves no byte charged, no byte
 * missing and no slot taken, and keeps nobody waiting. Each case leads a victim to its first visible change, its
 * second, and so on, until it gets through. */
#include "check.h"
#include "step.h"
#include "temporary.h"
#include "tenant_process.h"

#include <errno.h>

#define KIB UINT64_C(1024)
#define LIMIT (64 * KIB)
#define SURVIVOR_HOLDS (16 * KIB)
#define VICTIM_HELD (8 * KIB)
#define DEAD_HELD (4 * KIB)
#define SLOTS_WATCHED 4

/* A transaction's changes: the intent's number, before and after; the total, which commits; the held word; the tally.
 */
enum { NUMBER = 1, BEFORE, AFTER, COMMITTED, APPLIED, TALLIED };

static const char *directory;
static struct gpuslice_share survivor; /* in slot 0 */
static struct gpuslice_share victim;   /* in the child only */

static void new_share(void) {
    directory = temporary_share(LIMIT);
    tenant_open(&survivor, directory);
    CHECK_EQUAL(gpuslice_reserve(&survivor, SURVIVOR_HOLDS, GPUSLICE_MEMORY_DATA), 0);
}

/* FNV-1a over everything that the victims here can change. */
static unsigned long observe(void) {
    const unsigned char *bytes = (const unsigned char *)survivor.usage;
    unsigned long hash = 0xcbf29ce484222325;

    for (size_t i = 0; i < offsetof(struct gpuslice_usage, slots[SLOTS_WATCHED]); i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3;
    return hash;
}

static void prepare_victim(void *unused) {
    (void)unused;
    tenant_open(&victim, directory);
    CHECK_EQUAL(gpuslice_reserve(&victim, VICTIM_HELD, GPUSLICE_MEMORY_DATA), 0);
}

static void act_reserve(void *unused) {
    (void)unused;
    CHECK_EQUAL(gpuslice_reserve(&victim, 3 * KIB, GPUSLICE_MEMORY_ARRAY), 0);
}

static void act_refund(void *unused) {
    (void)unused;
    gpuslice_refund(&victim, 5 * KIB, GPUSLICE_MEMORY_DATA);
}

static void act_reap(void *unused) {
    (void)unused;
    gpuslice_reap(&victim);
}

static void prepare_newcomer(void *unused) {
    const char *reason;

    (void)unused;
    CHECK_EQUAL(gpuslice_share_open(directory, &victim, &reason), 0);
}

static void act_claim(void *unused) {
    const char *reason;

    (void)unused;
    CHECK_EQUAL(gpuslice_slot_claim(&victim, &reason), 0);
}

static int leave_memory_behind(void *unused) {
    (void)unused;
    tenant_open(&victim, directory);
    return gpuslice_reserve(&victim, DEAD_HELD, GPUSLICE_MEMORY_DATA);
}

static void someone_dies(void) {
    CHECK_EQUAL(tenant_wait(tenant_fork(leave_memory_behind, NULL)), 0);
}

static void prepare_reaper(void *unused) {
    prepare_victim(unused);
    someone_dies();
}

/* All of the limit but what the survivor holds can be had again: by the survivor at once, and by a newcomer in the
 * very slot of the dead. */
static void check_all_is_free(void) {
    struct gpuslice_share newcomer;

    CHECK_EQUAL(gpuslice_reserve(&survivor, LIMIT - SURVIVOR_HOLDS, GPUSLICE_MEMORY_DATA), 0);
    CHECK_EQUAL(gpuslice_total_bytes(&survivor), LIMIT);
    gpuslice_refund(&survivor, LIMIT - SURVIVOR_HOLDS, GPUSLICE_MEMORY_DATA);
    tenant_check_total(&survivor, SURVIVOR_HOLDS);
    tenant_open(&newcomer, directory);
    CHECK_EQUAL(newcomer.process->slot_index, 1);
    CHECK_EQUAL(gpuslice_reserve(&newcomer, LIMIT - SURVIVOR_HOLDS, GPUSLICE_MEMORY_DATA), 0);
    CHECK_EQUAL(gpuslice_reserve(&newcomer, 1, GPUSLICE_MEMORY_DATA), -ENOMEM);
    gpuslice_share_close(&newcomer);
    tenant_check_total(&survivor, SURVIVOR_HOLDS);
}

static void nothing_happens(void) {}

/* Leads a victim to each of its changes in turn and kills it there. How many changes there were. */
static unsigned kill_at_each_change(void (*before)(void), void (*prepare)(void *), void (*act)(void *)) {
    for (unsigned changes = 0;; changes++) {
        new_share();
        before();
        pid_t child = step_start(prepare, act, NULL);
        bool stopped = step_until_change(child, changes, observe);

        step_kill(child);
        check_all_is_free();
        gpuslice_share_close(&survivor);
        temporary_remove(directory);
        if (!stopped)
            return changes - 1;
    }
}

CASE(a_process_killed_within_a_reservation_leaves_nothing) {
    CHECK(kill_at_each_change(nothing_happens, prepare_victim, act_reserve) >= TALLIED);
}

CASE(a_process_killed_within_a_refund_leaves_nothing) {
    CHECK(kill_at_each_change(nothing_happens, prepare_victim, act_refund) >= TALLIED);
}

CASE(a_process_killed_within_reaping_another_leaves_nothing_of_either) {
    CHECK(kill_at_each_change(nothing_happens, prepare_reaper, act_reap) >= TALLIED);
}

CASE(a_process_killed_within_its_claim_leaves_nothing_of_itself_or_of_its_predecessor) {
    CHECK(kill_at_each_change(someone_dies, prepare_newcomer, act_claim) >= 8);
}

static unsigned predecessor_changes;

static void predecessor_is_killed(void) {
    pid_t child = step_start(prepare_victim, act_reserve, NULL);

    step_until_change(child, predecessor_changes, observe);
    step_kill(child);
}

CASE(a_process_killed_within_its_claim_leaves_nothing_of_a_predecessor_that_was_killed_as_well) {
    for (predecessor_changes = BEFORE; predecessor_changes <= COMMITTED; predecessor_changes++)
        kill_at_each_change(predecessor_is_killed, prepare_newcomer, act_claim);
}

/* Stops a victim at each of its changes, uses the share meanwhile, and lets it go on. */
static void freeze_at_each_change(void (*prepare)(void *), void (*act)(void *), uint64_t victim_holds) {
    bool stopped = true;

    for (unsigned changes = 0; stopped; changes++) {
        new_share();
        pid_t child = step_start(prepare, act, NULL);

        stopped = step_until_change(child, changes, observe);
        for (int i = 0; i < 10; i++) {
            CHECK_EQUAL(gpuslice_reserve(&survivor, 1, GPUSLICE_MEMORY_DATA), 0);
            CHECK_EQUAL(gpuslice_reserve(&survivor, LIMIT, GPUSLICE_MEMORY_DATA), -ENOMEM);
            gpuslice_refund(&survivor, 1, GPUSLICE_MEMORY_DATA);
        }
        tenant_check_sum(&survivor);
        CHECK_EQUAL(tenant_held_bytes(&survivor, 0), SURVIVOR_HOLDS);
        CHECK_EQUAL(step_release(child), 0);
        tenant_check_sum(&survivor);
        CHECK_EQUAL(tenant_held_bytes(&survivor, 1), victim_holds);
        tenant_check_total(&survivor, SURVIVOR_HOLDS);
        gpuslice_share_close(&survivor);
        temporary_remove(directory);
    }
}

CASE(a_process_frozen_within_a_reservation_holds_nobody_up_and_then_gets_it) {
    freeze_at_each_change(prepare_victim, act_reserve, VICTIM_HELD + 3 * KIB);
}

CASE(a_process_frozen_within_a_refund_holds_nobody_up_and_then_has_refunded) {
    freeze_at_each_change(prepare_victim, act_refund, VICTIM_HELD - 5 * KIB);
}

CASE(a_process_frozen_within_reaping_holds_nobody_up) {
    freeze_at_each_change(prepare_reaper, act_reap, VICTIM_HELD);
}

static void act_reserve_and_refund(void *unused) {
    act_reserve(unused);
    gpuslice_refund(&victim, 3 * KIB, GPUSLICE_MEMORY_ARRAY);
}

/* Two victims: one has committed and not yet applied; the other stops after `instructions` instructions, within
 * confirming that. Then the first goes on by `changes` more (0: to its end, undoing what it committed), then the other
 * goes on. False: the other was done before. */
static bool freeze_a_confirming_process(unsigned instructions, unsigned changes) {
    bool stopped = true;

    new_share();
    pid_t committed = step_start(prepare_victim, act_reserve_and_refund, NULL);
    pid_t confirming = step_start(prepare_victim, act_refund, NULL);

    CHECK(step_until_change(committed, COMMITTED, observe));
    for (unsigned i = 0; i < instructions && stopped; i++)
        stopped = step_once(confirming);
    if (changes)
        step_until_change(committed, changes, observe);
    else {
        CHECK_EQUAL(step_release(committed), 0);
        tenant_check_sum(&survivor);
    }
    CHECK_EQUAL(step_release(confirming), 0);
    if (changes)
        CHECK_EQUAL(step_release(committed), 0);
    tenant_check_sum(&survivor);
    CHECK_EQUAL(tenant_held_bytes(&survivor, 1), VICTIM_HELD);
    CHECK_EQUAL(tenant_held_bytes(&survivor, 2), VICTIM_HELD - 5 * KIB);
    tenant_check_total(&survivor, SURVIVOR_HOLDS);
    gpuslice_share_close(&survivor);
    temporary_remove(directory);
    return stopped;
}

CASE(a_process_frozen_while_it_confirms_for_another_does_not_confirm_twice) {
    for (unsigned instructions = 0; freeze_a_confirming_process(instructions, 0); instructions++)
        ;
}

CASE(a_process_frozen_while_it_confirms_for_another_does_not_take_the_next_intent_for_the_last) {
    unsigned to_the_next_intent = TALLIED - COMMITTED + AFTER;

    for (unsigned instructions = 0; freeze_a_confirming_process(instructions, to_the_next_intent); instructions++)
        ;
}

int main(int argc, char **argv) {
    return check_main(argc, argv);
}
