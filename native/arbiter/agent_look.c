#include "agent_look.h"

#include <fcntl.h>
#include <gpuslice/region.h>
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

/* F_OFD_GETLK tells of any lock in a range, not of the first, so the range shrinks until nothing before the last one
 * found is locked. */
uint32_t agent_look_next(struct agent_look *look) {
    uint32_t found = GPUSLICE_SLOTS;

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
        look->cut_short = agent_look_spent_ns(look) > look->at_most_ns;
    }
    look->from = found + 1;
    return found;
}
