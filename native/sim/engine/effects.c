#include "effects.h"

#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "journal.h"

#define BATCH 32u
#define POLL_NS 50000
#define PATIENCE_NS 2000000 /* how long the thread sleeps at most while something is due: others may end sooner */
#define STACK_BYTES (1u << 20)

/* One look at a time, and one effect; taken before the node's lock. Never held while a host call runs: that may wait
 * for another thread, which may wait for the GPU. */
static pthread_mutex_t looking = PTHREAD_MUTEX_INITIALIZER;

/* The engine's own thread. */
static struct {
    _Atomic uint32_t bell; /* futex: grows when there is something new to look after */
    _Atomic uint32_t running;
    _Atomic uint32_t ending;
} worker;

void effects_begin(void) {
    pthread_mutex_init(&looking, NULL);
    worker.running = worker.ending = 0;
}

void effects_end(void) {
    struct timespec patience;
    clock_gettime(CLOCK_REALTIME, &patience);
    patience.tv_sec++;
    atomic_store(&worker.ending, 1);
    /* an effect that waits for another process is not worth hanging an exit */
    pthread_mutex_timedlock(&looking, &patience);
}

void sleep_on(_Atomic uint32_t *word, uint32_t seen, uint64_t until_ns) {
    const struct timespec until = {.tv_sec = (time_t)(until_ns / 1000000000u),
                                   .tv_nsec = (long)(until_ns % 1000000000u)};
    /* the default slack, 50 us, is longer than many kernels */
    int slack = prctl(PR_GET_TIMERSLACK);
    prctl(PR_SET_TIMERSLACK, 1UL);
    syscall(SYS_futex, word, FUTEX_WAIT_BITSET, seen, &until, NULL, FUTEX_BITSET_MATCH_ANY);
    if (slack > 0)
        prctl(PR_SET_TIMERSLACK, (unsigned long)slack);
}

/* --- what is due -------------------------------------------------------------------------------------------- */

struct due {
    struct record record;
    struct engine_times times;
};

bool foreign_ready(struct node_file *node, struct engine_ticket ticket) {
    const struct node_channel *channel = &node->channels[ticket.channel % NODE_CHANNELS];
    if (channel->generation != ticket.generation)
        return true;
    return channel->done >= ticket.sequence && (channel->effect_due == 0 || channel->effect_due > ticket.sequence);
}

static void take_off(struct engine_stream *stream) {
    stream->due_first = record_at(stream, stream->due_first)->next_due;
    if (!stream->due_first)
        stream->due_last = 0;
}

/* The stream whose next record belongs to the operation that completed first, or NULL: none is complete. */
static struct engine_stream *first_complete(struct node_file *node) {
    struct engine_stream *first = NULL;
    uint64_t order = UINT64_MAX;
    for (struct engine_stream *stream = unsettled_streams; stream; stream = stream->next) {
        if (!stream->due_first || stream->due_first > node->channels[stream->channel].done)
            continue;
        const struct node_op *op = timeline_op(node, stream->channel, stream->due_first);
        if (op->order < order) {
            order = op->order;
            first = stream;
        }
    }
    return first;
}

static unsigned collect(struct node_file *node, struct due batch[BATCH]) {
    unsigned count = 0;
    struct engine_stream *stream;
    while (count < BATCH && (stream = first_complete(node))) {
        const struct node_op *op = timeline_op(node, stream->channel, stream->due_first);
        batch[count].record = *record_at(stream, stream->due_first);
        batch[count++].times = (struct engine_times){op->start_ns, op->end_ns};
        take_off(stream);
    }
    return count;
}

/* Says what is settled: complete, and no effect before it is still to happen. Forgets streams with nothing left. */
static void publish(struct node_file *node) {
    for (struct engine_stream **link = &unsettled_streams; *link;) {
        struct engine_stream *stream = *link;
        struct node_channel *channel = &node->channels[stream->channel];
        uint64_t settled = channel->done;
        if (stream->due_first && stream->due_first <= settled)
            settled = stream->due_first - 1;
        channel->effect_due = stream->due_first;
        /* release: the effects come before the word that they have happened */
        atomic_store_explicit(&stream->settled, settled, memory_order_release);
        if (settled < atomic_load_explicit(&stream->tail, memory_order_relaxed)) {
            link = &stream->next;
            continue;
        }
        *link = stream->next;
        stream->listed = false;
        if (stream->destroyed) {
            atomic_store_explicit(&stream->generation, 0, memory_order_release);
            timeline_close(node, stream->channel);
        }
    }
}

static void await_foreign(struct engine_ticket ticket) {
    for (;;) {
        node_lock(&engine_self);
        reap_if_due(&engine_self, now_ns());
        bool ready = foreign_ready(engine_self.node, ticket);
        node_unlock(&engine_self);
        if (ready)
            return;
        clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){.tv_nsec = 20000}, NULL);
    }
}

static void perform(const struct due *due) {
    if (due->record.kind == RECORD_FOREIGN_WAIT)
        await_foreign(due->record.ticket);
    else if (due->record.effect)
        due->record.effect(due->record.arg, &due->times);
}

/* --- polls and host calls ----------------------------------------------------------------------------------- */

/* Whether the channel stands at the first record of the stream, an operation of this kind. */
static bool stands_at(const struct node_file *node, struct engine_stream *stream, enum record_kind kind) {
    const struct node_channel *channel = &node->channels[stream->channel];
    return stream->due_first && stream->due_first == channel->done + 1 && channel->running &&
           record_at(stream, stream->due_first)->kind == kind;
}

