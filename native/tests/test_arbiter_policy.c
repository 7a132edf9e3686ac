/* The arbiter's decision against a model of GPU and tenants: time is a number here, so the host's load cannot matter.
 *
 * The model: each tenant launches kernels of one length as long as its run word, its credit and its run-ahead allow;
 * the GPU time-slices between the tenants that have work, so each one's events show wall time, the slices of the
 * others included. `used_ns` is the truth that the account is measured against. */
#include "../arbiter/arbiter_policy.h"
#include "check.h"
#include <gpuslice/region.h>

#define US UINT64_C(1000)
#define MS UINT64_C(1000000)
#define STEP_NS (50 * US)
#define RUN_AHEAD_NS (4 * MS)
#define TENANTS 3

struct tenant {
    struct arbiter_share share;
    uint64_t kernel_ns;
    uint64_t active_from_ns, active_until_ns;
    uint64_t queue_ns; /* work launched and not executed */
    uint64_t used_ns;  /* GPU time it really got */
    uint64_t busy_ns, covered_ns;
    bool lies; /* says that its work will execute for another second, and launches none */
};

struct model {
    struct tenant tenants[TENANTS];
    size_t count;
    struct arbiter_state state;
    uint64_t now_ns, look_ns;
    uint64_t late_ns; /* the arbiter is up to this late */
    uint64_t stalled_until_ns;
    unsigned random;
};

static void expect_within(double got, double wanted, double tolerance) {
    if (got < wanted - tolerance || got > wanted + tolerance)
        fprintf(stderr, "%.2f instead of %.2f +- %.2f\n", got, wanted, tolerance);
    CHECK(got >= wanted - tolerance && got <= wanted + tolerance);
}

static struct tenant *add(struct model *model, uint32_t cores, enum gpuslice_policy policy, uint64_t kernel_ns) {
    struct tenant *tenant = &model->tenants[model->count++];
    tenant->share.cores = cores;
    tenant->share.weight = 1;
    tenant->share.policy = policy;
    tenant->share.priority = GPUSLICE_PRIORITY_NORMAL;
    tenant->share.live = true;
    tenant->kernel_ns = kernel_ns;
    tenant->active_until_ns = UINT64_MAX;
    return tenant;
}

static bool active(const struct tenant *tenant, uint64_t now_ns) {
    return now_ns >= tenant->active_from_ns && now_ns < tenant->active_until_ns;
}

static void launch(struct tenant *tenant, uint64_t now_ns) {
    while (active(tenant, now_ns) && !tenant->lies && tenant->share.run &&
           tenant->busy_ns + tenant->queue_ns < tenant->share.credit_ns && tenant->queue_ns < RUN_AHEAD_NS)
        tenant->queue_ns += tenant->kernel_ns;
}

/* One step of the GPU: every tenant with work gets an equal slice; each sees the whole step as its own. */
static void execute(struct model *model) {
    uint64_t sharers = 0;
    if (model->now_ns < model->stalled_until_ns)
        return;
    for (size_t i = 0; i < model->count; i++)
        sharers += model->tenants[i].queue_ns > 0;
    for (size_t i = 0; i < model->count; i++) {
        struct tenant *tenant = &model->tenants[i];
        if (tenant->queue_ns == 0)
            continue;
        uint64_t slice = STEP_NS / sharers;
        slice = slice < tenant->queue_ns ? slice : tenant->queue_ns;
        tenant->queue_ns -= slice;
        tenant->used_ns += slice;
        tenant->busy_ns += STEP_NS;
        tenant->covered_ns = model->now_ns + STEP_NS;
    }
}

static void decide(struct model *model) {
    struct arbiter_share *shares[TENANTS];
    for (size_t i = 0; i < model->count; i++) {
        struct tenant *tenant = &model->tenants[i];
        shares[i] = &tenant->share;
        tenant->share.in_flight = tenant->queue_ns > 0;
        tenant->share.in_flight_until_ns = model->now_ns + tenant->queue_ns;
        if (tenant->lies) {
            tenant->share.in_flight = true;
            tenant->share.in_flight_until_ns = model->now_ns + 1000 * MS;
        }
        tenant->share.waiting = tenant->queue_ns == 0 && active(tenant, model->now_ns);
        tenant->share.busy_ns = tenant->busy_ns;
        tenant->share.covered_until_ns = tenant->covered_ns;
    }
    uint64_t look_ns = arbiter_decide(&model->state, shares, model->count, model->now_ns);
    if (look_ns == UINT64_MAX) /* what a doorbell does */
        look_ns = model->now_ns + MS;
    if (model->late_ns) {
        model->random = model->random * 1103515245 + 12345;
        look_ns += model->random / 65536 % (model->late_ns / US) * US;
    }
    model->look_ns = look_ns;
}

