/* The simulated GPUs of a node, for one process: what the simulated driver (libcuda.so.1) stands on.
 *
 * A node is a directory, named by GPUSLICE_SIM_NODE. Every process maps the same files there; there is no server.
 * This header knows devices, memory, and streams of operations on a timeline. It knows nothing of CUDA: contexts,
 * events, graphs, pools and error codes are the driver's.
 *
 * Unless a function says otherwise: it may be called from any thread, returns 0 or a negative errno, and leaves the
 * ret_ parameters alone when it fails. Times are nanoseconds of CLOCK_MONOTONIC, sizes are bytes.
 *
 * Fork: a child has no GPUs, as with CUDA. It must call engine_attach() before anything else, gets a process entry
 * of its own, and its copies of streams, pointers and handles are dead (device memory is not inherited).
 */
#ifndef GPUSLICE_SIM_ENGINE_H
#define GPUSLICE_SIM_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gpu.h"

#define ENGINE_BLOCK_BYTES (UINT64_C(2) << 20) /* physical memory is handed out in blocks of 2 MiB */
#define ENGINE_ALIGNMENT 512u                  /* of every pointer engine_memory_alloc returns */

/* --- the node ----------------------------------------------------------------------------------------------- */

/* Opens the node and claims a process entry; idempotent and cheap when attached (one load and a compare).
 * -ENOENT: GPUSLICE_SIM_NODE is not set or there is no node; -EPROTO: the directory holds something else, or a node
 * of another version; -EUSERS: no process entry is free. */
int engine_attach(void);

unsigned engine_gpu_count(void);
/* What never changes: name, UUID, PCI address, clocks, sizes, bandwidths, links. NULL for an index out of range. Of a
 * GPU that this process sees one compute instance of: the instance's. */
const struct sim_gpu *engine_gpu(unsigned gpu);
/* The GPU itself in any case. */
const struct sim_gpu *engine_gpu_whole(unsigned gpu);

/* Whether the GPU is in MIG mode: as a whole it can then not be used. */
bool engine_gpu_partitioned(unsigned gpu);
/* Its MIG devices in the order of their ids; a MIG device by a name that CUDA_VISIBLE_DEVICES takes. False: none. */
bool engine_instance_at(unsigned gpu, unsigned index, struct mig_place *ret_place);
bool engine_instance_named(const char *name, struct mig_place *ret_place);
/* From now on this process sees this compute instance in place of its GPU. -ENODEV: it is gone. */
int engine_enter_instance(struct mig_place place);

/* --- faults ------------------------------------------------------------------------------------------------- */

/* What a program must know before it asks anything of a GPU. Returns at once unless the GPU hangs: then when it hangs
 * no more. 0; -ENODEV: the GPU is lost; otherwise the code of the Xid that ended this process's contexts there. */
int engine_gpu_fault(unsigned gpu);
/* Whether a process that starts now finds the GPU. */
bool engine_gpu_found(unsigned gpu);
/* A kernel of this process did what ends a context: the driver tells the Xid to the log and to NVML. */
void engine_gpu_report(unsigned gpu, unsigned xid);
/* Something was written to device memory of this GPU: a stuck bit of it stays as it is. */
void engine_memory_written(unsigned gpu, uint64_t address, uint64_t bytes);
/* What to XOR to the bits of a result of arithmetic: 0, unless the GPU's next result is to be wrong. */
uint32_t engine_result_flip(unsigned gpu);

/* --- memory ------------------------------------------------------------------------------------------------- */
/* Device pointers are host addresses: a range of this process's address space, set aside at engine_attach(), holds
 * all device memory, so that the bytes of a copy are moved with memcpy. Nothing stops a
 * program from dereferencing a device pointer on the host; a real one would fault.
 *
 * Physical memory is counted per GPU over all processes of the node, in blocks. A dead process holds nothing:
 * whoever allocates next finds its memory free. -ENOMEM means the card is full. */

/* Physical memory with no address, rounded up to blocks: module code, local memory, a driver's own needs. */
int engine_memory_reserve(unsigned gpu, uint64_t bytes);
void engine_memory_release(unsigned gpu, uint64_t bytes);

/* A context on this GPU: takes the profile's context overhead and lists the process in NVML while at least one is
 * open. */
int engine_context_open(unsigned gpu);
void engine_context_close(unsigned gpu);

/* Linear memory. Below 1 MiB it is cut from blocks shared with other small allocations (a block is taken when none
 * has room and given back when its last piece is freed); from 1 MiB on it has whole blocks of its own. */
