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

#define GPUSLICE_DIRECTORY_BYTES 4032 /* PATH_MAX, less room for "/doorbell" */

/* What a forked child must not inherit: it lies on a page of its own that the kernel zeroes in the child
 * (MADV_WIPEONFORK), so a child finds no slot and no lock that a thread of its parent held. */
struct gpuslice_process {
    struct gpuslice_slot *_Atomic slot; /* ours; NULL until claimed, and in a forked child until it claims its own */
    uint32_t slot_index;
    _Atomic uint32_t lock;             /* serialises this process's threads over the slot's intent and memory */
    const unsigned char *lock_page;    /* the MADV_DONTFORK page that holds the slot's lock */
    struct gpuslice_limits limits;     /* last seen with a right checksum; under lock */
    _Atomic uint64_t covered_until_ns; /* as in struct gpuslice_usage, for this process alone */
    int pid; /* 0, or where the kernel is older than MADV_WIPEONFORK (4.14): whose page this is */
};

/* One share as this process sees it. */
struct gpuslice_share {
    const struct gpuslice_grant *grant;
    struct gpuslice_usage *usage;
    struct gpuslice_process *process;
    char directory[GPUSLICE_DIRECTORY_BYTES];
    uint64_t usage_device, usage_inode; /* so that a path which means another file by now is not followed */
};

/* Opens and checks the files in `directory`. -EPROTO: corrupt, wrong size or another ABI major. */
int gpuslice_share_open(const char *directory, struct gpuslice_share *share, const char **reason);
void gpuslice_share_close(struct gpuslice_share *share);

/* Claims a free slot and returns what dead processes held. Nothing happens where this process holds one already.
 * -ENOSPC: all 1024 are held by live processes. */
int gpuslice_slot_claim(struct gpuslice_share *share, const char **reason);
/* This process's slot, or NULL: not claimed, or claimed by the process that forked this one. */
struct gpuslice_slot *gpuslice_slot_own(const struct gpuslice_share *share);
/* Says whether anybody holds the slot, seen from any process; `usage_fd` may be read-only. */
bool gpuslice_slot_is_held(int usage_fd, uint32_t slot_index);

/* The limits in force. False (and `limits` untouched) where neither copy has a right checksum. */
bool gpuslice_limits_read(const struct gpuslice_grant *grant, struct gpuslice_limits *limits);

/* Reserves `bytes` (rounded up to GPUSLICE_GRANULE) against the limit. When it does not fit, memory of dead
 * processes is returned first and it is tried once more. -ENOMEM: it does not fit. -EPROTO: the grant is corrupt.
 * Like charge and refund, it claims a slot in a forked child that has none (errors as gpuslice_slot_claim).
 * GPUSLICE_MEMORY_PINNED is only shown: it is never refused and counts towards no limit. */
int gpuslice_reserve(struct gpuslice_share *share, uint64_t bytes, enum gpuslice_memory_kind kind);
/* As reserve, but never refused: for what the driver has already taken (a settled context, a lazily loaded module). */
void gpuslice_charge(struct gpuslice_share *share, uint64_t bytes, enum gpuslice_memory_kind kind);
/* Gives back what was reserved or charged, rounded up alike; never more than this process holds. */
void gpuslice_refund(struct gpuslice_share *share, uint64_t bytes, enum gpuslice_memory_kind kind);
/* Bytes charged to the share by live and dead processes. */
uint64_t gpuslice_total_bytes(const struct gpuslice_share *share);
/* Returns the memory of every dead process (a handful of system calls); how many slots were freed. 0 without a slot. */
unsigned gpuslice_reap(struct gpuslice_share *share);

/* Adds [from_ns, until_ns) to the share's GPU time (only what no process covered before) and to this slot's.
 * How many ns were new to the share. */
uint64_t gpuslice_busy_add(struct gpuslice_share *share, uint64_t from_ns, uint64_t until_ns);

/* Wakes the arbiter. The FIFO is opened for this one byte: a descriptor kept open could be closed by the program
 * and its number given to a file of the program's own. */
void gpuslice_doorbell_ring(const struct gpuslice_share *share);

/* Now on CLOCK_MONOTONIC, ns. */
uint64_t gpuslice_now_ns(void);

#endif
