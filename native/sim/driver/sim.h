/* The simulated driver's own objects. CUDA's opaque handles (CUcontext, CUstream, ...) are pointers to them.
 *
 * Locks: `driver_lock` guards every list and table here and is never held while the engine may wait (submitting,
 * waiting, querying tickets). A stream's own lock keeps the operations of one call together. An effect, which the
 * engine may run on any thread, takes neither.
 */
#ifndef GPUSLICE_SIM_DRIVER_H
#define GPUSLICE_SIM_DRIVER_H

#define __CUDA_API_VERSION_INTERNAL 1        /* declares the old ABIs and both default streams */
#define __CUDA_API_PUSH_VISIBILITY_DEFAULT 1 /* whatever cuda.h declares and we define is exported */
#include <cuda.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../engine/engine.h"

#define DEVICES_MAX SIM_GPUS_MAX

/* The first word of every object: what a handle points to, and whether it is still alive. */
enum magic {
    MAGIC_DEAD = 0,
    MAGIC_CONTEXT = 0x43545831,
    MAGIC_STREAM,
    MAGIC_EVENT,
    MAGIC_MODULE,
    MAGIC_FUNCTION,
    MAGIC_LIBRARY,
    MAGIC_KERNEL,
    MAGIC_LINKER,
    MAGIC_POOL,
    MAGIC_ARRAY,
    MAGIC_MIPMAP,
    MAGIC_GRAPH,
    MAGIC_NODE,
    MAGIC_EXEC,
    MAGIC_USER_OBJECT,
    MAGIC_TEXTURE,
    MAGIC_LAST,
};
static inline bool is_live(const void *handle, enum magic magic) {
    uint32_t word = 0;
    if ((uintptr_t)handle >= 4096)
        word = *(const volatile uint32_t *)handle;
    return word == (uint32_t)magic;
}

/* Zeroed memory for an object of this kind (object.c), NULL when there is none; and its end. */
void *object_new(enum magic magic, size_t bytes);
void object_delete(enum magic magic, void *object);

extern pthread_mutex_t driver_lock;
static inline void lock_driver(void) {
    pthread_mutex_lock(&driver_lock);
}
static inline void unlock_driver(void) {
    pthread_mutex_unlock(&driver_lock);
}

/* --- init.c, device.c ------------------------------------------------------------------------------------------ */

/* CUDA_SUCCESS once cuInit has succeeded in this process. */
CUresult require_init(void);
CUresult from_errno(int negative_errno);
unsigned device_count(void);
/* Reads CUDA_VISIBLE_DEVICES. */
CUresult device_choose_visible(void);
/* What is wrong with a GPU, for this process; waits while it hangs. */
CUresult gpu_check(unsigned gpu);
/* The engine's index of a visible device; -1: no such device. */
int device_gpu(CUdevice device);
CUdevice device_of_gpu(unsigned gpu);

/* --- context.c ------------------------------------------------------------------------------------------------- */

struct stream;
struct module;
struct pool;

struct context {
    uint32_t magic;
    unsigned gpu;
    CUdevice device;
    unsigned flags;
    unsigned long long id;
    bool primary;
    _Atomic int error; /* sticky: what a faulty kernel left; every later call answers it */
    unsigned attached; /* cuCtxAttach without its cuCtxDetach */
    uint32_t peers;    /* GPUs whose memory may be reached, one bit each */
    size_t limits[16];
    CUfunc_cache cache;
    CUsharedconfig shared_config;
    struct stream *legacy;  /* the NULL stream */
    struct stream *streams; /* all of them, the default ones too */
    struct module *modules;
    uint64_t code_bytes;           /* of its modules; whole blocks of it are taken from the card */
    _Atomic unsigned stream_count; /* of the program's own */
    unsigned stream_blocks;        /* taken for them, and kept for the next ones */
    struct allocation *allocations;
    struct context *next;
};

/* The calling thread's current context, alive and without a sticky error. */
CUresult current_context(struct context **ret_context);
CUresult context_check(CUcontext handle, struct context **ret_context);
CUresult context_wait(struct context *context);
void context_forget_child(void); /* after fork: nothing of the parent's is usable */
extern struct context *contexts; /* live ones */

/* --- allocation.c: what lies at a device address; all under driver_lock ----------------------------------------------
 */

enum allocation_kind {
    ALLOCATION_LINEAR = 1,
    ALLOCATION_MANAGED,
    ALLOCATION_POOL,
    ALLOCATION_IPC,
    ALLOCATION_GRAPH,
    ALLOCATION_ARRAY,
};

