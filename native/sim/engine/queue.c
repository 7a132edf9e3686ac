#include "queue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "effects.h"
#include "journal.h"

#define ROOM_ASKED 64u /* a full queue is waited for until this much is free, so that not each launch sleeps */
#define LOOK_EVERY 32u

static struct engine_stream *streams[NODE_CHANNELS]; /* by channel */
struct engine_stream *unsettled_streams;

void queue_begin(void) {
    memset(streams, 0, sizeof streams); /* a forked child leaves its parent's streams behind */
    unsettled_streams = NULL;
}

struct engine_stream *queue_find(struct engine_ticket ticket) {
    struct engine_stream *stream = streams[ticket.channel % NODE_CHANNELS];
    return stream && atomic_load_explicit(&stream->generation, memory_order_acquire) == ticket.generation ? stream
                                                                                                          : NULL;
}

/* --- streams ------------------------------------------------------------------------------------------------ */

static struct engine_stream *stream_of(uint32_t channel) {
    if (!streams[channel]) {
        void *memory = mmap(NULL, sizeof(struct engine_stream), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                            0); /* untouched records cost nothing */
        if (memory == MAP_FAILED)
            return NULL;
        struct engine_stream *stream = memory;
        pthread_mutex_init(&stream->submitting, NULL);
        stream->channel = channel;
        streams[channel] = stream;
    }
    return streams[channel];
}

static int open_stream(unsigned gpu, struct engine_stream **ret_stream) {
    struct node_file *node = engine_self.node;
    uint32_t channel;
    int result = timeline_open(node, engine_self.self, gpu, &channel);
    if (result < 0) {
        reap_dead(&engine_self);
        result = timeline_open(node, engine_self.self, gpu, &channel);
    }
    if (result < 0)
        return result;
    struct engine_stream *stream = stream_of(channel);
    if (!stream) {
        timeline_close(node, channel);
        return -ENOMEM;
    }
    stream->gpu = gpu;
    stream->destroyed = stream->listed = false;
    stream->due_first = stream->due_last = 0;
    atomic_store_explicit(&stream->tail, 0, memory_order_relaxed);
    atomic_store_explicit(&stream->settled, 0, memory_order_relaxed);
    /* release: who finds a ticket's stream by this finds the rest of it new */
    atomic_store_explicit(&stream->generation, (uint32_t)node->channels[channel].generation, memory_order_release);
    *ret_stream = stream;
    return 0;
}

static int open_locked(unsigned gpu, struct engine_stream **ret_stream) {
    node_lock(&engine_self);
    int result = open_stream(gpu, ret_stream);
    node_unlock(&engine_self);
    return result;
}

int engine_stream_create(unsigned gpu, struct engine_stream **ret_stream) {
    if (!gpu_exists(gpu))
        return -ENODEV;
    int result = open_locked(gpu, ret_stream);
    if (result < 0 && engine_gpu_wait(gpu, false) == 0) { /* streams destroyed with work in flight end after it */
        effects_look();
        result = open_locked(gpu, ret_stream);
    }
    return result;
}

void engine_stream_destroy(struct engine_stream *stream) {
    node_lock(&engine_self);
    stream->destroyed = true;
    if (!stream->listed) { /* else the look that settles it closes it */
        atomic_store_explicit(&stream->generation, 0, memory_order_release);
        timeline_close(engine_self.node, stream->channel);
    }
    node_unlock(&engine_self);
}

/* --- operations --------------------------------------------------------------------------------------------- */

static uint64_t copy_ns(uint64_t bytes, uint64_t bandwidth) {
    return (uint64_t)((unsigned __int128)bytes * 1000000000u / bandwidth);
}

static uint64_t peer_bandwidth(const struct sim_gpu *gpu, unsigned peer) {
    unsigned links = 0;
    for (unsigned l = 0; l < gpu->link_count; l++)
        links +=
            gpu->links[l].end == SIM_LINK_SWITCH || (gpu->links[l].end == SIM_LINK_GPU && gpu->links[l].peer == peer);
    return links ? links * gpu->link_bandwidth : gpu->host_bandwidth;
}

/* Slower where a link was made so. */
static uint64_t host_bandwidth(unsigned gpu) {
    uint64_t percent = __atomic_load_n(&engine_self.node->faults[gpu].host_percent, __ATOMIC_RELAXED);
    uint64_t whole = engine_gpu(gpu)->host_bandwidth;
    return percent ? whole * percent / 100 : whole;
}

static struct node_op queued(const struct engine_stream *stream, const struct engine_op *op) {
    const struct sim_gpu *gpu = engine_gpu(stream->gpu);
    switch (op->kind) {
    case ENGINE_OP_KERNEL:
        return (struct node_op){.op_class = NODE_OP_GPU,
                                .cost = op->cost_ns << NODE_TIME_SHIFT,
                                .occupancy = (uint32_t)(op->occupancy * 65536)};
    case ENGINE_OP_DEVICE_COPY:
        return (struct node_op){.op_class = NODE_OP_GPU,
                                .cost = copy_ns(op->bytes, gpu->memory_bandwidth) << NODE_TIME_SHIFT,
                                .occupancy = 65536};
    case ENGINE_OP_COPY_IN:
    case ENGINE_OP_COPY_OUT:
        return (struct node_op){.op_class = NODE_OP_WALL,
                                .cost = copy_ns(op->bytes, host_bandwidth(stream->gpu)),
                                .occupancy = op->kind == ENGINE_OP_COPY_OUT};
    case ENGINE_OP_PEER_COPY:
        return (struct node_op){
            .op_class = NODE_OP_WALL, .cost = copy_ns(op->bytes, peer_bandwidth(gpu, op->peer)), .occupancy = 2};
    case ENGINE_OP_HOST_CALL:
    case ENGINE_OP_POLL:
        return (struct node_op){.op_class = NODE_OP_EXTERNAL};
    case ENGINE_OP_MARK:
        break;
    }
    return (struct node_op){.op_class = NODE_OP_MARK};
}

