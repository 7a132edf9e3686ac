/* Who may run now: the decision, without a clock and without a file.
 *
 * Every share earns GPU time at the rate of its cores and is charged what it used; `balance_ns` is the difference,
 * and it is never forgotten while the share has work, so that no error of a single turn adds up. One share runs at a
 * time. What is still executing when the next one starts shows as an overlap of the two, and is split between them:
 * while processes time-slice, each one's events include the other's slices.
 *
 * The caller fills the fields under "seen", calls arbiter_decide(), and publishes the fields under "decided".
 */
#ifndef GPUSLICE_ARBITER_POLICY_H
#define GPUSLICE_ARBITER_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARBITER_UNLIMITED UINT64_MAX
#define ARBITER_SPANS 16

/* An interval in which a share executed, on CLOCK_MONOTONIC. */
struct arbiter_span {
    uint64_t from_ns, until_ns;
};

struct arbiter_share {
    /* Seen: the grant's limits, and what the tenant says (nothing of it is trusted). */
    uint32_t cores, weight, policy, priority;
    bool in_flight, waiting;
    bool live;                   /* some process holds a slot */
    uint64_t in_flight_until_ns; /* forecast; 0: none */
    uint64_t busy_ns, covered_until_ns;

    /* Account. */
    bool known;                                /* busy_ns has been seen once: what was before is nobody's debt */
    bool dry;                                  /* has used up its balance, and waits until a burst is saved up */
    int64_t balance_ns;                        /* GPU time earned and not used; negative: debt */
    uint64_t charged_ns;                       /* GPU time it was charged when it was seen, before later splits */
    uint64_t overlap_ns;                       /* of busy_ns: what was split off for others */
    uint64_t leftover_ns;                      /* used of what others left, divided by weight */
    bool working;                              /* has work, or had it a moment ago */
    uint64_t worked_at_ns;                     /* when it last had work */
    uint64_t drained_ns;                       /* how long the others waited for its last work to end; 0: paid for */
    uint64_t drain_ended_ns, drain_charged_ns; /* when that was over; charged_ns when it began */
    uint64_t seen_busy_ns, seen_covered_ns;
    struct arbiter_span spans[ARBITER_SPANS]; /* newest last; from == until: empty */

    /* Decided. */
    bool run;
    uint64_t credit_ns; /* busy_ns may grow to this; ARBITER_UNLIMITED: no gate at all */
};

struct arbiter_state {
    struct arbiter_share *holder; /* whose turn it is, or NULL */
    uint64_t turn_began_ns;       /* when it began */
    uint64_t turn_charged_ns;     /* the holder's charged_ns then */
    uint64_t turn_ends_ns;        /* when the turn is looked at again */
    uint64_t drain_charged_ns;    /* the holder's charged_ns when the drain began */
    uint64_t drain_began_ns;      /* the holder's turn is over, its last work still executes; 0: not so */
    uint64_t decided_at_ns;       /* the last call; 0: none */
};

/* Decides for all shares of one GPU. Returns when to decide again, at the latest; UINT64_MAX: when somebody rings.
 * `shares` are pointers because `state->holder` is one of them; a share that is taken away must first be passed to
 * arbiter_forget(). */
uint64_t arbiter_decide(struct arbiter_state *state, struct arbiter_share *const *shares, size_t count,
                        uint64_t now_ns);
void arbiter_forget(struct arbiter_state *state, const struct arbiter_share *share);

/* Charges the share what it newly used, splitting what overlaps the others' use. Part of arbiter_decide(). */
void arbiter_charge(struct arbiter_share *share, struct arbiter_share *const *shares, size_t count, uint64_t now_ns);

#endif
