/* When operations start and end on simulated GPUs: pure arithmetic on a node that no process has, with times of our
 * own. Milliseconds are written as `MS(n)`. */
#include <stddef.h>

#include "check.h"
#include "random.h"

#include "journal.h"
#include "timeline.h"

#define MS(n) ((uint64_t)(n) * 1000000u)
#define FULL 65536u

static struct node_file *node;

/* A node of two GPUs at time 0. */
static void new_node(void) {
    free(node);
    node = calloc(1, sizeof *node);
    CHECK(node);
    CHECK_EQUAL(profile_fill(node, "2xa100-80g", 2, 1), 0);
}

static uint32_t stream_of(unsigned process, unsigned gpu) {
    uint32_t channel;
    node->processes[process].live = 1;
    if (node->process_count <= process)
        node->process_count = process + 1;
    CHECK_EQUAL(timeline_open(node, owner_of(1, process), gpu, &channel), 0);
    return channel;
}

static struct timeline_target submit(uint32_t channel, uint64_t arrival, struct node_op op) {
    op.arrival_ns = arrival;
    timeline_submit(node, channel, &op);
    return (struct timeline_target){channel, (uint32_t)node->channels[channel].generation,
                                    node->channels[channel].tail};
}

static struct timeline_target kernel(uint32_t channel, uint64_t arrival, uint64_t cost, uint32_t occupancy) {
    return submit(channel, arrival,
                  (struct node_op){.op_class = NODE_OP_GPU, .cost = cost << NODE_TIME_SHIFT, .occupancy = occupancy});
}

static struct timeline_target copy(uint32_t channel, uint64_t arrival, uint64_t cost, uint32_t lane) {
    return submit(channel, arrival, (struct node_op){.op_class = NODE_OP_WALL, .cost = cost, .occupancy = lane});
}

static struct timeline_target wait_for(uint32_t channel, struct timeline_target target) {
    return submit(channel, 0,
                  (struct node_op){.op_class = NODE_OP_WAIT,
                                   .wait_channel = target.channel,
                                   .wait_generation = target.generation,
                                   .wait_sequence = target.sequence});
}

static uint64_t start_of(struct timeline_target target) {
    return timeline_op(node, target.channel, target.sequence)->start_ns;
}

static uint64_t end_of(struct timeline_target target) {
    CHECK(timeline_complete(node, target));
    return timeline_op(node, target.channel, target.sequence)->end_ns;
}

static uint64_t busy_of(unsigned process, unsigned gpu) {
    return node->processes[process].gpus[gpu].busy >> NODE_TIME_SHIFT;
}

CASE(a_kernel_alone_takes_its_cost_and_a_stream_runs_in_order) {
    new_node();
    uint32_t stream = stream_of(0, 0);
    struct timeline_target first = kernel(stream, MS(1), MS(10), FULL), second = kernel(stream, MS(2), MS(5), FULL);
    timeline_advance(node, MS(100));
    CHECK_EQUAL(start_of(first), MS(1));
    CHECK_EQUAL(end_of(first), MS(11));
    CHECK_EQUAL(end_of(second), MS(16));
    CHECK_EQUAL(busy_of(0, 0), MS(15));
    CHECK_EQUAL(node->processes[0].gpus[0].active, MS(15));
    CHECK_EQUAL(node->gpu_states[0].busy, MS(15));
    CHECK_EQUAL(node->timeline.busy_head, 0);
}

CASE(two_processes_each_advance_at_half_the_rate) {
    new_node();
    struct timeline_target a = kernel(stream_of(0, 0), 0, MS(10), FULL), b = kernel(stream_of(1, 0), 0, MS(30), FULL);
    timeline_advance(node, MS(100));
    CHECK_EQUAL(end_of(a), MS(20));
    CHECK_EQUAL(end_of(b), MS(40));
    CHECK_EQUAL(busy_of(0, 0), MS(10));
    CHECK_EQUAL(busy_of(1, 0), MS(30));
    CHECK_EQUAL(node->processes[0].gpus[0].active, MS(20));
    CHECK_EQUAL(node->gpu_states[0].busy, MS(40));
}

CASE(a_late_arrival_slows_what_is_left) {
    new_node();
    struct timeline_target a = kernel(stream_of(0, 0), 0, MS(10), FULL),
                           b = kernel(stream_of(1, 0), MS(4), MS(10), FULL);
    timeline_advance(node, MS(100));
    CHECK_EQUAL(end_of(a), MS(16)); /* 4 alone, 6 at half rate */
    CHECK_EQUAL(end_of(b), MS(20)); /* 6 done by then, 4 alone */
}

CASE(processes_on_different_gpus_do_not_share) {
    new_node();
    struct timeline_target a = kernel(stream_of(0, 0), 0, MS(10), FULL), b = kernel(stream_of(1, 1), 0, MS(10), FULL);
    timeline_advance(node, MS(100));
    CHECK_EQUAL(end_of(a), MS(10));
    CHECK_EQUAL(end_of(b), MS(10));
}

