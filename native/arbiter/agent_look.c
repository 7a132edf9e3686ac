#include "agent_look.h"

#include <fcntl.h>
#include <time.h>

static uint64_t thread_ns(void) {
    struct timespec spent;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &spent);
    return (uint64_t)spent.tv_sec * UINT64_C(1000000000) + (uint64_t)spent.tv_nsec;
}

struct agent_look agent_look_begin(int usage_fd, uint64_t at_most_ns) {
    return (struct agent_look){.usage_fd = usage_fd, .begun_ns = thread_ns(), .at_most_ns = at_most_ns};
}

uint64_t agent_look_spent_ns(const struct agent_look *look) {
    return thread_ns() - look->begun_ns;
}

static uint32_t next_seen(const struct agent_look *look) {
    uint32_t slot = look->from;

    while (slot < GPUSLICE_SLOTS && !(look->seen[slot / 64] >> slot % 64 & 1))
        slot++;
    return slot;
}

/* F_OFD_GETLK tells of any lock in a range, not of the first, so the range shrinks until nothing before the last one
 * found is locked. What was found on the way is kept: n held slots take 2n + 1 calls, in whatever order they come. */
uint32_t agent_look_next(struct agent_look *look) {
    uint32_t found = next_seen(look);

    if (look->cut_short)
        return GPUSLICE_SLOTS;
    while (look->from < found && !look->cut_short) {
        struct flock lock = {.l_type = F_WRLCK,
                             .l_whence = SEEK_SET,
                             .l_start = (off_t)(GPUSLICE_LOCK_BASE + look->from),
                             .l_len = (off_t)(found - look->from)};

        if (fcntl(look->usage_fd, F_OFD_GETLK, &lock) < 0 || lock.l_type == F_UNLCK)
            break;
        /* A lock may begin before the range. */
        uint64_t start = (uint64_t)lock.l_start;

        found = start < GPUSLICE_LOCK_BASE + look->from ? look->from : (uint32_t)(start - GPUSLICE_LOCK_BASE);
        look->seen[found / 64] |= UINT64_C(1) << found % 64;
        look->cut_short = agent_look_spent_ns(look) > look->at_most_ns;
    }
    look->from = found + 1;
    return found;
}
