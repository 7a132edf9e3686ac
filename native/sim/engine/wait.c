/* Waiting for operations, of this process and of others. */
#include <errno.h>
#include <stdlib.h>

#include "effects.h"
#include "journal.h"

#define PATIENCE_NS 10000000        /* how long a wait sleeps at most */
#define CROWDED_PATIENCE_NS 2000000 /* while other processes have work: one may die and leave the GPU to us */
#define SPIN_NS 60000               /* a sleep ends about this late */
#define RETRY_NS 20000              /* complete, but another process has yet to do what it does */

static bool complete(struct engine_ticket ticket) {
    struct engine_stream *stream = queue_find(ticket);
    if (stream)
        return atomic_load_explicit(&stream->settled, memory_order_acquire) >= ticket.sequence;
    node_lock(&engine_self);
    reap_if_due(&engine_self, now_ns());
    timeline_advance(engine_self.node, now_ns());
    bool ready = foreign_ready(engine_self.node, ticket);
    node_unlock(&engine_self);
    return ready;
}

/* As complete(), after a look at our own streams. */
static bool complete_now(struct engine_ticket ticket) {
    if (complete(ticket))
        return true;
    effects_look();
    return complete(ticket);
}

int engine_ticket_query(struct engine_ticket ticket) {
    return complete_now(ticket);
}

static bool crowded(const struct node_file *node) {
    for (uint64_t link = node->timeline.busy_head; link; link = node->channels[link - 1].next)
        if (node->channels[link - 1].owner != engine_self.self)
            return true;
    return false;
}

/* When it pays to look again. */
static uint64_t next_look(struct engine_ticket ticket, uint64_t now) {
    const struct timeline_target target = {ticket.channel, ticket.generation, ticket.sequence};
    node_lock(&engine_self);
    uint64_t latest = now + (crowded(engine_self.node) ? CROWDED_PATIENCE_NS : PATIENCE_NS);
    uint64_t forecast =
        timeline_complete(engine_self.node, target) ? now + RETRY_NS : timeline_forecast(engine_self.node, &target, 1);
    node_unlock(&engine_self);
    return forecast < latest ? forecast : latest;
}

static void spin_until(_Atomic uint32_t *word, uint32_t seen, uint64_t until) {
    while (now_ns() < until && atomic_load_explicit(word, memory_order_relaxed) == seen)
        ;
}

/* Work of a GPU that is lost, or of a context that an error ended, never comes to an end. */
static bool in_vain(struct engine_ticket ticket) {
    struct engine_stream *stream = queue_find(ticket);
    return stream && engine_gpu_fault(stream->gpu) != 0;
}

int engine_ticket_wait(struct engine_ticket ticket, bool spin) {
    _Atomic uint32_t *kick = &engine_self.node->kick;
    for (;;) {
        if (in_vain(ticket))
            return -EIO;
        /* read before the look: what ends after it grows the word, and the sleep returns at once */
        uint32_t seen = atomic_load_explicit(kick, memory_order_acquire);
        if (complete_now(ticket))
            return 0;
        uint64_t now = now_ns(), until = next_look(ticket, now);
        if (!spin)
            sleep_on(kick, seen, until);
        else if (until > now + SPIN_NS)
            sleep_on(kick, seen, until - SPIN_NS);
        else
            spin_until(kick, seen, until);
    }
}

int engine_gpu_wait(unsigned gpu, bool spin) {
    struct engine_ticket *last = malloc(NODE_CHANNELS * sizeof *last);
    if (!last)
        return -ENOMEM;
    unsigned count = 0;
    node_lock(&engine_self);
    for (struct engine_stream *stream = unsettled_streams; stream; stream = stream->next)
        if (stream->gpu == gpu)
            last[count++] = engine_stream_last(stream);
    node_unlock(&engine_self);
    int result = 0;
    for (unsigned i = 0; i < count; i++) {
        int waited = engine_ticket_wait(last[i], spin);
        result = result < 0 ? result : waited;
    }
    free(last);
    return result;
}

int engine_usage(unsigned gpu, struct engine_usage *ret_usage) {
    if (!gpu_exists(gpu))
        return -ENODEV;
    node_lock(&engine_self);
    timeline_advance(engine_self.node, now_ns());
    const struct node_process_gpu *account = &member_process(&engine_self)->gpus[gpu];
    *ret_usage = (struct engine_usage){.memory_bytes = account->blocks * ENGINE_BLOCK_BYTES,
                                       .busy_ns = account->busy >> NODE_TIME_SHIFT,
                                       .active_ns = account->active};
    node_unlock(&engine_self);
    return 0;
}