struct allocation {
    uint64_t base, bytes; /* bytes as asked, never 0 */
    enum allocation_kind kind;
    unsigned gpu;
    unsigned long long id;
    struct context *context; /* NULL: of no context (pools outlive them) */
    void *owner;             /* POOL: its piece; IPC and shared LINEAR: the physical handle */
    bool sync_memops;
    struct allocation *previous, *next; /* of the same context */
};
struct allocation *allocation_find(uint64_t address);
/* NULL: no host memory. */
struct allocation *allocation_add(const struct allocation *like);
void allocation_remove(struct allocation *allocation);
/* Gives all that a context still holds back to the engine. */
void allocations_release(struct context *context);
/* Takes device memory and notes it as the context's, or neither. */
CUresult allocation_make(struct context *context, uint64_t bytes, enum allocation_kind kind, uint64_t *ret_base);
/* The opposite: both at once. CUDA_ERROR_INVALID_VALUE: nothing of that kind begins there. */
CUresult allocation_unmake(uint64_t base, enum allocation_kind kind);

/* --- stream.c -------------------------------------------------------------------------------------------------- */

struct capture;
struct node;

struct stream {
    uint32_t magic;
    struct context *context;
    struct engine_stream *engine;
    pthread_mutex_t lock;
    unsigned flags; /* CU_STREAM_NON_BLOCKING */
    int priority;
    unsigned long long id;
    bool legacy;
    bool dying; /* destroyed by the program */
    CUstreamAttrValue attributes[8];
    struct engine_ticket after_legacy;  /* the last legacy operation this stream already waits for */
    struct engine_ticket before_legacy; /* the last operation of this stream the legacy stream already waits for */
    struct capture *capture;            /* NULL: not capturing; guarded by driver_lock, like the next two */
    struct node **tips;                 /* what the next captured node depends on */
    size_t tip_count;
    struct stream *next;
};

/* A handle to the stream it means for the current context: NULL and CU_STREAM_LEGACY are the legacy stream,
 * CU_STREAM_PER_THREAD the thread's own. */
CUresult stream_find(CUstream handle, struct stream **ret_stream);
CUresult stream_create(struct context *context, unsigned flags, int priority, struct stream **ret_stream);
void stream_delete(struct stream *stream);
/* Queues one engine operation behind everything the stream rules put before it. */
CUresult stream_submit(struct stream *stream, const struct engine_op *op, struct engine_ticket *ret_ticket);
CUresult stream_wait_ticket(struct stream *stream, struct engine_ticket ticket);
CUresult stream_synchronize(struct stream *stream);
/* The streams whose work a legacy operation waits for, or just `stream`. */
CUresult stream_query(struct stream *stream);
bool context_spins(const struct context *context);

/* --- work.c: what a stream can be asked to do, and a graph node can hold ---------------------------------------- */

struct array;
struct event;
struct function;
struct graph;

enum work_kind {
    WORK_EMPTY,
    WORK_KERNEL,
    WORK_COPY,
    WORK_SET,
    WORK_HOST,
    WORK_EVENT_RECORD,
    WORK_EVENT_WAIT,
    WORK_CHILD,
    WORK_ALLOC,
    WORK_FREE,
    WORK_VALUES,
};

struct work_kernel {
    struct function *function;
    CUcontext context;
    uint32_t grid[3], block[3];
    uint32_t shared_bytes;
    bool cooperative;
    CUevent completion;       /* launch attribute: an event to record when it ends */
    unsigned char *arguments; /* the parameter block; owned */
    uint32_t argument_bytes;
    void **parameters; /* the pointers into `arguments`, as the getter of a graph node shows them; owned */
};

/* One side of a copy, as memory: an array is linear memory here too. */
struct copy_side {
    unsigned char *base;
    size_t x, y, z;       /* x in bytes */
    size_t pitch, height; /* bytes from row to row; rows from slice to slice */
    bool device;
    bool pageable; /* host memory that is not pinned */
    unsigned gpu;
};
struct work_copy {
    struct copy_side source, target;
    size_t width, height, depth; /* width in bytes */
    CUDA_MEMCPY3D asked;         /* for the getters of a graph node */
    bool stage;                  /* read a pageable source now, not when the copy runs */
    bool wait;                   /* come back when it is done */
};

