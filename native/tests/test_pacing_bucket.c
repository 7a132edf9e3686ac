/* The common bucket of a share without an agent: time is a number here. */
#include "../shim/pacing/bucket.h"
#include "check.h"

#include <pthread.h>

#define MS UINT64_C(1000000)
#define SECOND (1000 * MS)
#define START_NS (3600 * SECOND)
#define CORES 30
#define KEPT_NS (12 * MS) /* 30 % of 40 ms */

static struct gpuslice_usage usage;

static void begin(uint64_t busy_ns) {
    usage = (struct gpuslice_usage){0};
    usage.busy_ns = busy_ns;
}

static uint64_t rest(uint64_t now_ns) {
    return pacing_bucket_fill(&usage, CORES, now_ns) - usage.busy_ns;
}

CASE(a_new_bucket_is_full_and_no_more) {
    begin(5 * SECOND);
    CHECK_EQUAL(rest(START_NS), KEPT_NS);
}

CASE(it_fills_at_the_rate_of_the_cores) {
    begin(0);
    rest(START_NS);
    usage.busy_ns += KEPT_NS; /* all of it used */
    CHECK_EQUAL(rest(START_NS + 10 * MS), 3 * MS);
    CHECK_EQUAL(rest(START_NS + 20 * MS), 6 * MS);
}

CASE(nothing_is_filled_twice) {
    begin(0);
    rest(START_NS);
    usage.busy_ns += KEPT_NS;
    CHECK_EQUAL(rest(START_NS + 10 * MS), 3 * MS);
    CHECK_EQUAL(rest(START_NS + 10 * MS), 3 * MS);
    CHECK_EQUAL(rest(START_NS + 9 * MS), 3 * MS); /* another thread's older look */
}

CASE(moments_too_short_to_fill_are_not_lost) {
    begin(0);
    rest(START_NS);
    usage.busy_ns += KEPT_NS;
    for (uint64_t passed_ns = 0; passed_ns < 10 * MS; passed_ns += MS / 10)
        rest(START_NS + passed_ns);
    CHECK_EQUAL(rest(START_NS + 10 * MS), 3 * MS);
}

CASE(an_idle_share_saves_up_little) {
    begin(0);
    for (uint64_t passed_ns = 0; passed_ns < 900 * MS; passed_ns += 10 * MS)
        CHECK(rest(START_NS + passed_ns) <= KEPT_NS);
    CHECK_EQUAL(rest(START_NS + 900 * MS), KEPT_NS);
}

CASE(a_debt_is_paid_back_before_anything_is_given) {
    begin(0);
    rest(START_NS);
    usage.busy_ns += KEPT_NS + 30 * MS; /* one long kernel: 100 ms of filling */
    uint64_t credit_ns = pacing_bucket_fill(&usage, CORES, START_NS + 50 * MS);
    CHECK(credit_ns < usage.busy_ns);
    CHECK_EQUAL(usage.busy_ns - credit_ns, 15 * MS);
    CHECK_EQUAL(rest(START_NS + 110 * MS), 3 * MS);
}

/* An agent was there meanwhile: the credit of the time before it means nothing. */
CASE(an_abandoned_bucket_owes_nothing) {
    begin(0);
    rest(START_NS);
    usage.busy_ns += 100 * SECOND;
    CHECK_EQUAL(rest(START_NS + 300 * SECOND), KEPT_NS);
}

CASE(over_ten_seconds_a_busy_share_gets_its_part) {
    begin(0);
    uint64_t now_ns = START_NS, used_ns = 0;
    for (; now_ns < START_NS + 10 * SECOND; now_ns += MS / 4) {
        if (pacing_bucket_fill(&usage, CORES, now_ns) <= usage.busy_ns)
            continue;
        usage.busy_ns += 7 * MS; /* kernels longer than what is left in the bucket */
        used_ns += 7 * MS;
        now_ns += 7 * MS;
    }
    CHECK(used_ns > 3 * SECOND - 20 * MS);
    CHECK(used_ns < 3 * SECOND + KEPT_NS + 7 * MS);
}

static void *fill_often(void *unused) {
    for (uint64_t passed_ns = 0; passed_ns <= 500 * MS; passed_ns += MS)
        pacing_bucket_fill(&usage, CORES, START_NS + passed_ns);
    return unused;
}

CASE(many_threads_fill_no_more_than_one) {
    pthread_t threads[4];
    begin(0);
    rest(START_NS);
    usage.busy_ns += 10 * SECOND; /* so far in debt that no bound hides a wrong sum */
    usage.local_credit_ns = 0;
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, fill_often, NULL);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    CHECK(usage.local_credit_ns <= 150 * MS);
}

int main(int argc, char **argv) {
    return check_main(argc, argv);
}
