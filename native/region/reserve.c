/* Memory of a share: total_word against the limit, held_word in each process's slot.
 *
 * total_word is always the sum of all held words and of at most one transaction that it names and that has not
 * reached its held word yet. One transaction goes:
 *   1. Read total_word. Confirm the transaction it names: apply that intent to its target's held word, by one CAS
 *      that does nothing the second time, because held words count their changes.
 *   2. Write the own intent: the target's held word as it is, and as it shall be.
 *   3. CAS total_word to the new sum, the own slot and the intent's number. This commits; if it fails, from 1.
 *   4. Confirm the own transaction.
 * Killed before 3, nothing happened; killed after it, the next writer (any process) completes it. Nobody waits for
 * anybody. Since step 3 fails if anything was committed after step 1, the target's held word read in 2 is right.
 * A slot moves on to its next intent only once the last one was applied, so an intent whose number is not the one
 * in total_word needs no confirming. Reaping the dead is the same transaction with the dead slot as target.
 */
#include "internal.h"
#include "words.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* How a transaction changes the target, decided anew at each attempt. */
struct change {
    enum { RESERVE, CHARGE, REFUND, RETURN_ALL, REAP } verb;
    uint32_t target;
    uint64_t granules;       /* not for RETURN_ALL and REAP */
    uint64_t limit_granules; /* RESERVE */
    int usage_fd;            /* REAP: to see that the target is still dead */
};

/* acq_rel: whoever sees the held word (or a later total) also sees everything this transaction came after */
static void apply(struct gpuslice_usage *usage, uint32_t target, uint64_t before, uint64_t after) {
    atomic_compare_exchange_strong_explicit(&usage->slots[target & (GPUSLICE_SLOTS - 1)].held_word, &before, after,
                                            memory_order_acq_rel, memory_order_acquire);
}

static void confirm(struct gpuslice_usage *usage, uint64_t total) {
    struct gpuslice_slot *writer = &usage->slots[total_slot(total)];
    /* acquire, four times: the intent's number is looked at before and after its words */
    uint64_t sequence = atomic_load_explicit(&writer->intent_sequence, memory_order_acquire);
    uint64_t before = atomic_load_explicit(&writer->intent_before, memory_order_acquire);
    uint64_t after = atomic_load_explicit(&writer->intent_after, memory_order_acquire);
    uint32_t target = atomic_load_explicit(&writer->intent_target, memory_order_acquire);

    if ((sequence & SEQUENCE_MASK) != total_sequence(total))
        return;
    if (atomic_load_explicit(&writer->intent_sequence, memory_order_relaxed) != sequence)
        return;
    /* Numbers come round. If total_word still says so, this intent is the committed one. */
    if (atomic_load_explicit(&usage->total_word, memory_order_relaxed) == total)
        apply(usage, target, before, after);
}

/* Writes the next intent of `slot` and returns its number. */
static uint64_t intend(struct gpuslice_slot *slot, uint32_t target, uint64_t before, uint64_t after) {
    uint64_t sequence = atomic_load_explicit(&slot->intent_sequence, memory_order_relaxed) + 1;

    /* The number first, and release each time: who sees a word of this intent sees that it is not the last one's. */
    atomic_store_explicit(&slot->intent_sequence, sequence, memory_order_release);
    atomic_store_explicit(&slot->intent_before, before, memory_order_release);
    atomic_store_explicit(&slot->intent_after, after, memory_order_release);
    atomic_store_explicit(&slot->intent_target, target, memory_order_release);
    return sequence;
}

