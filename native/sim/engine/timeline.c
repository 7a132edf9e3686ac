#include "timeline.h"

#include <errno.h>
#include <stddef.h>

#include "journal.h"

#define OCCUPANCY_ONE 65536u
#define LOOK_AHEAD 256u /* operations a forecast looks at: some tens of microseconds under the lock */
#define METER_NS UINT64_C(500000000)
#define PUTS_PER_RUNNING 4u /* what pass() puts for an operation, its process and its GPU */
_Static_assert(PUTS_PER_RUNNING *NODE_CHANNELS + 32 <= NODE_JOURNAL, "one step of the timeline fits the journal");

/* The GPU work of one process on one GPU at a moment. */
struct group {
    uint32_t process, gpu;
    uint64_t occupancy; /* sum over its running operations, of OCCUPANCY_ONE */
    uint64_t sharers;   /* groups on that GPU, in the same compute instance where it is cut into some */
};

/* Who runs, and when the next thing happens if nobody interferes. Too large for the stacks of some threads; the
 * node's lock guards the only one. */
static struct moment {
    struct group groups[NODE_CHANNELS];
    uint16_t group_of[NODE_CHANNELS]; /* of each running GPU operation, by its place in `running` */
    uint16_t running[NODE_CHANNELS];  /* channels */
    unsigned group_count, running_count;
    uint64_t next_ns;
} moment;

/* --- completion --------------------------------------------------------------------------------------------- */

bool timeline_complete(const struct node_file *node, struct timeline_target target) {
    const struct node_channel *channel = &node->channels[target.channel % NODE_CHANNELS];
    return channel->generation != target.generation || channel->done >= target.sequence;
}

static void complete(struct node_file *node, struct node_channel *channel, struct node_op *op) {
    op->end_ns = node->timeline.now_ns; /* rewritten with the same value if we die before `done` */
    op->order = node->timeline.order;
    journal_add(node, &node->timeline.order, 1);
    if (channel->running)
        journal_put(node, &channel->running, 0);
    journal_add(node, &channel->done, 1);
}

static void start(struct node_file *node, struct node_channel *channel, struct node_op *op) {
    uint64_t now = node->timeline.now_ns;
    op->start_ns = now;
    if (op->op_class == NODE_OP_WALL) {
        uint64_t *lane = &node->lanes[owner_index(channel->owner)][channel->gpu][op->occupancy % NODE_LANES];
        uint64_t begin = *lane > now ? *lane : now;
        op->start_ns = begin;
        journal_put(node, lane, begin + op->cost);
        journal_put(node, &channel->remaining, begin + op->cost);
    } else {
        journal_put(node, &channel->remaining, op->cost);
    }
    journal_put(node, &channel->running, 1);
}

/* Moves the head of a channel on as far as it goes at this moment by one operation. False: it must wait. */
static bool settle_one(struct node_file *node, struct node_channel *channel, uint32_t index) {
    if (channel->done == channel->tail)
        return false;
    struct node_op *op = timeline_op(node, index, channel->done + 1);
    if (!channel->running) {
        struct timeline_target target = {op->wait_channel, op->wait_generation, op->wait_sequence};
        if (op->arrival_ns > node->timeline.now_ns ||
            (op->op_class == NODE_OP_WAIT && !timeline_complete(node, target)))
            return false;
        bool instant = op->op_class == NODE_OP_MARK || op->op_class == NODE_OP_WAIT ||
                       (op->op_class == NODE_OP_GPU && op->cost == 0);
        if (!instant) {
            start(node, channel, op);
            return true;
        }
        op->start_ns = node->timeline.now_ns;
    } else if (op->op_class == NODE_OP_EXTERNAL ||
               channel->remaining > (op->op_class == NODE_OP_WALL ? node->timeline.now_ns : 0)) {
        return false;
    }
    complete(node, channel, op);
    return true;
}

struct walk {
    struct node_file *node;
    bool forecast;
    uint64_t settled; /* operations started or completed so far */
};

/* False: a forecast has looked far enough. */
static bool keep_going(struct walk *walk) {
    if (!walk->forecast)
        journal_commit(walk->node); /* the state is whole after each operation */
    return !walk->forecast || (walk->settled < LOOK_AHEAD && journal_has_room(walk->node, 16));
}

/* Starts and completes all that is due at this moment, and forgets channels that have nothing left. */
static bool settle(struct walk *walk) {
    struct node_file *node = walk->node;
    for (bool moved = true; moved;) { /* again while something moved: others may wait for it */
        moved = false;
        for (uint64_t *link = &node->timeline.busy_head; *link;) {
            uint32_t index = (uint32_t)*link - 1;
            struct node_channel *channel = &node->channels[index];
            while (settle_one(node, channel, index)) {
                moved = true;
                walk->settled++;
                if (!keep_going(walk))
                    return false;
            }
            if (channel->done == channel->tail) {
                journal_put(node, link, channel->next);
                journal_put(node, &channel->linked, 0);
            } else {
                link = &channel->next;
            }
            if (!keep_going(walk))
                return false;
        }
    }
    return true;
}