struct work_set {
    unsigned char *target;
    size_t pitch, width, height; /* width in elements */
    unsigned element, value;
    unsigned gpu;
};

struct work_alloc {
    CUDA_MEM_ALLOC_NODE_PARAMS parameters;
};

struct work {
    enum work_kind kind;
    union {
        struct work_kernel kernel;
        struct work_copy copy;
        struct work_set set;
        CUDA_HOST_NODE_PARAMS host;
        struct event *event;
        struct graph *child;
        struct work_alloc alloc;
        CUdeviceptr free;
        struct {
            unsigned count;
            CUstreamBatchMemOpParams *ops; /* owned */
        } values;
    };
};

/* Adds it to the stream, or to the graph that the stream is capturing. Takes what `work` owns, also on failure. */
CUresult work_enqueue(CUstream stream, struct work *work);
/* Runs it now (never captures). Leaves `work` as it is. */
CUresult work_run(struct stream *stream, const struct work *work);
CUresult work_clone(const struct work *work, struct work *ret_clone);
void work_free(struct work *work);

/* --- kernel launches -------------------------------------------------------------------------------------------- */

struct function {
    uint32_t magic;
    struct module *module;
    const struct image_function *image;
    int attributes[CU_FUNC_ATTRIBUTE_MAX];
    CUfunc_cache cache;
    const struct kernel_body *body;
    struct { /* the old launch interface: cuFuncSetBlockShape and cuParamSet... */
        uint32_t block[3], shared_bytes, argument_bytes;
        unsigned char *arguments; /* OLD_ARGUMENT_BYTES of them, from the first on; owned */
    } old;
};
/* With lazy loading the code of a module comes onto the card when the first of its functions is used. */
CUresult function_load(const struct function *function);
CUresult kernel_run(struct stream *stream, const struct work_kernel *kernel);
CUresult kernel_fill(struct work_kernel *ret_kernel, CUfunction function, const uint32_t grid[3],
                     const uint32_t block[3], uint32_t shared_bytes, void **parameters, void **extra);
/* A CUfunction or CUkernel handle; NULL if it is neither. */
struct function *function_check(const void *handle);

/* --- copies and sets ---------------------------------------------------------------------------------------------- */

CUresult copy_run(struct stream *stream, const struct work_copy *copy);
/* From what was asked to where the bytes lie. CUDA_ERROR_INVALID_VALUE: not all of it is there. */
CUresult copy_fill(struct work_copy *ret_copy, const CUDA_MEMCPY3D *asked);
/* Whether [address, address + bytes) is all device memory of this process, and of which GPU. */
bool device_range(uint64_t address, uint64_t bytes, unsigned *ret_gpu);
CUresult set_fill(struct work_set *ret_set, const CUDA_MEMSET_NODE_PARAMS *asked);
CUresult set_run(struct stream *stream, const struct work_set *set);

/* --- host memory the driver knows (memory_host.c) ------------------------------------------------------------------
 */

struct host_range {
    uintptr_t base;
    size_t bytes;
    unsigned flags;
    bool registered; /* the program's own memory, pinned by cuMemHostRegister */
    CUcontext context;
    struct host_range *next;
};
/* Pinned host memory at this address, under driver_lock; NULL: pageable or no host memory. */
struct host_range *host_range_find(uintptr_t address);
bool host_is_pinned(const void *address);

/* --- events (event.c) ----------------------------------------------------------------------------------------------
 */

CUresult event_record(struct stream *stream, struct event *event);
CUresult event_wait(struct stream *stream, struct event *event);
struct event *event_check(CUevent handle);

/* --- pools (pool.c) --------------------------------------------------------------------------------------------------
 */

/* Allocations of pools whose work is over give back what the release threshold does not keep. */
void pools_trim_after_sync(void);

/* --- capture (capture.c)
 * ---------------------------------------------------------------------------------------------- */

/* Calls that may not be made while a capture is on: CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, and the capture is
 * invalid, when this thread's capture mode says so. Called at the head of every such call. */
CUresult capture_forbids(void);
/* The head of a call that takes memory of the current context: capture_forbids, then current_context. */
CUresult current_context_outside_capture(struct context **ret_context);
/* As capture_forbids for calls on one stream (synchronise, query): an error when it is capturing. */
CUresult capture_forbids_stream(struct stream *stream);
/* As capture_forbids for waits on a whole context: an error when any of its streams is capturing. */
CUresult capture_forbids_context(struct context *context);

#endif
