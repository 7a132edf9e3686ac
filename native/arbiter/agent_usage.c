/* Reading what a share says of itself. A tenant can write anything there, change it meanwhile, cut the file short
 * and hold any locks: everything is copied by pread, checked against its range, and no sum runs over. */
#include "../region/internal.h"
#include "../region/words.h"
#include "agent_look.h"
#include "agent_share.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEARTBEAT_STALE_NS UINT64_C(1000000000)
/* All 1024 slots in the worst order of their locks take some 10 ms; tens of thousands of locks are no honest share. */
#define LOOK_AT_MOST_NS UINT64_C(50000000)

static uint64_t least(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* The part of the usage file before the slots. */
struct usage_head {
    _Alignas(struct gpuslice_usage) unsigned char bytes[offsetof(struct gpuslice_usage, slots)];
};

static int read_head(const struct gpuslice_agent_share *share, struct usage_head *head, char *reason) {
    struct stat status;
    const char *why;

    if (fstat(share->usage, &status) < 0)
        return agent_reason(reason, -errno, "cannot read the usage file: errno %d", errno);
    if (!S_ISREG(status.st_mode) || status.st_size != (off_t)sizeof(struct gpuslice_usage) ||
        pread(share->usage, head, sizeof(*head), 0) != (ssize_t)sizeof(*head))
        return agent_reason(reason, -EPROTO, "the usage file is corrupt: it has %lld bytes instead of %zu",
                            (long long)status.st_size, sizeof(struct gpuslice_usage));
    int error = region_check_usage((const struct gpuslice_usage *)head, sizeof(struct gpuslice_usage), &why);

    return error ? agent_reason(reason, error, "%s", why) : 0;
}

static void fill_process(struct gpuslice_process_usage *process, uint32_t index, const struct gpuslice_slot *slot,
                         uint64_t now_ns) {
    uint64_t kinds[GPUSLICE_MEMORY_KINDS];
    uint64_t reach = GRANULES_MAX * GPUSLICE_GRANULE;

    for (int i = 0; i < GPUSLICE_MEMORY_KINDS; i++)
        kinds[i] = least(slot->memory_bytes[i], reach);
    *process = (struct gpuslice_process_usage){
        .slot = index,
        .pid = slot->pid,
        .pid_namespace = slot->pid_namespace,
        .start_time = slot->start_time,
        .held_bytes = word_bytes(slot->held_word),
        .context_bytes = kinds[GPUSLICE_MEMORY_CONTEXT],
        .module_bytes = kinds[GPUSLICE_MEMORY_MODULE],
        .data_bytes = kinds[GPUSLICE_MEMORY_DATA],
        .array_bytes = kinds[GPUSLICE_MEMORY_ARRAY],
        .managed_bytes = kinds[GPUSLICE_MEMORY_MANAGED],
        .pinned_bytes = kinds[GPUSLICE_MEMORY_PINNED],
        .swapped_bytes = least(slot->swapped_bytes, reach),
        .busy_ns = least(slot->busy_ns, now_ns),
        .throttled_ns = least(slot->throttled_ns, INT64_MAX), /* threads add theirs up: more than now_ns is possible */
        .launches = least(slot->launches, INT64_MAX),
        .last_activity_ns = least(slot->last_activity_ns, now_ns),
        .in_flight = slot->in_flight,
        .waiting = slot->waiting,
    };
}

static int read_slot(const struct gpuslice_agent_share *share, uint32_t index, struct gpuslice_slot *slot) {
    off_t offset = (off_t)(offsetof(struct gpuslice_usage, slots) + index * sizeof(*slot));

    return pread(share->usage, slot, sizeof(*slot), offset) == (ssize_t)sizeof(*slot) ? 0 : -EPROTO;
}

int gpuslice_agent_share_usage(const struct gpuslice_agent_share *share, struct gpuslice_share_usage *ret_usage,
                               struct gpuslice_process_usage *processes, uint32_t capacity, char *reason) {
    struct usage_head head;
    const struct gpuslice_usage *usage = (const struct gpuslice_usage *)&head;
    const struct gpuslice_grant *grant = share->grant;
    uint64_t now_ns = gpuslice_now_ns();
    int error = read_head(share, &head, reason);

    if (error)
        return error;
    uint64_t heartbeat_ns = atomic_load_explicit(&grant->heartbeat_ns, memory_order_relaxed);
    uint64_t busy_ns = least(usage->busy_ns, now_ns);

    *ret_usage = (struct gpuslice_share_usage){
        .total_bytes = word_bytes(usage->total_word),
        .busy_ns = busy_ns - least(atomic_load_explicit(&grant->overlap_ns, memory_order_relaxed), busy_ns),
        .credit_ns = atomic_load_explicit(&grant->credit_ns, memory_order_relaxed),
        .pacing_local = heartbeat_ns + HEARTBEAT_STALE_NS < now_ns,
    };
    struct agent_look look = agent_look_begin(share->usage, LOOK_AT_MOST_NS);

    for (uint32_t i; (i = agent_look_next(&look)) < GPUSLICE_SLOTS;) {
        struct gpuslice_slot slot;

        if (read_slot(share, i, &slot))
            return agent_reason(reason, -EPROTO, "the usage file is corrupt: it ends before process slot %u", i);
        ret_usage->live_bytes += word_bytes(slot.held_word); /* 1024 times at most 8 TiB */
        if (ret_usage->process_count < capacity)
            fill_process(&processes[ret_usage->process_count], i, &slot, now_ns);
        ret_usage->process_count++;
    }
    if (look.cut_short)
        return agent_reason(reason, -EPROTO,
                            "the usage file is corrupt: it has so many locks that to find the "
                            "processes takes too long");
    return 0;
}

uint32_t gpuslice_agent_share_process_count(const struct gpuslice_agent_share *share) {
    struct agent_look look = agent_look_begin(share->usage, LOOK_AT_MOST_NS);
    uint32_t count = 0;

    while (agent_look_next(&look) < GPUSLICE_SLOTS)
        count++;
    return count;
}