int engine_memory_alloc(unsigned gpu, uint64_t bytes, uint64_t *ret_pointer);
/* -EINVAL: not the start of a live allocation of engine_memory_alloc. */
int engine_memory_free(uint64_t pointer);

enum engine_range_kind {
    ENGINE_RANGE_LINEAR = 1,   /* from engine_memory_alloc */
    ENGINE_RANGE_MAPPED = 2,   /* a mapping of a physical handle (engine_address_map) */
    ENGINE_RANGE_RESERVED = 3, /* reserved addresses with nothing behind them */
};
struct engine_range {
    enum engine_range_kind kind;
    unsigned gpu;                     /* of the memory; 0 for RESERVED */
    uint64_t base, bytes;             /* the allocation (as asked), the mapping, or the reservation */
    struct engine_physical *physical; /* MAPPED only; not retained */
};
/* What lies at an address. -ENOENT: no device memory of this process. */
int engine_memory_find(uint64_t pointer, struct engine_range *ret_range);

/* Of the whole card, all processes. What is free can be allocated, in blocks. */
int engine_memory_info(unsigned gpu, uint64_t *ret_free, uint64_t *ret_total);

/* Physical handles: memory that can be mapped at several addresses and shared with other processes (VMM, IPC). They
 * are files of the node, counted once, charged to the oldest process that holds them. Counted references within a
 * process: create, import and retain add one, a mapping holds one, release drops one. */
struct engine_physical;
/* `bytes` must be a multiple of ENGINE_BLOCK_BYTES. */
int engine_physical_create(unsigned gpu, uint64_t bytes, struct engine_physical **ret_physical);
void engine_physical_retain(struct engine_physical *physical);
void engine_physical_release(struct engine_physical *physical);
unsigned engine_physical_gpu(const struct engine_physical *physical);
uint64_t engine_physical_bytes(const struct engine_physical *physical);
/* Names a handle within the node, so that another process can import it: by number (IPC handles), or by a new
 * descriptor that the caller closes (POSIX file descriptor handles). A number is never used twice. Importing what
 * this process already holds gives the same handle with one reference more. -ENOENT: it is gone. */
uint64_t engine_physical_id(const struct engine_physical *physical);
int engine_physical_import(uint64_t id, struct engine_physical **ret_physical);
int engine_physical_export_fd(struct engine_physical *physical, int *ret_fd);
int engine_physical_import_fd(int fd, struct engine_physical **ret_physical);

/* Addresses. All of them multiples of ENGINE_BLOCK_BYTES. `alignment` 0: one block; `hint` 0: anywhere, and a hint
 * that is taken is not an error. */
int engine_address_reserve(uint64_t bytes, uint64_t alignment, uint64_t hint, uint64_t *ret_address);
/* -EINVAL: not exactly a reservation; -EBUSY: something is mapped in it. */
int engine_address_free(uint64_t address, uint64_t bytes);
/* Maps within one reservation, readable and writable. -EINVAL: not reserved; -EBUSY: mapped already. */
int engine_address_map(uint64_t address, uint64_t bytes, struct engine_physical *physical, uint64_t offset);
/* Unmaps whole mappings. -EINVAL: the range cuts one. */
int engine_address_unmap(uint64_t address, uint64_t bytes);

/* --- time --------------------------------------------------------------------------------------------------- */
/* The queue of every stream lies in the node, and whoever looks moves the whole node's timeline up to now, for every
 * process, in the order of time: when an operation starts and ends never depends on who looks when.
 *
 * GPU work (kernels, device copies, memsets) of several processes shares a GPU as time-slicing shares it: with n
 * processes that have runnable GPU work, each advances at rate 1/n. Kernels of several streams of one process run at
 * the same time; if their occupancies add up to more than 1, each slows down by that sum. A host copy takes
 * bytes/bandwidth of wall time on the process's copy engine of its direction, one after another. */

struct engine_stream;
/* -ENOSPC: the node has no queue left. Streams are unordered between each other; ordering streams by "legacy default
 * stream" rules is the driver's, by engine_stream_wait. */
int engine_stream_create(unsigned gpu, struct engine_stream **ret_stream);
/* Work already submitted still runs, its effects still happen. The handle is dead at once. */
void engine_stream_destroy(struct engine_stream *stream);

/* Names one operation of one stream, of any process of the node: plain data. All zero: something complete. */
struct engine_ticket {
    uint32_t channel;
    uint32_t generation;
    uint64_t sequence;
};

