/* Earning, and whose turn it is. The order: the highest class that may run; in it those with a promise to keep, the
 * one furthest behind first; then those who live on what is left, by weight. */
#include "arbiter_policy.h"

#include <gpuslice/region.h>

#define MS INT64_C(1000000)

/* One round of turns. Shorter turns cost switches; longer ones make a share wait. */
#define PERIOD_NS (40 * MS)
#define TURN_MIN_NS (2 * MS)
#define LEFTOVER_TURN_NS (8 * MS)
/* What an idle share keeps for its next start, and what a busy one that could not be served in time may be owed:
 * time by the clock, of which it earns its cores' percentage. */
#define IDLE_KEEPS_NS (40 * MS)
#define BUSY_KEEPS_NS (1000 * MS)
#define COMMON_KEEPS_NS (50 * MS)
/* The same of a share that works alone: there is time to make up in, and a host that stalls costs it nothing. Who comes
 * back waits so long at most, once. */
#define ALONE_KEEPS_NS (500 * MS)
/* A share may run into debt by what it earns in this time, so that it need not stop and wait for the next look. Then it
 * pays, and goes on when a burst is saved up, so that it is not woken for crumbs. */
#define DEBT_NS (30 * MS)
#define BURST_NS (2 * MS)
#define BURST_PERIOD_NS (20 * MS)
/* Without work for this long, the turn is over: host code between two launches is not idleness. */
#define IDLE_AFTER_NS (700 * 1000)
/* The next share starts this long before the old one's work is forecast to end: the time it takes to wake up. */
#define OVERLAP_NS (3 * MS)
/* How long a wrong or false forecast can hold the others up. */
#define DRAIN_MAX_NS (100 * MS)
#define DRAIN_LATE_NS (1 * MS)
/* When all that executed in a drain has been told, and how much of one may be an honest forecast's error. */
#define DRAIN_TOLD_NS (20 * MS)
#define DRAIN_FREE_NS (5 * MS)
/* When all is quiet: how long to keep looking before sleeping on the doorbells, and how often to look. */
#define LINGER_NS (20 * MS)
#define LOOK_SOONEST_NS (MS / 2)
#define LOOK_LATEST_NS (10 * MS)
/* A share that runs with a gate but without a limit: as good as none, yet its run-ahead stays bounded. */
#define AMPLE_NS (1000 * MS)

/* May use what the others leave; the rest is capped even when alone. */
static bool takes_leftover(const struct arbiter_share *share) {
    return share->cores == 0 || share->cores >= 100 || share->policy == GPUSLICE_POLICY_ELASTIC;
}

static bool has_promise(const struct arbiter_share *share) {
    return share->cores > 0 && !share->dry;
}

static bool may_run(const struct arbiter_share *share) {
    return share->working && (has_promise(share) || takes_leftover(share));
}

static int64_t cores_of(const struct arbiter_share *share, int64_t time_ns) {
    return time_ns / 100 * share->cores;
}

static int64_t burst_of(const struct arbiter_share *share) {
    int64_t burst = cores_of(share, BURST_PERIOD_NS);
    return burst < BURST_NS ? burst : BURST_NS;
}

static int64_t debt_of(const struct arbiter_share *share) {
    return cores_of(share, DEBT_NS);
}

/* How far it is behind, by the clock: in this time it earned what it is owed. */
static int64_t lag_of(const struct arbiter_share *share) {
    return share->balance_ns / (int64_t)share->cores * 100;
}

static void earn(struct arbiter_share *share, int64_t passed_ns) {
    share->balance_ns += cores_of(share, passed_ns);
    int64_t keeps = cores_of(share, share->working ? BUSY_KEEPS_NS : IDLE_KEEPS_NS);
    if (share->balance_ns > keeps)
        share->balance_ns = keeps;
    if (share->balance_ns >= burst_of(share))
        share->dry = false;
}

