/* A share as the agent holds it: what stands behind the handle of gpuslice/agent.h, for the arbiter beside it. */
#ifndef GPUSLICE_AGENT_SHARE_H
#define GPUSLICE_AGENT_SHARE_H

#include <gpuslice/agent.h>
#include <gpuslice/region.h>

#define AGENT_REASON_BYTES 256

struct gpuslice_agent_share {
    struct gpuslice_grant *grant; /* mapped read-write; the agent is the only writer */
    int usage;                    /* read-only; never mapped: a tenant's ftruncate would kill the agent by SIGBUS */
    int doorbell;                 /* O_RDWR | O_NONBLOCK, so that poll() knows no hang-up */
};

/* Puts a sentence into the caller's `reason`, like printf. Returns `error`. */
int agent_reason(char *reason, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* 0, or -EINVAL with the sentence. */
int agent_limits_check(const struct gpuslice_share_limits *limits, char *reason);
/* The form that stands in the grant, with its checksum. */
struct gpuslice_limits agent_limits_pack(const struct gpuslice_share_limits *limits);

#endif
