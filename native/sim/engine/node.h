/* The node file: everything the processes of a simulated node share. One file, `node`, in the node directory, mapped
 * by each of them.
 *
 * What changes together is written under one lock for the whole node (lock.h), word by word through journal_put(),
 * so that a process killed in the middle of it is undone by the next one. Therefore every word that changes is a
 * uint64_t, and nobody reads one without the lock unless it says so here.
 */
#ifndef GPUSLICE_SIM_NODE_H
#define GPUSLICE_SIM_NODE_H

#include <stdatomic.h>

#include "cgroup.h"
#include "gpu.h"

#define NODE_MAGIC UINT64_C(0x31656e6f4e6d6973)
#define NODE_VERSION 3u
#define NODE_FILE "node"
#define NODE_CGROUPS "cgroup" /* beside it, where a container was given a view of all cgroups */

#define NODE_PROCESSES 1024u
#define NODE_CHANNELS 2048u
#define NODE_QUEUE 1024u /* operations of a channel in the file: unfinished ones, and those whose effect is due */
#define NODE_OBJECTS 32768u
#define NODE_HOLDERS 16u /* processes that may hold one physical handle */
#define NODE_ENDED 4096u /* ended processes that are remembered */
#define NODE_SHARED_TICKETS 65536u
#define NODE_JOURNAL 16384u
#define NODE_WALLS 512u        /* cgroups with limits; a kubelet runs 110 pods unless told otherwise */
#define NODE_GPU_INSTANCES 15u /* ids of GPU instances: 0 is the whole GPU, 1 and 2 its halves, and so on (mig.c) */
#define NODE_COMPUTE_INSTANCES 8u
#define NODE_EVENTS 1024u /* latest ones that are kept for whoever waits */

/* A process lives exactly as long as its byte of the node file, counted from here, is locked (process.c). */
#define NODE_LOCK_BASE UINT64_C(0x4000000000000000)

/* Names one life of one process entry: generation << 16 | index + 1. 0: nobody. */
typedef uint64_t node_owner;

static inline node_owner owner_of(uint64_t generation, unsigned index) {
    return generation << 16 | (index + 1);
}

static inline unsigned owner_index(node_owner owner) {
    return (unsigned)(owner & 0xffff) - 1;
}

/* GPU time is counted in 2^-16 ns, so that rates like 1/3 lose nothing that shows. */
#define NODE_TIME_SHIFT 16

/* A sliding window of about half a second to a second over a counter of busy time. */
struct node_meter {
    uint64_t old_ns, old_busy; /* where the window begins */
    uint64_t new_ns, new_busy; /* where it will begin next */
};

struct node_process_gpu {
    uint64_t blocks, blocks_peak;
    uint64_t contexts;
    uint64_t busy;   /* 2^-16 ns */
    uint64_t active; /* ns */
    uint64_t xid;    /* the one that ended its contexts; 0: none. Read without the lock */
    struct node_meter meter;
};

struct node_process {
    _Atomic uint64_t generation;     /* written only by who holds the entry's byte lock */
    uint64_t live;                   /* 1: claimed and not yet reaped */
    uint64_t observer;               /* 1: only reads (NVML, tools); not listed */
    uint64_t pid;                    /* in the pid namespace below */
    uint64_t pid_namespace;          /* inode of /proc/self/ns/pid */
    uint64_t start_time;             /* field 22 of /proc/self/stat */
    char name[64];                   /* of the program, for people */
    uint64_t place;                  /* cgroup_own_place() when it last looked for walls */
    uint64_t walls_seen;             /* it has looked at those with `since` up to this */
    uint64_t walls[NODE_WALLS / 64]; /* a bit for each that it stands behind */
    uint64_t instance;               /* the one compute instance it sees: mig_name(); 0: whole GPUs */
    struct node_process_gpu gpus[SIM_GPUS_MAX];
};

struct node_ended {
    uint64_t pid, pid_namespace, start_time, ended_ns;
    char name[64];
    struct {
        uint64_t blocks_peak, busy, active;
    } gpus[SIM_GPUS_MAX];
};