/* After what it used was charged. */
static void settle(struct arbiter_share *share) {
    if (share->balance_ns < 0 && takes_leftover(share)) {
        share->leftover_ns += (uint64_t)-share->balance_ns / (share->weight ? share->weight : 1);
        share->balance_ns = 0;
    }
    if (share->balance_ns < -debt_of(share) / 2)
        share->dry = true;
}

/* Where all busy shares are owed time, the GPU itself was not there to give it: they forgive the same part of the
 * clock, which keeps what they are owed relative to each other. */
static void forgive_in_common(struct arbiter_share *const *shares, size_t count) {
    int64_t least = INT64_MAX;
    size_t owed = 0;
    for (size_t i = 0; i < count; i++)
        if (shares[i]->cores > 0 && shares[i]->working) {
            owed++;
            least = lag_of(shares[i]) < least ? lag_of(shares[i]) : least;
        }
    int64_t forgiven = least - (owed == 1 ? ALONE_KEEPS_NS : COMMON_KEEPS_NS);
    if (least == INT64_MAX || forgiven <= 0)
        return;
    for (size_t i = 0; i < count; i++)
        if (shares[i]->cores > 0 && shares[i]->working)
            shares[i]->balance_ns -= cores_of(shares[i], forgiven);
}

/* A share that comes back from a pause has no claim on the leftovers of meanwhile. */
static void join_leftover(struct arbiter_share *share, struct arbiter_share *const *shares, size_t count) {
    uint64_t least = UINT64_MAX;
    for (size_t i = 0; i < count; i++)
        if (shares[i] != share && takes_leftover(shares[i]) && shares[i]->working && shares[i]->leftover_ns < least)
            least = shares[i]->leftover_ns;
    if (least != UINT64_MAX && share->leftover_ns < least)
        share->leftover_ns = least;
}

static void observe_work(struct arbiter_share *share, struct arbiter_share *const *shares, size_t count,
                         uint64_t now_ns) {
    bool worked = share->working;
    if (share->in_flight || share->waiting)
        share->worked_at_ns = now_ns;
    else if (share->covered_until_ns <= now_ns && share->covered_until_ns > share->worked_at_ns)
        share->worked_at_ns = share->covered_until_ns;
    share->working = share->live && share->worked_at_ns != 0 && now_ns - share->worked_at_ns <= (uint64_t)IDLE_AFTER_NS;
    if (share->working && !worked)
        join_leftover(share, shares, count);
}

/* A share that says that its work executes, and does not use the GPU while the others wait for it, pays for that time
 * as if it had: otherwise a false forecast is everybody's loss but its own. */
static void pay_for_drain(struct arbiter_share *share, uint64_t now_ns) {
    if (share->drained_ns == 0 || now_ns - share->drain_ended_ns < (uint64_t)DRAIN_TOLD_NS)
        return;
    uint64_t used_ns = share->charged_ns - share->drain_charged_ns;
    if (share->drained_ns > used_ns + (uint64_t)DRAIN_FREE_NS)
        share->balance_ns -= (int64_t)(share->drained_ns - used_ns);
    share->drained_ns = 0;
}

static void observe(struct arbiter_share *const *shares, size_t count, uint64_t passed_ns, uint64_t now_ns) {
    for (size_t i = 0; i < count; i++)
        arbiter_charge(shares[i], shares, count, now_ns);
    for (size_t i = 0; i < count; i++)
        pay_for_drain(shares[i], now_ns);
    for (size_t i = 0; i < count; i++) {
        settle(shares[i]);
        observe_work(shares[i], shares, count, now_ns);
        earn(shares[i], (int64_t)passed_ns);
    }
    forgive_in_common(shares, count);
}

/* Says whether `a` goes before `b`; both may run. */
static bool goes_before(const struct arbiter_share *a, const struct arbiter_share *b) {
    if (a->priority != b->priority)
        return a->priority > b->priority;
    if (has_promise(a) != has_promise(b))
        return has_promise(a);
    if (has_promise(a))
        return lag_of(a) > lag_of(b);
    return a->leftover_ns < b->leftover_ns;
}