struct engine_times {
    uint64_t start_ns, end_ns; /* equal for operations that take no time */
};

enum engine_op_kind {
    ENGINE_OP_KERNEL,      /* cost_ns, occupancy */
    ENGINE_OP_DEVICE_COPY, /* bytes: copies within the device, memsets: at memory bandwidth, GPU-busy */
    ENGINE_OP_COPY_IN,     /* bytes: host to device */
    ENGINE_OP_COPY_OUT,    /* bytes: device to host */
    ENGINE_OP_PEER_COPY,   /* bytes, peer: to or from that GPU, at the speed of the link between them */
    ENGINE_OP_MARK,        /* takes no time: an event record, a value write, anything with an effect */
    ENGINE_OP_HOST_CALL,   /* effect runs on the engine's thread; the stream goes on when it has returned */
    ENGINE_OP_POLL,        /* the stream goes on once ready(arg) is true; asked every 50 us and when anyone looks */
};

struct engine_op {
    enum engine_op_kind kind;
    uint64_t cost_ns; /* kernels: its time alone on the whole GPU */
    uint64_t bytes;   /* copies */
    double occupancy; /* kernels: what it fills of the GPU, above 0 up to 1 */
    unsigned peer;    /* peer copies */
    /* What the operation does to memory; may be NULL. Called exactly once (unless the process ends first), in the
     * order in which operations complete, at or after `end_ns`, and before any wait or query of this process that
     * covers the operation says so. Called from whichever thread of this process looks first, or from the engine's
     * own thread, started at the first operation that needs it; one effect at a time in the process. It must not
     * call any engine function but engine_memory_find and those of faults, and must free what it owns of `arg`.
     * The source of a copy is therefore read as late as its end: whoever may change the source sooner (pageable
     * memory) stages it first. */
    void (*effect)(void *arg, const struct engine_times *times);
    bool (*ready)(void *arg); /* ENGINE_OP_POLL; the same rules; must be quick */
    void *arg;
};

/* Queues an operation. Blocks while the queue is full (1023 unfinished operations), as a driver does. On an idle
 * stream an operation that takes no time (cost 0, or a mark) is over at once, its effect included, without touching
 * the shared files. `ret_ticket` may be NULL. */
int engine_submit(struct engine_stream *stream, const struct engine_op *op, struct engine_ticket *ret_ticket);
/* Submits and waits, without need of the engine's thread: a synchronous copy. */
int engine_run(struct engine_stream *stream, const struct engine_op *op, bool spin);
/* What is submitted to `stream` from now on starts no sooner than `ticket` is complete (of any stream, GPU, process;
 * of a process that died: complete). */
int engine_stream_wait(struct engine_stream *stream, struct engine_ticket ticket);
/* The last operation submitted (all zero: none ever). */
struct engine_ticket engine_stream_last(struct engine_stream *stream);

/* 1: complete and its effect visible; 0: not yet. */
int engine_ticket_query(struct engine_ticket ticket);
/* Sleeps until it is complete. -EIO: it never will be, see engine_gpu_fault(). `spin`: burn the CPU for the last
 * microseconds instead of oversleeping. */
int engine_ticket_wait(struct engine_ticket ticket, bool spin);
/* Waits for everything this process has submitted on this GPU. */
int engine_gpu_wait(unsigned gpu, bool spin);

/* Tickets that processes share (interprocess events): numbers within the node that stand for the last ticket put
 * there. They end with the process that made them; -ENOSPC: 65536 are in use. */
int engine_shared_ticket_create(uint32_t *ret_id);
int engine_shared_ticket_put(uint32_t id, struct engine_ticket ticket, const struct engine_times *times);
/* `ret_times`: as put; may be NULL. -ENOENT: no such number. */
int engine_shared_ticket_get(uint32_t id, struct engine_ticket *ret_ticket, struct engine_times *ret_times);
void engine_shared_ticket_destroy(uint32_t id);

/* --- accounts ----------------------------------------------------------------------------------------------- */

struct engine_usage {
    uint64_t memory_bytes; /* physical, in blocks: contexts, reservations, allocations, handles charged to it */
    uint64_t busy_ns;      /* its part of GPU time: the integral of its rate (1/n) while it had runnable GPU work */
    uint64_t active_ns;    /* wall time it had runnable GPU work; busy = active while alone */
};
/* Of this process. */
int engine_usage(unsigned gpu, struct engine_usage *ret_usage);

#endif