static void run_until(struct model *model, uint64_t end_ns) {
    while (model->now_ns < end_ns) {
        if (model->now_ns >= model->look_ns)
            decide(model);
        for (size_t i = 0; i < model->count; i++)
            launch(&model->tenants[i], model->now_ns);
        execute(model);
        model->now_ns += STEP_NS;
    }
}

static struct model new_model(void) {
    return (struct model){.now_ns = 1000 * MS, .random = 1};
}

static double percent(const struct tenant *tenant, uint64_t of_ns) {
    return 100.0 * (double)tenant->used_ns / (double)of_ns;
}

CASE(a_capped_share_gets_its_part_even_alone) {
    const uint64_t kernels[] = {50 * US, 500 * US, 50 * MS};
    for (size_t i = 0; i < 3; i++) {
        struct model model = new_model();
        struct tenant *tenant = add(&model, 30, GPUSLICE_POLICY_HARD, kernels[i]);
        run_until(&model, 11000 * MS);
        expect_within(percent(tenant, 10000 * MS), 30, 0.6);
    }
}

CASE(a_false_forecast_is_paid_for_by_who_made_it) {
    struct model model = new_model();
    struct tenant *liar = add(&model, 30, GPUSLICE_POLICY_HARD, 500 * US);
    struct tenant *honest = add(&model, 70, GPUSLICE_POLICY_HARD, 500 * US);
    liar->lies = true;
    run_until(&model, 11000 * MS);
    CHECK(percent(honest, 10000 * MS) > 50); /* the turns themselves are the liar's to waste */
}

CASE(a_capped_share_alone_makes_up_for_a_stall) {
    struct model model = new_model();
    struct tenant *tenant = add(&model, 30, GPUSLICE_POLICY_HARD, 500 * US);
    run_until(&model, 3000 * MS);
    model.stalled_until_ns = 3400 * MS;
    run_until(&model, 6000 * MS);
    expect_within(percent(tenant, 5000 * MS), 30, 0.6);
}

CASE(two_busy_shares_get_what_they_asked_for) {
    const uint64_t kernels[][2] = {{500 * US, 500 * US}, {2 * MS, 2 * MS},  {10 * MS, 10 * MS},
                                   {2 * MS, 10 * MS},    {10 * MS, 2 * MS}, {100 * US, 50 * MS}};
    for (size_t i = 0; i < sizeof(kernels) / sizeof(kernels[0]); i++)
        for (uint64_t late_ns = 0; late_ns <= 3 * MS; late_ns += 3 * MS) {
            struct model model = new_model();
            model.late_ns = late_ns;
            struct tenant *small = add(&model, 30, GPUSLICE_POLICY_HARD, kernels[i][0]);
            struct tenant *large = add(&model, 70, GPUSLICE_POLICY_HARD, kernels[i][1]);
            run_until(&model, 5000 * MS);
            double tolerance = late_ns ? 2 : 1;
            expect_within(percent(small, 4000 * MS), 30, tolerance);
            expect_within(percent(large, 4000 * MS), 70, tolerance);
        }
}

CASE(two_capped_shares_leave_the_rest_alone) {
    struct model model = new_model();
    struct tenant *a = add(&model, 20, GPUSLICE_POLICY_HARD, 2 * MS);
    struct tenant *b = add(&model, 40, GPUSLICE_POLICY_HARD, 500 * US);
    run_until(&model, 5000 * MS);
    expect_within(percent(a, 4000 * MS), 20, 1);
    expect_within(percent(b, 4000 * MS), 40, 1);
}

CASE(an_elastic_share_takes_what_is_left_and_gives_it_back) {
    struct model model = new_model();
    struct tenant *elastic = add(&model, 30, GPUSLICE_POLICY_ELASTIC, 500 * US);
    struct tenant *late = add(&model, 70, GPUSLICE_POLICY_HARD, 500 * US);
    late->active_from_ns = 3000 * MS;
    run_until(&model, 3000 * MS);
    CHECK(percent(elastic, 2000 * MS) > 97);
    elastic->used_ns = 0;
    run_until(&model, 5000 * MS);
    expect_within(percent(elastic, 2000 * MS), 30, 2);
    expect_within(percent(late, 2000 * MS), 70, 2);
}