/* The best of all but `other_than` (NULL: of all). */
static struct arbiter_share *pick(struct arbiter_share *const *shares, size_t count,
                                  const struct arbiter_share *other_than) {
    struct arbiter_share *best = NULL;
    for (size_t i = 0; i < count; i++)
        if (shares[i] != other_than && may_run(shares[i]) && (!best || goes_before(shares[i], best)))
            best = shares[i];
    return best;
}

/* A holder that had its turn and says that it used little of it: it had little to do, or lies. It would stay the one
 * furthest behind for ever, so its equals go first once. */
static bool wasted_turn(const struct arbiter_state *state, uint64_t now_ns) {
    return state->holder && now_ns >= state->turn_ends_ns &&
           (state->holder->charged_ns - state->turn_charged_ns) * 4 < now_ns - state->turn_began_ns;
}

static struct arbiter_share *pick_next(const struct arbiter_state *state, struct arbiter_share *const *shares,
                                       size_t count, uint64_t now_ns) {
    struct arbiter_share *next = pick(shares, count, NULL);
    if (!next || next != state->holder || !wasted_turn(state, now_ns))
        return next;
    struct arbiter_share *other = pick(shares, count, next);
    bool equals = other && other->priority == next->priority && has_promise(other) == has_promise(next);
    return equals ? other : next;
}

/* The holder is not interrupted within its turn by its equals: only by a higher class, or by a promise while it runs
 * on leftovers. */
static bool keeps_turn(const struct arbiter_state *state, const struct arbiter_share *next, uint64_t now_ns) {
    const struct arbiter_share *holder = state->holder;
    if (!holder || !may_run(holder) || now_ns >= state->turn_ends_ns)
        return false;
    return next->priority <= holder->priority && (has_promise(holder) || !has_promise(next));
}

static uint64_t turn_of(const struct arbiter_share *share, struct arbiter_share *const *shares, size_t count) {
    if (!has_promise(share))
        return LEFTOVER_TURN_NS;
    int64_t cores = 0;
    for (size_t i = 0; i < count; i++)
        if (may_run(shares[i]) && has_promise(shares[i]))
            cores += shares[i]->cores;
    int64_t turn = PERIOD_NS * share->cores / cores;
    return (uint64_t)(turn < TURN_MIN_NS ? TURN_MIN_NS : turn);
}

/* When the next share may start, while the holder's last work still executes. */
static uint64_t drained_at(const struct arbiter_state *state, uint64_t now_ns) {
    const struct arbiter_share *holder = state->holder;
    if (!holder || !holder->live || !holder->in_flight)
        return now_ns;
    uint64_t until = holder->in_flight_until_ns;
    if (until <= now_ns) /* it should have ended: perhaps it only was not seen yet */
        until += DRAIN_LATE_NS;
    until -= until > OVERLAP_NS ? OVERLAP_NS : 0;
    uint64_t latest = state->drain_began_ns + DRAIN_MAX_NS;
    return until < latest ? until : latest;
}

static void hand_over(struct arbiter_state *state, struct arbiter_share *next, struct arbiter_share *const *shares,
                      size_t count, uint64_t now_ns) {
    if (next != state->holder && state->holder) {
        if (state->drain_began_ns == 0) {
            state->drain_began_ns = now_ns;
            state->drain_charged_ns = state->holder->charged_ns;
        }
        if (drained_at(state, now_ns) > now_ns)
            return;
        state->holder->drained_ns = now_ns - state->drain_began_ns;
        state->holder->drain_ended_ns = now_ns;
        state->holder->drain_charged_ns = state->drain_charged_ns;
    }
    state->holder = next;
    state->drain_began_ns = 0;
    state->turn_began_ns = now_ns;
    state->turn_charged_ns = next->charged_ns;
    state->turn_ends_ns = now_ns + turn_of(next, shares, count);
}

