/* The ABI between the agent and the shim: three files in the directory of a share.
 *
 *   grant     the agent's word to the share. The agent maps it read-write, tenants read-only.
 *   usage     the share's word to the agent. Tenants map it read-write; the agent never maps it (a tenant's
 *             ftruncate would end the agent with SIGBUS), it uses pread.
 *   doorbell  a FIFO. One byte means: a share that was idle has work and the arbiter sleeps.
 *
 * This header is the only definition of the layout. Containers outlive agent upgrades, so a newer agent meets an
 * older shim and the other way round: a change that moves or reinterprets a field raises GPUSLICE_ABI_MAJOR (files
 * of another major are refused); one that only uses a reserved field raises GPUSLICE_ABI_MINOR.
 *
 * All times are nanoseconds of CLOCK_MONOTONIC. All sizes are bytes unless the name says granules.
 */
#ifndef GPUSLICE_REGION_H
#define GPUSLICE_REGION_H

#include <stdatomic.h>
#include <stdint.h>

#define GPUSLICE_GRANT_MAGIC UINT64_C(0x31746e6172477367) /* "gsGrant1" */
#define GPUSLICE_USAGE_MAGIC UINT64_C(0x3165676173557367) /* "gsUsage1" */
#define GPUSLICE_ABI_MAJOR 1u
#define GPUSLICE_ABI_MINOR 0u

#define GPUSLICE_SLOTS 1024u
#define GPUSLICE_UUID_BYTES 96u
#define GPUSLICE_SHARE_ID_BYTES 64u
#define GPUSLICE_CACHE_LINE 64

/* Words that packed fields share: a count of granules (512 bytes, the smallest the driver hands out), then who
 * wrote it last. 34 bits of granules reach 8 TiB. What is left goes to the sequence numbers: 16 bits of them come
 * round in the 10 ms that a preempted thread sleeps, 20 and 30 bits do not. */
#define GPUSLICE_GRANULE UINT64_C(512)
#define GPUSLICE_GRANULE_BITS 34
#define GPUSLICE_SLOT_BITS 10
#define GPUSLICE_SEQUENCE_BITS 20

enum gpuslice_policy { GPUSLICE_POLICY_HARD = 0, GPUSLICE_POLICY_ELASTIC = 1 };

/* Strict classes: as long as a share of a higher class has work, none of a lower class runs. */
enum gpuslice_priority { GPUSLICE_PRIORITY_LOW = 0, GPUSLICE_PRIORITY_NORMAL = 1, GPUSLICE_PRIORITY_HIGH = 2 };

enum gpuslice_overcommit { GPUSLICE_OVERCOMMIT_OFF = 0, GPUSLICE_OVERCOMMIT_SWAP = 1 };

enum gpuslice_memory_kind {
    GPUSLICE_MEMORY_CONTEXT = 0,
    GPUSLICE_MEMORY_MODULE = 1,
    GPUSLICE_MEMORY_DATA = 2,
    GPUSLICE_MEMORY_ARRAY = 3,
    GPUSLICE_MEMORY_MANAGED = 4,
    GPUSLICE_MEMORY_PINNED = 5, /* host memory: shown, never charged to the limit */
    GPUSLICE_MEMORY_KINDS = 8   /* two in reserve */
};

/* What the agent promised. Held twice: the agent fills the copy that is not in use, then stores the index, so a
 * live resize is one store and an agent killed in the middle of it leaves the old copy whole. */
struct gpuslice_limits {
    uint64_t memory_bytes;   /* the limit; never 0 */
    uint64_t overhead_bytes; /* what a context of one process costs on this GPU, measured by the agent; 0: unknown */
    uint32_t cores;          /* percent of GPU time, 0 to 100; 0: nothing promised */
    uint32_t weight;         /* how what is left is split; 1 or more */
    uint32_t policy;         /* enum gpuslice_policy */
    uint32_t priority;       /* enum gpuslice_priority */
    uint32_t overcommit;     /* enum gpuslice_overcommit */
    uint32_t reserved[4];
    uint32_t checksum; /* CRC-32 (IEEE) of the bytes before it: a torn or foreign grant is refused, not obeyed */
};

/* The run word: bit 0 says RUN, the rest is a generation that grows with every change, so that a waiter on the
 * futex never misses one. */
#define GPUSLICE_RUN UINT32_C(1)

/* What the arbiter wants to be told at once, by a byte in the doorbell. */
enum gpuslice_doorbell {
    GPUSLICE_DOORBELL_OFF = 0,  /* nothing: nobody listens */
    GPUSLICE_DOORBELL_WAIT = 1, /* it looks now and then; a thread must wait since it is not the share's turn */
    GPUSLICE_DOORBELL_WORK = 2  /* it sleeps; the share has work */
};

struct gpuslice_grant {
    uint64_t magic;
    uint32_t abi_major;
    uint32_t abi_minor;
    uint32_t size; /* sizeof(struct gpuslice_grant) of the writer */
    uint32_t reserved0;
    char gpu_uuid[GPUSLICE_UUID_BYTES];     /* "GPU-…" as NVML and CUDA spell it, NUL-terminated */
    char share_id[GPUSLICE_SHARE_ID_BYTES]; /* NUL-terminated */

    _Alignas(GPUSLICE_CACHE_LINE) struct gpuslice_limits limits[2];
    _Atomic uint32_t limits_index; /* 0 or 1: the copy in force */