/* --- sharing ------------------------------------------------------------------------------------------------ */

static void join_group(const struct node_channel *channel, uint32_t index, const struct node_op *op) {
    uint32_t process = owner_index(channel->owner);
    unsigned g = 0;
    while (g < moment.group_count && (moment.groups[g].process != process || moment.groups[g].gpu != channel->gpu))
        g++;
    if (g == moment.group_count)
        moment.groups[moment.group_count++] = (struct group){.process = process, .gpu = (uint32_t)channel->gpu};
    moment.groups[g].occupancy += op->occupancy;
    moment.group_of[moment.running_count] = (uint16_t)g;
    moment.running[moment.running_count++] = (uint16_t)index;
}

/* How many times longer than alone on the GPU an operation of this group takes, times OCCUPANCY_ONE. */
static uint64_t slowdown(const struct group *group) {
    uint64_t crowding = group->occupancy > OCCUPANCY_ONE ? group->occupancy : OCCUPANCY_ONE;
    return crowding * group->sharers;
}

static uint64_t wall_time(uint64_t remaining, uint64_t slow) {
    unsigned __int128 scaled = (unsigned __int128)remaining * slow;
    const unsigned shift = 16 + NODE_TIME_SHIFT;
    return (uint64_t)((scaled + ((UINT64_C(1) << shift) - 1)) >> shift);
}

static uint64_t progress(uint64_t wall_ns, uint64_t slow) {
    return (uint64_t)(((unsigned __int128)wall_ns << (16 + NODE_TIME_SHIFT)) / slow);
}