CASE(streams_of_one_process_run_together_until_the_gpu_is_full) {
    new_node();
    struct timeline_target a = kernel(stream_of(0, 0), 0, MS(10), FULL / 2),
                           b = kernel(stream_of(0, 0), 0, MS(10), FULL / 2);
    timeline_advance(node, MS(50));
    CHECK_EQUAL(end_of(a), MS(10));
    CHECK_EQUAL(end_of(b), MS(10));
    CHECK_EQUAL(busy_of(0, 0), MS(10)); /* the union, not the sum */
    struct timeline_target c = kernel(stream_of(0, 0), MS(50), MS(10), FULL),
                           d = kernel(stream_of(0, 0), MS(50), MS(20), FULL);
    timeline_advance(node, MS(100));
    CHECK_EQUAL(end_of(c), MS(70));
    CHECK_EQUAL(end_of(d), MS(80));
}

CASE(host_copies_take_wall_time_one_after_another_on_their_engine) {
    new_node();
    struct timeline_target work = kernel(stream_of(0, 0), 0, MS(10), FULL);
    kernel(stream_of(1, 0), 0, MS(10), FULL);
    struct timeline_target in = copy(stream_of(0, 0), 0, MS(4), 0), in_too = copy(stream_of(0, 0), 0, MS(4), 0),
                           out = copy(stream_of(0, 0), 0, MS(4), 1);
    timeline_advance(node, MS(100));
    CHECK_EQUAL(end_of(work), MS(20)); /* the other process slows it, the copies do not */
    uint64_t ends[] = {end_of(in), end_of(in_too)};
    CHECK_EQUAL(ends[0] < ends[1] ? ends[0] : ends[1], MS(4));
    CHECK_EQUAL(ends[0] + ends[1], MS(12));
    CHECK_EQUAL(end_of(out), MS(4));
    CHECK_EQUAL(node->processes[0].gpus[0].active, MS(20));
}

CASE(a_kernel_behind_a_copy_joins_when_the_copy_ends_though_nobody_looks) {
    new_node();
    uint32_t stream = stream_of(0, 0);
    copy(stream, 0, MS(5), 0);
    struct timeline_target behind = kernel(stream, 0, MS(10), FULL), other = kernel(stream_of(1, 0), 0, MS(10), FULL);
    timeline_advance(node, MS(100));
    CHECK_EQUAL(start_of(behind), MS(5));
    CHECK_EQUAL(end_of(other), MS(15));
    CHECK_EQUAL(end_of(behind), MS(20));
}

CASE(a_wait_holds_a_stream_until_the_other_is_done_across_gpus_and_processes) {
    new_node();
    struct timeline_target far = kernel(stream_of(1, 1), 0, MS(7), FULL);
    uint32_t stream = stream_of(0, 0);
    wait_for(stream, far);
    struct timeline_target after = kernel(stream, 0, MS(1), FULL);
    timeline_advance(node, MS(100));
    CHECK_EQUAL(start_of(after), MS(7));
    timeline_close(node, far.channel);
    CHECK(timeline_complete(node, far)); /* who waits for what is gone waits no more */
}

CASE(an_external_operation_ends_when_its_process_says_so) {
    new_node();
    uint32_t stream = stream_of(0, 0);
    struct timeline_target call = submit(stream, MS(1), (struct node_op){.op_class = NODE_OP_EXTERNAL}),
                           after = kernel(stream, MS(1), MS(2), FULL);
    CHECK(timeline_forecast(node, &after, 1) == TIMELINE_NEVER);
    timeline_advance(node, MS(9));
    CHECK(!timeline_complete(node, call));
    timeline_finish(node, stream);
    timeline_advance(node, MS(100));
    CHECK_EQUAL(end_of(call), MS(9));
    CHECK_EQUAL(end_of(after), MS(11));
    CHECK_EQUAL(busy_of(0, 0), MS(2));
}

CASE(dropped_work_leaves_its_rate_to_the_others) {
    new_node();
    uint32_t dying = stream_of(0, 0);
    kernel(dying, 0, MS(100), FULL);
    struct timeline_target b = kernel(stream_of(1, 0), 0, MS(10), FULL);
    timeline_advance(node, MS(10));
    timeline_close(node, dying);
    timeline_advance(node, MS(100));
    CHECK_EQUAL(end_of(b), MS(15));
    CHECK_EQUAL(busy_of(0, 0), MS(5));
}

CASE(a_forecast_is_what_happens_and_leaves_no_trace) {
    new_node();
    struct timeline_target target = {0};
    for (unsigned process = 0; process < 4; process++) {
        uint32_t stream = stream_of(process, 0);
        for (unsigned i = 1; i <= 10; i++)
            target = kernel(stream, process * MS(3), MS(i), FULL);
    }
    struct node_file *before = calloc(1, sizeof *before);
    CHECK(before);
    memcpy(before, node, offsetof(struct node_file, queues));
    uint64_t forecast = timeline_forecast(node, &target, 1);
    memcpy(before->journal, node->journal, sizeof before->journal);
    CHECK(memcmp(before, node, offsetof(struct node_file, queues)) == 0);
    timeline_advance(node, forecast - 1);
    CHECK(!timeline_complete(node, target));
    timeline_advance(node, forecast);
    CHECK_EQUAL(end_of(target), forecast);
    free(before);
}