static void finish(struct engine_stream *stream) {
    struct node_file *node = engine_self.node;
    node_lock(&engine_self);
    timeline_advance(node, now_ns());
    timeline_finish(node, stream->channel);
    node_unlock(&engine_self);
    node_kick(node);
}

/* Under the node's lock. */
static struct engine_stream *next_standing(enum record_kind kind, struct engine_stream *after) {
    for (struct engine_stream *stream = after ? after->next : unsettled_streams; stream; stream = stream->next)
        if (stands_at(engine_self.node, stream, kind) && !record_at(stream, stream->due_first)->taken)
            return stream;
    return NULL;
}

static struct engine_stream *find_standing(enum record_kind kind, struct engine_stream *after) {
    node_lock(&engine_self);
    struct engine_stream *found = next_standing(kind, after);
    node_unlock(&engine_self);
    return found;
}

/* True: some stream may go on. Its record is performed as an effect, like any other. */
static bool ask_polls(void) {
    for (struct engine_stream *stream = NULL; (stream = find_standing(RECORD_POLL, stream));) {
        struct record *record = record_at(stream, stream->due_first);
        if (record->ready(record->arg)) {
            finish(stream);
            return true;
        }
    }
    return false;
}

/* On the engine's thread, without `looking`: the stream stands still meanwhile, so its record stays. */
static bool make_host_call(void) {
    pthread_mutex_lock(&looking);
    struct engine_stream *stream = find_standing(RECORD_HOST_CALL, NULL);
    struct record *record = stream ? record_at(stream, stream->due_first) : NULL;
    if (record)
        record->taken = true;
    pthread_mutex_unlock(&looking);
    if (!record)
        return false;
    uint64_t start = timeline_op(engine_self.node, stream->channel, stream->due_first)->start_ns;
    record->effect(record->arg, &(struct engine_times){start, now_ns()});
    record->effect = NULL; /* it has happened */
    finish(stream);
    return true;
}

void effects_look(void) {
    struct due batch[BATCH];
    pthread_mutex_lock(&looking);
    uint64_t now = now_ns();
    bool polls;
    do {
        unsigned count;
        do {
            node_lock(&engine_self);
            reap_if_due(&engine_self, now);
            timeline_advance(engine_self.node, now);
            publish(engine_self.node);
            count = collect(engine_self.node, batch);
            polls = next_standing(RECORD_POLL, NULL) != NULL;
            node_unlock(&engine_self);
            for (unsigned i = 0; i < count; i++)
                perform(&batch[i]);
        } while (count > 0);
    } while (polls && ask_polls());
    pthread_mutex_unlock(&looking);
}

void effects_run(const struct engine_op *op) {
    uint64_t now = now_ns();
    pthread_mutex_lock(&looking);
    op->effect(op->arg, &(struct engine_times){now, now});
    pthread_mutex_unlock(&looking);
}

/* --- the engine's thread ------------------------------------------------------------------------------------ */

/* When to look again: at the forecast of the next record, soon for what must be polled. */
static uint64_t next_look(uint64_t now) {
    struct node_file *node = engine_self.node;
    struct timeline_target targets[BATCH];
    unsigned count = 0;
    uint64_t next = 0;
    node_lock(&engine_self);
    for (struct engine_stream *stream = unsettled_streams; stream; stream = stream->next) {
        if (!stream->due_first)
            continue;
        enum record_kind kind = record_at(stream, stream->due_first)->kind;
        bool external = kind == RECORD_POLL || kind == RECORD_HOST_CALL;
        next = now + PATIENCE_NS;
        if (stands_at(node, stream, RECORD_POLL)) {
            count = 0;
            next = now + POLL_NS;
            break;
        }
        if (count < BATCH && !stands_at(node, stream, RECORD_HOST_CALL))
            targets[count++] = (struct timeline_target){
                stream->channel, (uint32_t)node->channels[stream->channel].generation, stream->due_first - external};
    }
    uint64_t forecast = count ? timeline_forecast(node, targets, count) : TIMELINE_NEVER;
    node_unlock(&engine_self);
    return forecast < next ? forecast : next;
}

static void *work(void *unused) {
    (void)unused;
    while (!atomic_load(&worker.ending)) {
        uint32_t bell = atomic_load(&worker.bell);
        effects_look();
        if (make_host_call())
            continue;
        uint64_t now = now_ns(), until = next_look(now);
        if (until > now)
            sleep_on(&worker.bell, bell, until);
        else if (until == 0) /* nothing is due */
            syscall(SYS_futex, &worker.bell, FUTEX_WAIT, bell, NULL, NULL, 0);
    }
    return NULL;
}

static void start_worker(void) {
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, before;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    sigfillset(&all); /* the program's signals are for the program's threads */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (pthread_create(&thread, &attributes, work, NULL) != 0)
        atomic_store(&worker.running, 0); /* tried again at the next need; waits and queries do its work meanwhile */
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
}

void effects_expected(void) {
    if (atomic_exchange(&worker.running, 1) == 0)
        start_worker();
    atomic_fetch_add(&worker.bell, 1);
    syscall(SYS_futex, &worker.bell, FUTEX_WAKE, 1, NULL, NULL, 0);
}