static uint64_t least(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* The granules the target and the total shall have. -ENOMEM: over the limit. -EALREADY: there is nothing to change.
 * The words may hold anything a tenant wrote: nothing here leaves its range. */
static int decide(const struct change *change, uint64_t *held, uint64_t *charged) {
    uint64_t granules = change->granules;

    switch (change->verb) {
    case RESERVE:
        if (granules > change->limit_granules || *charged > change->limit_granules - granules)
            return -ENOMEM;
        /* fall through */
    case CHARGE:
        granules = least(granules, GRANULES_MAX - *charged);
        granules = least(granules, GRANULES_MAX - *held);
        *held += granules;
        *charged += granules;
        break;
    case RETURN_ALL:
    case REAP:
        granules = *held;
        /* fall through */
    case REFUND:
        granules = least(granules, *held);
        *held -= granules;
        *charged -= least(granules, *charged);
        break;
    }
    return granules == 0 ? -EALREADY : 0;
}

/* One transaction by this process's slot; process->lock is held. -EBUSY: the target of a reap is alive. */
static int transact(struct gpuslice_share *share, const struct change *change) {
    struct gpuslice_usage *usage = share->usage;
    struct gpuslice_slot *target = &usage->slots[change->target];
    uint32_t own = share->process->slot_index;

    for (;;) {
        /* acquire: sees the held words of all that was confirmed before this total */
        uint64_t total = atomic_load_explicit(&usage->total_word, memory_order_acquire);

        confirm(usage, total);
        /* After the total was read: a new holder's first change makes the CAS below fail. */
        if (change->verb == REAP && gpuslice_slot_is_held(change->usage_fd, change->target))
            return -EBUSY;
        uint64_t before = atomic_load_explicit(&target->held_word, memory_order_acquire);
        uint64_t held = word_granules(before), charged = word_granules(total);
        int error = decide(change, &held, &charged);

        if (error)
            return error;
        uint64_t after = held_next(before, held);
        uint64_t sequence = intend(&usage->slots[own], change->target, before, after);
        /* acq_rel: publishes the intent, and follows what the last writer published */
        if (atomic_compare_exchange_strong_explicit(&usage->total_word, &total, total_pack(charged, own, sequence),
                                                    memory_order_acq_rel, memory_order_relaxed)) {
            apply(usage, change->target, before, after);
            return 0;
        }
    }
}

void region_inherit(struct gpuslice_share *share) {
    struct gpuslice_process *process = share->process;

    region_lock(&process->lock);
    transact(share, &(struct change){.verb = RETURN_ALL, .target = process->slot_index});
    region_unlock(&process->lock);
}

/* The memory limit in granules; process->lock is held. The checksum is only computed when a byte changed. */
static bool read_limit(struct gpuslice_share *share, uint64_t *limit_granules) {
    const struct gpuslice_grant *grant = share->grant;
    struct gpuslice_limits *seen = &share->process->limits;
    /* acquire: the copy is read as it was when the agent stored the index */
    uint32_t index = atomic_load_explicit(&grant->limits_index, memory_order_acquire) & 1;

    if ((seen->memory_bytes == 0 || memcmp(seen, &grant->limits[index], sizeof(*seen)) != 0) &&
        !gpuslice_limits_read(grant, seen))
        return false;
    *limit_granules = least(seen->memory_bytes / GPUSLICE_GRANULE, GRANULES_MAX);
    return true;
}

/* For people: the parts of what is held. Only this process writes them; process->lock is held. */
static void tally(struct gpuslice_share *share, enum gpuslice_memory_kind kind, uint64_t granules, bool taken) {
    _Atomic uint64_t *bytes = &share->usage->slots[share->process->slot_index].memory_bytes[kind];
    uint64_t was = atomic_load_explicit(bytes, memory_order_relaxed);
    uint64_t change = least(granules, GRANULES_MAX) * GPUSLICE_GRANULE;

    atomic_store_explicit(bytes, taken ? was + change : was - least(change, was), memory_order_relaxed);
}

static int change_own(struct gpuslice_share *share, uint64_t bytes, enum gpuslice_memory_kind kind,
                      struct change change) {
    struct gpuslice_process *process = share->process;
    const char *reason;
    int error = gpuslice_slot_own(share) ? 0 : gpuslice_slot_claim(share, &reason);

    if (error)
        return error;
    region_lock(&process->lock);
    change.target = process->slot_index;
    change.granules = bytes / GPUSLICE_GRANULE + (bytes % GPUSLICE_GRANULE != 0);
    if (kind != GPUSLICE_MEMORY_PINNED) {
        if (change.verb == RESERVE && !read_limit(share, &change.limit_granules))
            error = -EPROTO;
        else
            error = transact(share, &change);
    }
    if (error == -EALREADY)
        error = 0;
    if (!error)
        tally(share, kind, change.granules, change.verb != REFUND);
    region_unlock(&process->lock);
    return error;
}

int gpuslice_reserve(struct gpuslice_share *share, uint64_t bytes, enum gpuslice_memory_kind kind) {
    int error = change_own(share, bytes, kind, (struct change){.verb = RESERVE});

    if (error == -ENOMEM && gpuslice_reap(share) > 0)
        error = change_own(share, bytes, kind, (struct change){.verb = RESERVE});
    return error;
}

void gpuslice_charge(struct gpuslice_share *share, uint64_t bytes, enum gpuslice_memory_kind kind) {
    change_own(share, bytes, kind, (struct change){.verb = CHARGE});
}

void gpuslice_refund(struct gpuslice_share *share, uint64_t bytes, enum gpuslice_memory_kind kind) {
    change_own(share, bytes, kind, (struct change){.verb = REFUND});
}

uint64_t gpuslice_total_bytes(const struct gpuslice_share *share) {
    return word_bytes(atomic_load_explicit(&share->usage->total_word, memory_order_relaxed));
}

unsigned gpuslice_reap(struct gpuslice_share *share) {
    struct gpuslice_usage *usage = share->usage;
    struct gpuslice_process *process = share->process;
    unsigned freed = 0;

    if (!gpuslice_slot_own(share))
        return 0;
    int usage_fd = region_open_usage(share, O_RDONLY);

    if (usage_fd < 0)
        return 0;
    confirm(usage, atomic_load_explicit(&usage->total_word, memory_order_acquire));
    for (uint32_t i = 0; i < GPUSLICE_SLOTS; i++) {
        if (i == process->slot_index ||
            word_granules(atomic_load_explicit(&usage->slots[i].held_word, memory_order_relaxed)) == 0)
            continue;
        region_lock(&process->lock);
        freed += transact(share, &(struct change){.verb = REAP, .target = i, .usage_fd = usage_fd}) == 0;
        region_unlock(&process->lock);
    }
    close(usage_fd);
    return freed;
}
