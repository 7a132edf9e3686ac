/* A look at which slots of a share live processes hold, by their locks alone. */
#ifndef GPUSLICE_AGENT_LOOK_H
#define GPUSLICE_AGENT_LOOK_H

#include <gpuslice/region.h>
#include <stdbool.h>
#include <stdint.h>

/* A tenant can make a look dear, by tens of thousands of locks in its usage file. So it ends when it has cost this
 * thread `at_most_ns` of processor time: to be preempted costs nobody's turn. */
struct agent_look {
    int usage_fd;
    uint32_t from;                      /* the slots below are known */
    uint64_t seen[GPUSLICE_SLOTS / 64]; /* held slots from there on that were met on the way, a bit each */
    uint64_t begun_ns, at_most_ns;
    bool cut_short;
};

struct agent_look agent_look_begin(int usage_fd, uint64_t at_most_ns);

/* The next slot that is held, ascending; or GPUSLICE_SLOTS: there is none, or the look was cut short. The first one
 * is only GPUSLICE_SLOTS if no slot is held, and in a look that is cut short slots may be left out before the last. */
uint32_t agent_look_next(struct agent_look *look);

/* What the look has cost this thread so far. */
uint64_t agent_look_spent_ns(const struct agent_look *look);

#endif