CASE(a_forecast_over_very_many_streams_looks_less_far_and_never_too_late) {
    new_node();
    struct timeline_target target = {0};
    for (unsigned s = 0; s < 300; s++) {
        uint32_t stream = stream_of(s % 150, s % 2);
        for (unsigned i = 0; i < 5; i++)
            target = kernel(stream, 0, 1000 + s, FULL);
    }
    uint64_t forecast = 0;
    for (unsigned looks = 0; !timeline_complete(node, target); looks++) {
        uint64_t next = timeline_forecast(node, &target, 1);
        CHECK(next >= forecast && next != TIMELINE_NEVER && looks < 10000);
        CHECK_EQUAL(node->journal_length, 0);
        timeline_advance(node, forecast = next);
    }
    CHECK_EQUAL(end_of(target), forecast);
}

CASE(zero_length_kernels_end_where_they_begin) {
    new_node();
    uint32_t stream = stream_of(0, 0);
    struct timeline_target first = kernel(stream, MS(1), 0, FULL), last = first;
    for (unsigned i = 0; i < NODE_QUEUE - 2; i++)
        last = kernel(stream, MS(1), 0, FULL);
    timeline_advance(node, MS(2));
    CHECK_EQUAL(end_of(first), MS(1));
    CHECK_EQUAL(end_of(last), MS(1));
    CHECK_EQUAL(busy_of(0, 0), 0);
}

CASE(a_meter_forgets_what_is_older_than_its_window) {
    new_node();
    uint32_t stream = stream_of(0, 0);
    kernel(stream, 0, MS(10000), FULL);
    kernel(stream, MS(15000), MS(10000), FULL);
    const uint64_t looks[] = {MS(5000), MS(14000), MS(15250)};
    const double rates[] = {1, 0, 0.5};
    for (unsigned i = 0; i < 3; i++) {
        timeline_advance(node, looks[i]);
        double rate = timeline_rate(&node->gpu_states[0].meter, looks[i], node->gpu_states[0].busy, 1);
        CHECK(rate >= rates[i] - 0.2 && rate <= rates[i] + 0.2);
    }
}

/* --- at random ------------------------------------------------------------------------------------------------ */

#define PROCESSES 4u
#define STREAMS 3u
#define OPS 25u

/* The same work, whatever the seed of the looks. */
static unsigned submit_random_work(struct timeline_target *targets) {
    struct random random = random_seeded(7);
    unsigned count = 0;
    for (unsigned s = 0; s < PROCESSES * STREAMS; s++) {
        uint32_t stream = stream_of(s % PROCESSES, 0);
        for (unsigned i = 0; i < OPS; i++) {
            uint64_t arrival = random_below(&random, MS(20)), cost = 1 + random_below(&random, MS(3));
            if (count > 0 && random_below(&random, 4) == 0)
                wait_for(stream, targets[random_below(&random, count)]);
            targets[count++] = random_below(&random, 3) == 0
                                   ? copy(stream, arrival, cost, (uint32_t)random_below(&random, NODE_LANES))
                                   : kernel(stream, arrival, cost, FULL / (1 + (uint32_t)random_below(&random, 3)));
        }
    }
    return count;
}

CASE(who_looks_when_changes_nothing_but_fractions_of_a_nanosecond_a_look) {
    struct timeline_target targets[PROCESSES * STREAMS * OPS];
    uint64_t ends[PROCESSES * STREAMS * OPS];
    new_node();
    unsigned count = submit_random_work(targets);
    timeline_advance(node, MS(10000));
    for (unsigned i = 0; i < count; i++)
        ends[i] = end_of(targets[i]);
    for (unsigned seed = 1; seed <= 5; seed++) {
        struct random random = random_seeded(seed);
        new_node();
        submit_random_work(targets);
        unsigned looks = 0;
        for (uint64_t time = 0; time < MS(2000); looks++)
            timeline_advance(node, time += 1 + random_below(&random, MS(5)));
        for (unsigned i = 0; i < count; i++) {
            uint64_t end = end_of(targets[i]), apart = end > ends[i] ? end - ends[i] : ends[i] - end;
            CHECK(apart <= looks);
        }
    }
}

CASE(the_parts_of_all_processes_add_up_to_the_whole) {
    struct timeline_target targets[PROCESSES * STREAMS * OPS];
    new_node();
    submit_random_work(targets);
    timeline_advance(node, MS(10000));
    uint64_t sum = 0;
    for (unsigned process = 0; process < PROCESSES; process++) {
        sum += busy_of(process, 0);
        CHECK(busy_of(process, 0) <= node->processes[process].gpus[0].active);
    }
    uint64_t whole = node->gpu_states[0].busy;
    CHECK(sum <= whole && whole - sum < 1000);
}

int main(int argc, char **argv) {
    return check_main(argc, argv);
}