static uint64_t earlier(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

static bool together(const struct node_file *node, const struct group *a, const struct group *b) {
    return a->gpu == b->gpu && node->processes[a->process].instance == node->processes[b->process].instance;
}

static void survey(struct node_file *node) {
    uint64_t now = node->timeline.now_ns;
    moment.group_count = moment.running_count = 0;
    moment.next_ns = TIMELINE_NEVER;
    for (uint64_t link = node->timeline.busy_head; link; link = node->channels[link - 1].next) {
        uint32_t index = (uint32_t)link - 1;
        struct node_channel *channel = &node->channels[index];
        const struct node_op *op = timeline_op(node, index, channel->done + 1);
        if (!channel->running) {
            if (op->arrival_ns > now)
                moment.next_ns = earlier(moment.next_ns, op->arrival_ns);
        } else if (op->op_class == NODE_OP_WALL) {
            moment.next_ns = earlier(moment.next_ns, channel->remaining);
        } else if (op->op_class == NODE_OP_GPU) {
            join_group(channel, index, op);
        }
    }
    for (unsigned g = 0; g < moment.group_count; g++)
        for (unsigned h = 0; h < moment.group_count; h++)
            moment.groups[g].sharers += together(node, &moment.groups[g], &moment.groups[h]);
    for (unsigned r = 0; r < moment.running_count; r++) {
        uint64_t left =
            wall_time(node->channels[moment.running[r]].remaining, slowdown(&moment.groups[moment.group_of[r]]));
        moment.next_ns = earlier(moment.next_ns, now + left);
    }
}

/* Lets `wall_ns` pass with the same processes running. */
static void pass(struct node_file *node, uint64_t wall_ns) {
    uint64_t counted = 0; /* GPUs whose busy time has grown */
    for (unsigned r = 0; r < moment.running_count; r++) {
        uint64_t *remaining = &node->channels[moment.running[r]].remaining;
        uint64_t done = progress(wall_ns, slowdown(&moment.groups[moment.group_of[r]]));
        /* the last fraction of a nanosecond goes with the step that ends the operation */
        uint64_t left = wall_time(*remaining, slowdown(&moment.groups[moment.group_of[r]]));
        journal_put(node, remaining, left <= wall_ns || *remaining <= done ? 0 : *remaining - done);
    }
    for (unsigned g = 0; g < moment.group_count; g++) {
        const struct group *group = &moment.groups[g];
        struct node_process_gpu *process = &node->processes[group->process].gpus[group->gpu];
        journal_add(node, &process->busy, (wall_ns << NODE_TIME_SHIFT) / group->sharers);
        journal_add(node, &process->active, wall_ns);
        if (!(counted & UINT64_C(1) << group->gpu))
            journal_add(node, &node->gpu_states[group->gpu].busy, wall_ns);
        counted |= UINT64_C(1) << group->gpu;
    }
    journal_add(node, &node->timeline.now_ns, wall_ns);
}

/* --- walking ------------------------------------------------------------------------------------------------ */

static void walk_to(struct walk *walk, uint64_t until) {
    struct node_file *node = walk->node;
    while (settle(walk) && node->timeline.now_ns < until) {
        survey(node);
        pass(node, earlier(moment.next_ns, until) - node->timeline.now_ns);
        if (!keep_going(walk))
            return;
    }
}

static void meter(struct node_file *node, struct node_meter *window, uint64_t busy) {
    journal_put(node, &window->old_ns, window->new_ns);
    journal_put(node, &window->old_busy, window->new_busy);
    journal_put(node, &window->new_ns, node->timeline.now_ns);
    journal_put(node, &window->new_busy, busy);
    journal_commit(node);
}

static void meter_all(struct node_file *node) {
    if (node->timeline.now_ns - node->timeline.metered_ns < METER_NS)
        return;
    for (uint32_t g = 0; g < node->info.gpu_count; g++) {
        meter(node, &node->gpu_states[g].meter, node->gpu_states[g].busy);
        for (uint64_t p = 0; p < node->process_count; p++)
            if (node->processes[p].live && !node->processes[p].observer)
                meter(node, &node->processes[p].gpus[g].meter, node->processes[p].gpus[g].busy);
    }
    journal_put(node, &node->timeline.metered_ns, node->timeline.now_ns);
    journal_commit(node);
}

void timeline_advance(struct node_file *node, uint64_t until) {
    struct walk walk = {.node = node};
    if (until > node->timeline.now_ns && until - node->timeline.now_ns > 2 * METER_NS) {
        walk_to(&walk, until - METER_NS); /* nobody has looked for long: the meters' window begins here */
        meter_all(node);
    }
    walk_to(&walk, until);
    meter_all(node);
}

double timeline_rate(const struct node_meter *window, uint64_t now_ns, uint64_t busy, double unit) {
    if (now_ns <= window->old_ns)
        return 0;
    double rate = (double)(busy - window->old_busy) / unit / (double)(now_ns - window->old_ns);
    return rate > 1 ? 1 : rate;
}

uint64_t timeline_forecast(struct node_file *node, const struct timeline_target *targets, unsigned count) {
    struct walk walk = {.node = node, .forecast = true};
    uint64_t time = 0;
    journal_commit(node);
    while (time == 0) {
        bool near = settle(&walk);
        for (unsigned t = 0; t < count; t++)
            if (timeline_complete(node, targets[t]))
                time = node->timeline.now_ns;
        if (time)
            break;
        if (!near || !keep_going(&walk)) {
            time = node->timeline.now_ns;
            break;
        }
        survey(node);
        if (moment.next_ns == TIMELINE_NEVER) {
            time = TIMELINE_NEVER;
            break;
        }
        if (!journal_has_room(node, PUTS_PER_RUNNING * moment.running_count + 16)) {
            time = node->timeline.now_ns;
            break;
        }
        pass(node, moment.next_ns - node->timeline.now_ns);
    }
    journal_roll_back(node);
    return time;
}

/* --- channels ----------------------------------------------------------------------------------------------- */

int timeline_open(struct node_file *node, node_owner owner, unsigned gpu, uint32_t *ret_channel) {
    for (uint32_t index = 0; index < NODE_CHANNELS; index++) {
        struct node_channel *channel = &node->channels[index];
        if (channel->owner)
            continue;
        journal_put(node, &channel->generation, (channel->generation + 1) & UINT32_MAX);
        journal_put(node, &channel->gpu, gpu);
        journal_put(node, &channel->tail, 0);
        journal_put(node, &channel->done, 0);
        journal_put(node, &channel->effect_due, 0);
        journal_put(node, &channel->owner, owner);
        if (index >= node->channel_count)
            journal_put(node, &node->channel_count, index + 1);
        *ret_channel = index;
        return 0;
    }
    return -ENOSPC;
}

void timeline_close(struct node_file *node, uint32_t index) {
    struct node_channel *channel = &node->channels[index];
    if (channel->linked) {
        uint64_t *link = &node->timeline.busy_head;
        while (*link != index + 1)
            link = &node->channels[*link - 1].next;
        journal_put(node, link, channel->next);
        journal_put(node, &channel->linked, 0);
    }
    journal_put(node, &channel->running, 0);
    journal_put(node, &channel->owner, 0);
    journal_put(node, &channel->generation, (channel->generation + 1) & UINT32_MAX);
    journal_commit(node);
}

void timeline_submit(struct node_file *node, uint32_t index, const struct node_op *op) {
    struct node_channel *channel = &node->channels[index];
    *timeline_op(node, index, channel->tail + 1) = *op;
    if (!channel->linked) {
        journal_put(node, &channel->next, node->timeline.busy_head);
        journal_put(node, &node->timeline.busy_head, index + 1);
        journal_put(node, &channel->linked, 1);
    }
    journal_add(node, &channel->tail, 1);
    journal_commit(node);
}

void timeline_finish(struct node_file *node, uint32_t index) {
    struct node_channel *channel = &node->channels[index];
    complete(node, channel, timeline_op(node, index, channel->done + 1));
    journal_commit(node);
}
