/* Limits as a caller says them and as they stand in a grant. */
#include "../region/internal.h"
#include "agent_share.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

int agent_reason(char *reason, int error, const char *format, ...) {
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(reason, AGENT_REASON_BYTES, format, arguments);
    va_end(arguments);
    return error;
}

int agent_limits_check(const struct gpuslice_share_limits *limits, char *reason) {
    if (limits->memory_bytes < GPUSLICE_GRANULE)
        return agent_reason(reason, -EINVAL, "a share's memory limit is at least %llu bytes, not %llu",
                            (unsigned long long)GPUSLICE_GRANULE, (unsigned long long)limits->memory_bytes);
    if (limits->cores > 100)
        return agent_reason(reason, -EINVAL, "cores is a percentage from 0 to 100, not %u", limits->cores);
    if (limits->weight == 0)
        return agent_reason(reason, -EINVAL, "a share's weight is 1 or more, not 0");
    if (limits->policy > GPUSLICE_POLICY_ELASTIC)
        return agent_reason(reason, -EINVAL, "there is no policy number %u", limits->policy);
    if (limits->priority > GPUSLICE_PRIORITY_HIGH)
        return agent_reason(reason, -EINVAL, "there is no priority number %u", limits->priority);
    if (limits->overcommit > GPUSLICE_OVERCOMMIT_SWAP)
        return agent_reason(reason, -EINVAL, "there is no overcommit mode number %u", limits->overcommit);
    return 0;
}

struct gpuslice_limits agent_limits_pack(const struct gpuslice_share_limits *limits) {
    struct gpuslice_limits packed = {
        .memory_bytes = limits->memory_bytes,
        .overhead_bytes = limits->overhead_bytes,
        .cores = limits->cores,
        .weight = limits->weight,
        .policy = limits->policy,
        .priority = limits->priority,
        .overcommit = limits->overcommit,
    };

    packed.checksum = region_limits_checksum(&packed);
    return packed;
}