struct node_gpu_state {
    uint64_t used_blocks;
    uint64_t busy; /* ns: wall time with any GPU work */
    struct node_meter meter;
    uint64_t accounting; /* NVML's accounting mode */
    uint64_t reserved[7];
};

struct node_compute_instance {
    uint64_t slices, start; /* of compute, within its GPU instance; 0 slices: there is none */
};

/* Numbered by its id. */
struct node_gpu_instance {
    uint64_t profile; /* 1 + index among the GPU's mig_profiles; 0: there is none */
    uint64_t start;   /* memory slice */
    uint64_t used_blocks;
    struct node_compute_instance compute[NODE_COMPUTE_INSTANCES]; /* by id */
};

struct node_mig {
    uint64_t enabled, pending; /* pending: what it will be after a reset */
    struct node_gpu_instance instances[NODE_GPU_INSTANCES];
};

/* What went wrong with a GPU (faults.h). The first three are read without the lock. */
struct node_fault {
    uint64_t lost, missing, hung;                   /* fallen off the bus; not found at the start; does not answer */
    uint64_t recovery_action;                       /* NVML's field 230 */
    uint64_t corrected, uncorrected, sram_exceeded; /* memory errors since the last reset */
    uint64_t corrected_ever, uncorrected_ever;
    uint64_t remapped_corrected, remapped_uncorrected, remap_pending, remap_failed;
    uint64_t clock_reasons;                      /* why it runs slower: NVML's bits */
    uint64_t pcie_gen, pcie_width, pcie_replays; /* 0: as it should be */
    uint64_t links_down;                         /* NVLinks, one bit each */
    uint64_t link_errors[SIM_LINKS_MAX];
    uint64_t host_percent; /* the speed of copies from and to the host; 0: 100 */
    uint64_t bad_cell;     /* 1 + the offset in every allocation at which a bit is stuck; 0: none */
    uint64_t flipped;      /* results of arithmetic still to be wrong in one bit */
    uint64_t reported;     /* 1: the driver has named the GPU in the log, as it does before its first Xid */
};

struct node_event {
    uint64_t gpu, type, data;
    uint64_t gpu_instance, compute_instance; /* UINT32_MAX: none */
};

enum node_op_class {
    NODE_OP_MARK = 0,     /* takes no time */
    NODE_OP_GPU = 1,      /* shares the GPU; cost in 2^-16 ns */
    NODE_OP_WALL = 2,     /* takes cost ns on the engine `lane` of its process */
    NODE_OP_WAIT = 3,     /* until the ticket is complete */
    NODE_OP_EXTERNAL = 4, /* until its process says so */
};
#define NODE_LANES 3u /* copy engines of a process on a GPU: in, out, peer */

/* Written by the channel's owner before `tail` covers it; the timeline only writes start, end and order. */
struct node_op {
    uint32_t op_class;  /* enum node_op_class */
    uint32_t occupancy; /* of 65536; or the lane */
    uint64_t cost;
    uint64_t arrival_ns;
    uint32_t wait_channel, wait_generation;
    uint64_t wait_sequence;
    uint64_t start_ns, end_ns;
    uint64_t order; /* grows with each completion on the node */
};
_Static_assert(sizeof(struct node_op) == 64, "an operation is one cache line");

/* A stream's queue. Operation number s (from 1) lies at queue[s % NODE_QUEUE]. */
struct node_channel {
    uint64_t generation;
    uint64_t owner; /* node_owner; 0: free */
    uint64_t gpu;
    uint64_t tail;       /* operations submitted */
    uint64_t done;       /* operations complete */
    uint64_t running;    /* 1: operation done + 1 has started */
    uint64_t remaining;  /* of it: cost left (GPU), or when it ends (WALL) */
    uint64_t linked;     /* 1: in the list of busy channels */
    uint64_t next;       /* index + 1 of the next in it */
    uint64_t effect_due; /* the first operation whose effect has not happened yet; 0: none. The owner's word */
    uint64_t reserved[6];
};

