#include "attach.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "blocks.h"
#include "journal.h"
#include "linear.h"
#include "mig.h"
#include "timeline.h"

struct member engine_self;

/* The compute instance that this process sees instead of its GPU, while node_process.instance names it. */
static struct {
    struct mig_place place;
    struct sim_gpu view;
} instance;

/* A page that a forked child sees zeroed, however it was forked: 1 while this process is attached. */
static _Atomic unsigned char *attached;
static pthread_mutex_t attaching = PTHREAD_MUTEX_INITIALIZER;

static int mark_page(void) {
    if (attached)
        return 0;
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return -errno;
    if (madvise(page, size, MADV_WIPEONFORK) < 0) {
        int result = -errno;
        munmap(page, size);
        return result;
    }
    attached = page;
    return 0;
}

/* CUDA has no error that tells a stale node from a broken one. */
static void complain(const char *directory, int error) {
    char reason[256];
    if (error != -EPROTO)
        return;
    node_explain(directory, error, reason);
    fprintf(stderr, "gpuslice: %s\n", reason);
}

static int join(void) {
    const char *directory = secure_getenv("GPUSLICE_SIM_NODE");
    if (!directory || !*directory)
        return -ENOENT;
    int result = mark_page();
    if (result < 0)
        return result;
    result = member_join(directory, false, &engine_self);
    if (result < 0) {
        complain(directory, result);
        return result;
    }
    result = heap_begin();
    if (result < 0) {
        member_leave(&engine_self);
        return result;
    }
    linear_begin();
    physical_begin();
    queue_begin();
    effects_begin();
    atomic_store_explicit(attached, 1, memory_order_release); /* after all that it stands for */
    return 0;
}

int engine_attach(void) {
    if (attached && atomic_load_explicit(attached, memory_order_acquire))
        return 0;
    pthread_mutex_lock(&attaching);
    int result = attached && atomic_load_explicit(attached, memory_order_relaxed) ? 0 : join();
    pthread_mutex_unlock(&attaching);
    return result;
}

/* The work that is still queued ends with the process, at this very moment. The rest is found by whoever looks. */
__attribute__((destructor)) static void leave(void) {
    if (!attached || !atomic_load_explicit(attached, memory_order_acquire))
        return;
    effects_end();
    node_lock(&engine_self);
    timeline_advance(engine_self.node, now_ns());
    reap_work(engine_self.node, engine_self.index);
    node_unlock(&engine_self);
    node_kick(engine_self.node);
}

unsigned engine_gpu_count(void) {
    return engine_self.node->info.gpu_count;
}

const struct sim_gpu *engine_gpu(unsigned gpu) {
    if (!gpu_exists(gpu))
        return NULL;
    return member_process(&engine_self)->instance && instance.place.gpu == gpu ? &instance.view
                                                                               : &engine_self.node->gpus[gpu];
}

const struct sim_gpu *engine_gpu_whole(unsigned gpu) {
    return gpu_exists(gpu) ? &engine_self.node->gpus[gpu] : NULL;
}

bool engine_gpu_partitioned(unsigned gpu) {
    return gpu_exists(gpu) && engine_self.node->mig[gpu].enabled;
}

bool engine_instance_at(unsigned gpu, unsigned index, struct mig_place *ret_place) {
    node_lock(&engine_self);
    bool found = mig_device_at(engine_self.node, gpu, index, ret_place);
    node_unlock(&engine_self);
    return found;
}

bool engine_instance_named(const char *name, struct mig_place *ret_place) {
    node_lock(&engine_self);
    bool found = mig_device_named(engine_self.node, name, ret_place);
    node_unlock(&engine_self);
    return found;
}

int engine_enter_instance(struct mig_place place) {
    node_lock(&engine_self);
    bool there = mig_compute_instance(engine_self.node, place);
    if (there) {
        instance.view = mig_view(engine_self.node, place);
        instance.place = place;
        journal_put(engine_self.node, &member_process(&engine_self)->instance, mig_name(place));
    }
    node_unlock(&engine_self);
    return there ? 0 : -ENODEV;
}

int engine_memory_reserve(unsigned gpu, uint64_t bytes) {
    return gpu_exists(gpu) ? blocks_take(&engine_self, gpu, blocks_of(bytes)) : -ENODEV;
}

void engine_memory_release(unsigned gpu, uint64_t bytes) {
    blocks_give(&engine_self, gpu, blocks_of(bytes));
}

int engine_context_open(unsigned gpu) {
    if (!gpu_exists(gpu))
        return -ENODEV;
    int result = engine_memory_reserve(gpu, engine_gpu(gpu)->context_overhead_bytes);
    if (result < 0)
        return result;
    node_lock(&engine_self);
    journal_add(engine_self.node, &member_process(&engine_self)->gpus[gpu].contexts, 1);
    node_unlock(&engine_self);
    return 0;
}

void engine_context_close(unsigned gpu) {
    node_lock(&engine_self);
    uint64_t *contexts = &member_process(&engine_self)->gpus[gpu].contexts;
    journal_put(engine_self.node, contexts, *contexts - 1);
    node_unlock(&engine_self);
    engine_memory_release(gpu, engine_gpu(gpu)->context_overhead_bytes);
}

int engine_memory_info(unsigned gpu, uint64_t *ret_free, uint64_t *ret_total) {
    if (!gpu_exists(gpu))
        return -ENODEV;
    node_lock(&engine_self);
    reap_dead(&engine_self);
    uint64_t used = blocks_used(engine_self.node, engine_self.index, gpu) << BLOCK_SHIFT;
    node_unlock(&engine_self);
    *ret_total = engine_gpu(gpu)->memory_bytes;
    *ret_free = *ret_total - used;
    return 0;
}
