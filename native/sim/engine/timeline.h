/* The timeline of a node: when every queued operation starts and ends. Pure: it knows the node file and a time, no
 * clock, no process, no lock (the caller holds it). */
#ifndef GPUSLICE_SIM_TIMELINE_H
#define GPUSLICE_SIM_TIMELINE_H

#include <stdbool.h>

#include "node.h"

#define TIMELINE_NEVER UINT64_MAX

/* Settles everything up to `until` (if that is later than timeline.now_ns). Commits as it goes. */
void timeline_advance(struct node_file *node, uint64_t until);

/* Finds a free channel for a stream of `owner`. -ENOSPC. */
int timeline_open(struct node_file *node, node_owner owner, unsigned gpu, uint32_t *ret_channel);
/* Gives a channel back; what is queued there is dropped. Tickets of it count as complete from now on. */
void timeline_close(struct node_file *node, uint32_t channel);

/* Appends an operation; the queue must have room. */
void timeline_submit(struct node_file *node, uint32_t channel, const struct node_op *op);
/* The EXTERNAL operation that `channel` is at ends now (timeline.now_ns). */
void timeline_finish(struct node_file *node, uint32_t channel);

struct timeline_target {
    uint32_t channel, generation;
    uint64_t sequence;
};
bool timeline_complete(const struct node_file *node, struct timeline_target target);

/* When the first of the targets will be complete, from what is queued now. Looks ahead over a bounded number of
 * operations: an earlier time means "not before then, look again". TIMELINE_NEVER: it hangs on somebody's action. */
uint64_t timeline_forecast(struct node_file *node, const struct timeline_target *targets, unsigned count);

/* The share of time that `busy` (a counter now) grew over the meter's window, 0 to 1. `unit`: counts a nanosecond. */
double timeline_rate(const struct node_meter *meter, uint64_t now_ns, uint64_t busy, double unit);

static inline struct node_op *timeline_op(struct node_file *node, uint32_t channel, uint64_t sequence) {
    return &node->queues[channel][sequence % NODE_QUEUE];
}

#endif