struct node_timeline {
    uint64_t now_ns;     /* everything before is settled */
    uint64_t busy_head;  /* index + 1 of the first channel with unfinished work */
    uint64_t order;      /* completions so far */
    uint64_t checked_ns; /* when the owners of busy channels were last seen alive */
    uint64_t metered_ns; /* when the meters were last moved on */
};

struct node_object {
    uint64_t id; /* 0: free */
    uint64_t gpu, blocks;
    uint64_t holders[NODE_HOLDERS]; /* node_owner; the first one pays */
    uint64_t reserved;
};

struct node_shared_ticket {
    uint64_t owner;              /* who made it; 0: free */
    uint64_t channel_generation; /* channel << 32 | generation */
    uint64_t sequence, start_ns, end_ns;
};

/* Limits of a cgroup (walls.c). */
struct node_wall {
    struct cgroup cgroup; /* inode 0: free */
    uint64_t since;       /* grows from wall to wall */
    uint64_t soft_bytes[SIM_GPUS_MAX], hard_bytes[SIM_GPUS_MAX];
};

struct node_journal_entry {
    uint64_t offset, old; /* of the word in the file, and what it was */
};

struct node_file {
    uint64_t magic;
    uint32_t version, size_check; /* of another build: refused */
    struct sim_node_info info;
    struct sim_gpu gpus[SIM_GPUS_MAX];

    _Alignas(64) _Atomic uint64_t lock_owner; /* node_owner */
    _Atomic uint32_t lock_contended;
    _Alignas(64) _Atomic uint32_t kick; /* futex: grows when something ended sooner than its forecast */
    _Atomic uint32_t bell;              /* futex: grows with each event */
    _Atomic uint32_t trouble;           /* 1: something was injected, ever */
    _Alignas(64) uint64_t journal_length;
    struct node_journal_entry journal[NODE_JOURNAL];

    uint64_t process_count;       /* entries ever used; the rest need no look */
    uint64_t channel_count;       /* likewise */
    uint64_t object_count;        /* likewise */
    uint64_t object_ids;          /* given out so far */
    uint64_t shared_ticket_count; /* as process_count */
    uint64_t ended_count;         /* ever; ended[i % NODE_ENDED] */
    uint64_t wall_count;          /* as process_count */
    uint64_t walls_made;          /* ever */
    struct node_timeline timeline;
    struct node_gpu_state gpu_states[SIM_GPUS_MAX];
    struct node_mig mig[SIM_GPUS_MAX];
    struct node_fault faults[SIM_GPUS_MAX];
    uint64_t event_count; /* ever; events[i % NODE_EVENTS] */
    struct node_event events[NODE_EVENTS];
    struct node_process processes[NODE_PROCESSES];
    uint64_t lanes[NODE_PROCESSES][SIM_GPUS_MAX][NODE_LANES]; /* when each copy engine is free */
    struct node_object objects[NODE_OBJECTS];
    struct node_ended ended[NODE_ENDED];
    struct node_wall walls[NODE_WALLS];
    struct node_shared_ticket shared_tickets[NODE_SHARED_TICKETS];
    struct node_channel channels[NODE_CHANNELS];
    struct node_op queues[NODE_CHANNELS][NODE_QUEUE];
};

/* Makes the directory (parents must exist) and the file. `gpus` 0: as the profile has. -EINVAL: no such profile or
 * number; -EEXIST: there is a node. `driver` NULL: its version is the profile's. `reason` takes one sentence, at least
 * 256 bytes. */
int node_create(const char *directory, const char *profile, unsigned gpus, uint64_t seed, const char *driver,
                char *reason);
/* Maps an existing node. -ENOENT, -EPROTO. */
int node_map(const char *directory, struct node_file **ret_node);
/* Why it could not, as a sentence. */
void node_explain(const char *directory, int error, char reason[256]);
/* Fills node->info and node->gpus. -EINVAL: no such profile, or it has not that many GPUs. */
int profile_fill(struct node_file *node, const char *profile, unsigned gpus, uint64_t seed);
/* The name of profile i, NULL after the last. */
const char *profile_name(unsigned i);

#endif
