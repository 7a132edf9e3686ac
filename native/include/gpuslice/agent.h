/* What libgpuslice_agent.so gives the agent: the files of a share and the arbiter, as functions on opaque handles.
 *
 * cffi reads this file as it is (after the lines that start with '#'), so: no macros, no inline functions, plain
 * fixed-width types. The numbers of enum gpuslice_policy and gpuslice_priority are those of gpuslice/region.h.
 * Every function that can fail returns 0 or a negative errno and leaves a sentence in `reason` (at least 256 bytes).
 */
#ifndef GPUSLICE_AGENT_H
#define GPUSLICE_AGENT_H
#include <stdint.h>
#pragma GCC visibility push(default)

struct gpuslice_share_limits {
    uint64_t memory_bytes;
    uint64_t overhead_bytes;
    uint32_t cores;
    uint32_t weight;
    uint32_t policy;
    uint32_t priority;
    uint32_t overcommit;
};

/* One live process of a share, read with pread and range-checked: a tenant can write anything there. */
struct gpuslice_process_usage {
    uint32_t slot;
    uint32_t pid; /* in the tenant's pid namespace; 0: it is just claiming the slot */
    uint64_t pid_namespace;
    uint64_t start_time;
    uint64_t held_bytes;
    uint64_t context_bytes, module_bytes, data_bytes, array_bytes, managed_bytes, pinned_bytes, swapped_bytes;
    uint64_t busy_ns, throttled_ns, launches, last_activity_ns;
    uint32_t in_flight, waiting;
};

struct gpuslice_share_usage {
    uint64_t total_bytes;   /* the share's total word */
    uint64_t live_bytes;    /* the sum over live slots: what is really held now */
    uint64_t busy_ns;       /* GPU time of the share */
    uint64_t credit_ns;     /* what the arbiter allowed up to now */
    uint32_t process_count; /* live slots */
    uint32_t pacing_local;  /* 1: the grant's heartbeat is stale, its processes pace themselves */
};

/* Creates grant, usage and doorbell in an existing empty directory (grant 0644, usage and doorbell 0666, so that a
 * container of any uid can use them). ENOSPC leaves nothing behind. */
int gpuslice_files_create(const char *directory, const char *gpu_uuid, const char *share_id,
                          const struct gpuslice_share_limits *limits, char *reason);

struct gpuslice_agent_share; /* the grant mapped read-write, usage and doorbell open */
int gpuslice_agent_share_open(const char *directory, struct gpuslice_agent_share **ret_share, char *reason);
void gpuslice_agent_share_close(struct gpuslice_agent_share *share);
/* A live resize: one store. Processes see it at their next allocation or launch. */
int gpuslice_agent_share_set_limits(struct gpuslice_agent_share *share, const struct gpuslice_share_limits *limits,
                                    char *reason);
int gpuslice_agent_share_get_limits(const struct gpuslice_agent_share *share, struct gpuslice_share_limits *ret_limits,
                                    char *reason);
/* -EPROTO: the usage file is corrupt (truncated or grown by the tenant, wrong magic, or locked so often that to find
 * its processes costs more than 5 ms of processor time); the share is to be reported so.
 * `processes` takes up to `capacity` live processes; process_count says how many there are. */
int gpuslice_agent_share_usage(const struct gpuslice_agent_share *share, struct gpuslice_share_usage *ret_usage,
                               struct gpuslice_process_usage *processes, uint32_t capacity, char *reason);
/* How many processes hold a slot: by their locks alone, so also of a share whose usage file is corrupt. Where it is
 * locked that often, some of them are left out; 0 always means none. */
uint32_t gpuslice_agent_share_process_count(const struct gpuslice_agent_share *share);
/* The GPU of the share, as the grant names it: valid while the share is open. */
const char *gpuslice_agent_share_gpu_uuid(const struct gpuslice_agent_share *share);

/* One native thread that decides, for one GPU, which share may run. Shares are added and removed at any time; a
 * handle given to the arbiter must stay open until it is removed. */
struct gpuslice_arbiter;
int gpuslice_arbiter_start(struct gpuslice_arbiter **ret_arbiter, char *reason);
/* When it returns, the arbiter has looked at the share and given it its first heartbeat. */
int gpuslice_arbiter_add(struct gpuslice_arbiter *arbiter, struct gpuslice_agent_share *share, char *reason);
int gpuslice_arbiter_remove(struct gpuslice_arbiter *arbiter, struct gpuslice_agent_share *share);
/* Ends the thread. Shares keep what they were last given and, a second later, pace themselves. */
void gpuslice_arbiter_stop(struct gpuslice_arbiter *arbiter);

#pragma GCC visibility pop
#endif
