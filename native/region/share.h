/* The tenant's side of a share: map the files, hold a slot, reserve and refund memory, account GPU time.
 * The shim is the only user; the agent's side is gpuslice/agent.h.
 *
 * Functions return 0, or a negative errno and, where there is a `reason`, one sentence for a person in it (never
 * NULL, valid until the next failure on this thread). They never log, never exit and never allocate after open.
 */
#ifndef GPUSLICE_SHARE_H
#define GPUSLICE_SHARE_H

#include <gpuslice/region.h>
#include <stdbool.h>
#include <stddef.h>

/* One share as this process sees it. */
struct gpuslice_share {
    const struct gpuslice_grant *grant;
    struct gpuslice_usage *usage;
    struct gpuslice_slot *slot; /* ours; NULL until claimed, and in a forked child until it claims its own */
    uint32_t slot_index;
    int doorbell; /* O_NONBLOCK, or -1 */
    const unsigned char *lock_page; /* the MADV_DONTFORK page that holds the slot's lock */
    _Atomic uint32_t reserve_lock;  /* serialises this process's threads over slot->intent; never held over a call */
};

/* Opens and checks the files in `directory`. -EPROTO: corrupt, wrong size or another ABI major. */
int gpuslice_share_open(const char *directory, struct gpuslice_share *share, const char **reason);
void gpuslice_share_close(struct gpuslice_share *share);

/* Claims a free slot (first returning what its dead holder held). -ENOSPC: all 1024 are held by live processes. */
int gpuslice_slot_claim(struct gpuslice_share *share, const char **reason);
/* Says whether anybody holds the slot, seen from any process; `usage_fd` may be read-only. */
bool gpuslice_slot_is_held(int usage_fd, uint32_t slot_index);

/* The limits in force. False (and `limits` untouched) where neither copy has a right checksum. */
bool gpuslice_limits_read(const struct gpuslice_grant *grant, struct gpuslice_limits *limits);

/* Reserves `bytes` (rounded up to GPUSLICE_GRANULE) against the limit. When it does not fit, memory of dead
 * processes is returned first and it is tried once more. -ENOMEM: it does not fit. */
int gpuslice_reserve(struct gpuslice_share *share, uint64_t bytes, enum gpuslice_memory_kind kind);
/* As reserve, but never refused: for what the driver has already taken (a settled context, a lazily loaded module). */
void gpuslice_charge(struct gpuslice_share *share, uint64_t bytes, enum gpuslice_memory_kind kind);
void gpuslice_refund(struct gpuslice_share *share, uint64_t bytes, enum gpuslice_memory_kind kind);
/* Bytes charged to the share by live and dead processes. */
uint64_t gpuslice_total_bytes(const struct gpuslice_share *share);
/* Returns the memory of every dead process; how many slots were freed. */
unsigned gpuslice_reap(struct gpuslice_share *share);

/* Adds [from_ns, until_ns) to the share's GPU time (only what no process covered before) and to this slot's.
 * How many ns were new to the share. */
uint64_t gpuslice_busy_add(struct gpuslice_share *share, uint64_t from_ns, uint64_t until_ns);

/* Now on CLOCK_MONOTONIC, ns. */
uint64_t gpuslice_now_ns(void);

#endif