CASE(a_share_without_a_promise_gets_only_what_is_left) {
    struct model model = new_model();
    struct tenant *nothing = add(&model, 0, GPUSLICE_POLICY_HARD, 500 * US);
    struct tenant *capped = add(&model, 60, GPUSLICE_POLICY_HARD, 500 * US);
    run_until(&model, 5000 * MS);
    expect_within(percent(capped, 4000 * MS), 60, 1.5);
    expect_within(percent(nothing, 4000 * MS), 40, 2.5);
}

CASE(leftovers_are_split_by_weight) {
    struct model model = new_model();
    struct tenant *one = add(&model, 0, GPUSLICE_POLICY_ELASTIC, 500 * US);
    struct tenant *three = add(&model, 0, GPUSLICE_POLICY_ELASTIC, 2 * MS);
    three->share.weight = 3;
    run_until(&model, 5000 * MS);
    expect_within(percent(one, 4000 * MS), 25, 2);
    expect_within(percent(three, 4000 * MS), 75, 2);
}

CASE(a_higher_class_goes_first) {
    struct model model = new_model();
    struct tenant *low = add(&model, 50, GPUSLICE_POLICY_HARD, 500 * US);
    struct tenant *high = add(&model, 50, GPUSLICE_POLICY_ELASTIC, 500 * US);
    low->share.priority = GPUSLICE_PRIORITY_LOW;
    high->share.priority = GPUSLICE_PRIORITY_HIGH;
    high->active_from_ns = 2000 * MS;
    high->active_until_ns = 3000 * MS;
    run_until(&model, 2000 * MS);
    uint64_t before_ns = low->used_ns;
    run_until(&model, 3000 * MS);
    CHECK(percent(high, 1000 * MS) > 97);
    CHECK(low->used_ns - before_ns < 15 * MS);
    run_until(&model, 4000 * MS);
    CHECK(low->used_ns - before_ns > 450 * MS);
}

CASE(an_idle_or_dead_share_does_not_hold_the_gpu) {
    for (int dies = 0; dies < 2; dies++) {
        struct model model = new_model();
        struct tenant *goes = add(&model, 50, GPUSLICE_POLICY_HARD, 500 * US);
        struct tenant *stays = add(&model, 50, GPUSLICE_POLICY_ELASTIC, 500 * US);
        goes->active_until_ns = 2000 * MS;
        run_until(&model, 2000 * MS);
        goes->share.live = dies == 0;
        uint64_t before_ns = stays->used_ns;
        run_until(&model, 2500 * MS);
        CHECK(stays->used_ns - before_ns > 490 * MS);
    }
}

CASE(a_pause_saves_up_no_more_than_a_moment) {
    struct model model = new_model();
    struct tenant *tenant = add(&model, 30, GPUSLICE_POLICY_HARD, 500 * US);
    tenant->active_from_ns = 5000 * MS;
    run_until(&model, 5100 * MS);
    CHECK(tenant->used_ns < 50 * MS);
}

CASE(a_whole_share_alone_has_no_gate) {
    struct model model = new_model();
    struct tenant *tenant = add(&model, 100, GPUSLICE_POLICY_HARD, 500 * US);
    run_until(&model, 1100 * MS);
    CHECK(tenant->share.credit_ns == ARBITER_UNLIMITED && tenant->share.run);
}

CASE(three_shares_that_overlap_are_charged_a_third_each) {
    struct arbiter_share a = {.live = true}, b = {.live = true}, c = {.live = true};
    struct arbiter_share *shares[] = {&a, &b, &c};
    for (size_t i = 0; i < 3; i++)
        arbiter_charge(shares[i], shares, 3, 100 * MS);
    for (size_t i = 0; i < 3; i++) {
        shares[i]->busy_ns = 9 * MS;
        shares[i]->covered_until_ns = 109 * MS;
        arbiter_charge(shares[i], shares, 3, 110 * MS);
    }
    for (size_t i = 0; i < 3; i++)
        expect_within((double)shares[i]->balance_ns / 1e6, -3, 0.001);
}

CASE(a_false_word_of_a_tenant_harms_nobody_else) {
    struct model model = new_model();
    struct tenant *liar = add(&model, 50, GPUSLICE_POLICY_HARD, 500 * US);
    struct tenant *other = add(&model, 50, GPUSLICE_POLICY_HARD, 500 * US);
    run_until(&model, 2000 * MS);
    uint64_t before_ns = other->used_ns;
    liar->busy_ns = UINT64_MAX - 5;
    liar->covered_ns = UINT64_MAX - 5;
    run_until(&model, 4000 * MS);
    CHECK(other->used_ns - before_ns > 950 * MS);
}

int main(int argc, char **argv) {
    return check_main(argc, argv);
}