    /* What the arbiter writes, many times a second, on a line of its own. */
    _Alignas(GPUSLICE_CACHE_LINE) _Atomic uint64_t heartbeat_ns; /* older than 1 s: no agent, pace locally */
    _Atomic uint64_t credit_ns;             /* cumulative: launches may go while usage.busy_ns is below it */
    _Atomic uint64_t quantum_end_ns;        /* launches may go until then; 0: no end */
    _Atomic uint32_t run_word;              /* futex; see GPUSLICE_RUN */
    _Atomic uint32_t doorbell;              /* enum gpuslice_doorbell: when to ring */
    _Atomic uint64_t resident_target_bytes; /* overcommit: how much may stay on the card; UINT64_MAX: all */
    _Atomic uint64_t overlap_ns; /* of usage.busy_ns: what was other shares' time, while they executed at once */
    uint64_t reserved1[1];
};

/* One process of the share. Its holder is alive exactly as long as byte `index` of the usage file (counted from
 * GPUSLICE_LOCK_BASE) is locked by an open-file-description lock; the holder's descriptor is closed at once and a
 * MADV_DONTFORK page of the file keeps the lock, so it ends with the address space and not before. */
#define GPUSLICE_LOCK_BASE UINT64_C(0x4000000000000000)

struct gpuslice_slot {
    /* Who. pid is 0 while a claim is under way and is stored last. */
    _Atomic uint32_t generation; /* grows with each claim of this slot; 0: never claimed */
    _Atomic uint32_t pid;        /* in the pid namespace below */
    uint64_t pid_namespace;      /* inode of /proc/self/ns/pid; 0: no /proc there */
    uint64_t start_time;         /* field 22 of /proc/self/stat: clock ticks since boot; 0: no /proc there */

    /* Memory: see native/region/reserve.c for the protocol. The intent is the whole step of held_word of the slot
     * intent_target (oneself, or a dead slot that is reaped), so that whoever applies it does so by one CAS. */
    _Atomic uint64_t held_word;       /* granules:34 | how often it changed:30 */
    _Atomic uint64_t intent_sequence; /* number of the intent; goes on from holder to holder */
    _Atomic uint64_t intent_before;
    _Atomic uint64_t intent_after;
    _Atomic uint32_t intent_target;
    uint32_t reserved0;
    _Atomic uint64_t memory_bytes[GPUSLICE_MEMORY_KINDS]; /* for people: the parts of what is held */
    _Atomic uint64_t swapped_bytes;

    /* GPU time. */
    _Atomic uint64_t busy_ns;      /* union over this process's streams */
    _Atomic uint64_t throttled_ns; /* host time its threads were held back */
    _Atomic uint64_t launches;
    _Atomic uint64_t last_activity_ns;
    _Atomic uint64_t in_flight_until_ns; /* forecast of when what was launched ends; 0: nothing in flight */
    _Atomic uint32_t in_flight;          /* streams with unfinished paced work */
    _Atomic uint32_t waiting;            /* threads held back at a launch right now */
    uint64_t reserved1[9];
};

/* The grain in which GPU time of several processes is united, as a power of two of ns (4 us): intervals are rounded to
 * it, up as often as down. */
#define GPUSLICE_BUSY_GRAIN_BITS 12
#define GPUSLICE_BUSY_WORDS 4096u

struct gpuslice_usage {
    uint64_t magic;
    uint32_t abi_major;
    uint32_t abi_minor;
    uint32_t size; /* sizeof(struct gpuslice_usage) of the writer */
    uint32_t slot_count;

    /* Memory charged to the share: granules:34 | last writer's slot:10 | low bits of its intent's number:20. */
    _Alignas(GPUSLICE_CACHE_LINE) _Atomic uint64_t total_word;

    /* GPU time charged to the share: what busy_map says, counted, and the end of the latest of it. */
    _Alignas(GPUSLICE_CACHE_LINE) _Atomic uint64_t covered_until_ns;
    _Atomic uint64_t busy_ns;

    /* The common bucket while no agent is there: what busy_ns may reach, and when it was last filled. */
    _Alignas(GPUSLICE_CACHE_LINE) _Atomic uint64_t local_credit_ns;
    _Atomic uint64_t local_filled_ns;

    _Alignas(GPUSLICE_CACHE_LINE) struct gpuslice_slot slots[GPUSLICE_SLOTS];

    /* When the share executed, in the last half second: a ring of words, each of a lap and a bit for each grain of
     * time. A process that saw its work execute sets the bits, and adds to busy_ns those that it was the first to
     * set: the union over all processes, in whatever order they learn of it, without a lock. */
    _Alignas(GPUSLICE_CACHE_LINE) _Atomic uint64_t busy_map[GPUSLICE_BUSY_WORDS]; /* lap:32 | grains:32 */
};

_Static_assert(sizeof(struct gpuslice_limits) == 56, "gpuslice_limits is part of the ABI");
_Static_assert(sizeof(struct gpuslice_grant) == 384, "gpuslice_grant is part of the ABI");
_Static_assert(sizeof(struct gpuslice_slot) == 256, "gpuslice_slot is part of the ABI");
_Static_assert(sizeof(struct gpuslice_usage) == 256 + 256 * GPUSLICE_SLOTS + 8 * GPUSLICE_BUSY_WORDS,
               "gpuslice_usage is part of the ABI");

#endif