static void take_turns(struct arbiter_state *state, struct arbiter_share *const *shares, size_t count,
                       uint64_t now_ns) {
    struct arbiter_share *next = pick_next(state, shares, count, now_ns);
    if (!next) { /* nobody may: a share that is out of balance keeps the turn, its credit holds it back */
        if (state->holder && !state->holder->working)
            state->holder = NULL;
        state->drain_began_ns = 0;
    } else if (keeps_turn(state, next, now_ns)) {
        state->drain_began_ns = 0;
    } else {
        hand_over(state, next, shares, count, now_ns);
    }
}

/* May wrap around: busy_ns is the tenant's word, and so the tenant's harm. */
static uint64_t credit_of(const struct arbiter_share *share, bool alone) {
    if (takes_leftover(share))
        return alone ? ARBITER_UNLIMITED : share->busy_ns + (uint64_t)AMPLE_NS;
    int64_t ahead_ns = share->balance_ns + debt_of(share);
    return share->busy_ns + (share->dry || ahead_ns < 0 ? 0 : (uint64_t)ahead_ns);
}

static void publish(const struct arbiter_state *state, struct arbiter_share *const *shares, size_t count) {
    size_t live = 0, working = 0;
    for (size_t i = 0; i < count; i++) {
        live += shares[i]->live;
        working += shares[i]->working;
    }
    for (size_t i = 0; i < count; i++) {
        struct arbiter_share *share = shares[i];
        /* While nobody works anybody may start without asking. */
        share->run = working == 0 || (share == state->holder && state->drain_began_ns == 0);
        share->credit_ns = credit_of(share, live == (size_t)share->live);
    }
}

static uint64_t least(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* When the share's account changes what it may do: it may have used up its balance, or saved up a burst. */
static uint64_t account_turns(const struct arbiter_share *share, uint64_t now_ns) {
    if (takes_leftover(share) || !share->working)
        return UINT64_MAX;
    int64_t ns = share->dry ? (burst_of(share) - share->balance_ns) / (int64_t)share->cores * 100
                            : share->balance_ns + debt_of(share) / 2;
    return now_ns + (ns > 0 ? (uint64_t)ns : 0);
}

/* The end of the turn, or of what is in the way of it: until its forecast the holder is certainly not idle. */
static uint64_t turn_changes(const struct arbiter_state *state, uint64_t now_ns) {
    const struct arbiter_share *holder = state->holder;
    if (!holder)
        return now_ns;
    if (state->drain_began_ns != 0)
        return drained_at(state, now_ns);
    uint64_t idle_ns = (holder->in_flight ? holder->in_flight_until_ns : now_ns) + (uint64_t)IDLE_AFTER_NS;
    return least(state->turn_ends_ns, idle_ns);
}

static uint64_t next_look(const struct arbiter_state *state, struct arbiter_share *const *shares, size_t count,
                          uint64_t now_ns) {
    uint64_t worked_at = 0, look = now_ns + (uint64_t)LOOK_LATEST_NS;
    size_t live = 0;
    for (size_t i = 0; i < count; i++) {
        live += shares[i]->live;
        if (shares[i]->live && shares[i]->worked_at_ns > worked_at)
            worked_at = shares[i]->worked_at_ns;
        look = least(look, account_turns(shares[i], now_ns));
    }
    if (worked_at == 0 || now_ns - worked_at > (uint64_t)LINGER_NS)
        return UINT64_MAX;
    if (live > 1)
        look = least(look, turn_changes(state, now_ns));
    return look > now_ns + LOOK_SOONEST_NS ? look : now_ns + (uint64_t)LOOK_SOONEST_NS;
}

uint64_t arbiter_decide(struct arbiter_state *state, struct arbiter_share *const *shares, size_t count,
                        uint64_t now_ns) {
    uint64_t passed_ns = state->decided_at_ns == 0 ? 0 : now_ns - state->decided_at_ns;
    state->decided_at_ns = now_ns;
    observe(shares, count, passed_ns, now_ns);
    take_turns(state, shares, count, now_ns);
    publish(state, shares, count);
    return next_look(state, shares, count, now_ns);
}

void arbiter_forget(struct arbiter_state *state, const struct arbiter_share *share) {
    if (state->holder != share)
        return;
    state->holder = NULL;
    state->drain_began_ns = 0;
}