static struct engine_ticket ticket_of(const struct engine_stream *stream, uint64_t sequence) {
    return (struct engine_ticket){stream->channel, atomic_load_explicit(&stream->generation, memory_order_relaxed),
                                  sequence};
}

static uint64_t unsettled(const struct engine_stream *stream) {
    /* acquire: the effects of what is settled come before what we do next */
    return atomic_load_explicit(&stream->tail, memory_order_relaxed) -
           atomic_load_explicit(&stream->settled, memory_order_acquire);
}

static int make_room(struct engine_stream *stream) {
    if (unsettled(stream) < NODE_QUEUE - 1)
        return 0;
    uint64_t tail = atomic_load_explicit(&stream->tail, memory_order_relaxed);
    return engine_ticket_wait(ticket_of(stream, tail - (NODE_QUEUE - 1 - ROOM_ASKED)), false);
}

/* Appends under `submitting`. `record` may be NULL. True: the stream had no record to look after until now. */
static bool append(struct engine_stream *stream, struct node_op op, const struct record *record) {
    node_lock(&engine_self);
    struct node_channel *channel = &engine_self.node->channels[stream->channel];
    uint64_t sequence = atomic_load_explicit(&stream->tail, memory_order_relaxed) + 1;
    bool first = record && !stream->due_first;
    if (record) {
        *record_at(stream, sequence) = *record;
        if (first) {
            stream->due_first = sequence;
            channel->effect_due = sequence;
        } else {
            record_at(stream, stream->due_last)->next_due = sequence;
        }
        stream->due_last = sequence;
    }
    if (!stream->listed) {
        stream->listed = true;
        stream->next = unsettled_streams;
        unsettled_streams = stream;
    }
    op.arrival_ns = now_ns();
    timeline_submit(engine_self.node, stream->channel, &op);
    atomic_store_explicit(&stream->tail, sequence, memory_order_release);
    node_unlock(&engine_self);
    return first;
}

/* Whether nothing is before an operation in its stream. What we last saw may be old: now and then, look. */
static bool idle(const struct engine_stream *stream) {
    if (unsettled(stream) > 0 && atomic_load_explicit(&stream->tail, memory_order_relaxed) % LOOK_EVERY == 0)
        effects_look();
    return unsettled(stream) == 0;
}

static int submit(struct engine_stream *stream, const struct engine_op *op, bool waited,
                  struct engine_ticket *ret_ticket) {
    struct node_op queue_op = queued(stream, op);
    pthread_mutex_lock(&stream->submitting);
    int result = 0;
    if (queue_op.cost == 0 && queue_op.op_class != NODE_OP_EXTERNAL && idle(stream)) {
        if (op->effect)
            effects_run(op);
    } else if ((result = make_room(stream)) == 0) {
        struct record record = {.effect = op->effect, .ready = op->ready, .arg = op->arg};
        if (op->kind == ENGINE_OP_HOST_CALL || op->kind == ENGINE_OP_POLL)
            record.kind = op->kind == ENGINE_OP_POLL ? RECORD_POLL : RECORD_HOST_CALL;
        bool needed = op->effect || queue_op.op_class == NODE_OP_EXTERNAL;
        if (append(stream, queue_op, needed ? &record : NULL) && !(waited && record.kind == RECORD_EFFECT))
            effects_expected();
    }
    if (ret_ticket && result == 0)
        *ret_ticket = ticket_of(stream, atomic_load_explicit(&stream->tail, memory_order_relaxed));
    pthread_mutex_unlock(&stream->submitting);
    return result;
}

int engine_submit(struct engine_stream *stream, const struct engine_op *op, struct engine_ticket *ret_ticket) {
    return submit(stream, op, false, ret_ticket);
}

int engine_run(struct engine_stream *stream, const struct engine_op *op, bool spin) {
    struct engine_ticket ticket;
    int result = submit(stream, op, true, &ticket);
    return result < 0 ? result : engine_ticket_wait(ticket, spin);
}

int engine_stream_wait(struct engine_stream *stream, struct engine_ticket ticket) {
    struct engine_stream *awaited = queue_find(ticket);
    if (awaited == stream)
        return 0;
    if (awaited ? atomic_load_explicit(&awaited->settled, memory_order_acquire) >= ticket.sequence
                : engine_ticket_query(ticket) == 1)
        return 0;
    pthread_mutex_lock(&stream->submitting);
    int result = make_room(stream);
    if (result == 0) {
        struct node_op op = {.op_class = NODE_OP_WAIT,
                             .wait_channel = ticket.channel,
                             .wait_generation = ticket.generation,
                             .wait_sequence = ticket.sequence};
        struct record record = {.kind = RECORD_FOREIGN_WAIT, .ticket = ticket};
        if (append(stream, op, awaited ? NULL : &record))
            effects_expected();
    }
    pthread_mutex_unlock(&stream->submitting);
    return result;
}

struct engine_ticket engine_stream_last(struct engine_stream *stream) {
    return ticket_of(stream, atomic_load_explicit(&stream->tail, memory_order_acquire));
}
