#include "arbiter_seat.h"

#include <limits.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../region/share.h"
#include "agent_look.h"

/* Limits and membership change seldom, and finding out takes a system call for each process. */
#define LOOK_AGAIN_NS UINT64_C(10000000)
/* A tenant can make it dear, by tens of thousands of locks in its usage file: then it is done seldom, and not to the
 * end, so that the other shares of the GPU lose this part of the arbiter's time at most. */
#define LOOK_AT_MOST_NS UINT64_C(1000000)
#define LOOK_SELDOM 100u
#define BEAT_NS UINT64_C(50000000) /* half of what is promised: a late thread is no stale heartbeat */

static void find_live(struct arbiter_seat *seat, uint64_t now_ns) {
    struct agent_look look = agent_look_begin(seat->files->usage, LOOK_AT_MOST_NS);
    seat->live_count = 0;
    for (uint32_t slot; (slot = agent_look_next(&look)) < GPUSLICE_SLOTS;)
        seat->live[seat->live_count++] = (uint16_t)slot;
    seat->look_not_before_ns = now_ns + agent_look_spent_ns(&look) * LOOK_SELDOM;
}

static void read_limits(struct arbiter_seat *seat) {
    struct arbiter_share *account = &seat->account;
    struct gpuslice_limits limits;
    if (!gpuslice_limits_read(seat->files->grant, &limits))
        return;
    account->cores = limits.cores;
    account->weight = limits.weight;
    account->policy = limits.policy;
    account->priority = limits.priority;
}

static void add_process(struct arbiter_share *account, const struct gpuslice_slot *slot) {
    uint64_t until_ns = slot->in_flight_until_ns;
    account->waiting |= slot->waiting != 0;
    if (slot->in_flight == 0)
        return;
    account->in_flight = true;
    if (until_ns > account->in_flight_until_ns)
        account->in_flight_until_ns = until_ns;
}

static bool read_at(const struct arbiter_seat *seat, size_t offset, void *bytes, size_t count) {
    return pread(seat->files->usage, bytes, count, (off_t)offset) == (ssize_t)count;
}

static bool read_usage(struct arbiter_seat *seat) {
    struct arbiter_share *account = &seat->account;
    struct {
        uint64_t covered_until_ns, busy_ns;
    } time;
    _Static_assert(offsetof(struct gpuslice_usage, busy_ns) == offsetof(struct gpuslice_usage, covered_until_ns) + 8,
                   "both are read at once");
    if (!read_at(seat, offsetof(struct gpuslice_usage, covered_until_ns), &time, sizeof(time)))
        return false;
    account->covered_until_ns = time.covered_until_ns;
    account->busy_ns = time.busy_ns;
    for (uint32_t i = 0; i < seat->live_count; i++) {
        struct gpuslice_slot slot;
        size_t offset = offsetof(struct gpuslice_usage, slots) + seat->live[i] * sizeof(slot);
        if (!read_at(seat, offset, &slot, sizeof(slot)))
            return false;
        add_process(account, &slot);
    }
    return true;
}

void seat_read(struct arbiter_seat *seat, uint64_t now_ns) {
    struct arbiter_share *account = &seat->account;
    bool due = seat->looked_ns == 0 || now_ns - seat->looked_ns >= LOOK_AGAIN_NS;
    if (due && now_ns >= seat->look_not_before_ns) {
        seat->looked_ns = now_ns;
        find_live(seat, now_ns);
        read_limits(seat);
    }
    account->in_flight = account->waiting = false;
    account->in_flight_until_ns = 0;
    account->live = seat->live_count > 0 && read_usage(seat);
}

/* The share may launch more than it could before: those who wait must hear of it. */
static bool opens(const struct arbiter_share *account, uint64_t old_credit_ns) {
    return account->waiting && account->run && old_credit_ns <= account->busy_ns &&
           account->credit_ns > account->busy_ns;
}

static void change_run(struct gpuslice_grant *grant, bool run) {
    uint32_t word = atomic_load_explicit(&grant->run_word, memory_order_relaxed);
    word = ((word & ~GPUSLICE_RUN) + 2) | (run ? GPUSLICE_RUN : 0);
    /* Release: who sees the new word sees the credit that goes with it. */
    atomic_store_explicit(&grant->run_word, word, memory_order_release);
    if (run)
        syscall(SYS_futex, &grant->run_word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

void seat_write(struct arbiter_seat *seat, uint64_t now_ns) {
    struct gpuslice_grant *grant = seat->files->grant;
    const struct arbiter_share *account = &seat->account;
    uint64_t old_credit_ns = atomic_load_explicit(&grant->credit_ns, memory_order_relaxed);
    bool ran = atomic_load_explicit(&grant->run_word, memory_order_relaxed) & GPUSLICE_RUN;
    if (account->credit_ns != old_credit_ns)
        atomic_store_explicit(&grant->credit_ns, account->credit_ns, memory_order_relaxed);
    atomic_store_explicit(&grant->overlap_ns, account->overlap_ns, memory_order_relaxed);
    if (account->run != ran || opens(account, old_credit_ns))
        change_run(grant, account->run);
    if (now_ns - seat->heartbeat_ns >= BEAT_NS) {
        seat->heartbeat_ns = now_ns;
        /* Release: a share that joins on this beat sees the credit and the run word written before it. */
        atomic_store_explicit(&grant->heartbeat_ns, now_ns, memory_order_release);
    }
}

void seat_set_doorbell(struct arbiter_seat *seat, enum gpuslice_doorbell doorbell) {
    if (atomic_load_explicit(&seat->files->grant->doorbell, memory_order_relaxed) == (uint32_t)doorbell)
        return; /* the line is read at every launch */
    /* Sequentially consistent: either the share that starts work sees that it must ring, or the look that follows
     * sees its work. */
    atomic_store_explicit(&seat->files->grant->doorbell, (uint32_t)doorbell, memory_order_seq_cst);
}
