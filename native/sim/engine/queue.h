/* Streams of this process: the private side of a channel. */
#ifndef GPUSLICE_SIM_QUEUE_H
#define GPUSLICE_SIM_QUEUE_H

#include <pthread.h>

#include "attach.h"
#include "timeline.h"

enum record_kind {
    RECORD_EFFECT = 0,   /* to be called once the operation is complete */
    RECORD_HOST_CALL,    /* called while the channel stands at it */
    RECORD_POLL,         /* asked while the channel stands at it, then called */
    RECORD_FOREIGN_WAIT, /* what another process did up to `ticket` must have happened before our next effect */
};

/* What an operation does when its time has come. */
struct record {
    void (*effect)(void *arg, const struct engine_times *times);
    bool (*ready)(void *arg);
    void *arg;
    struct engine_ticket ticket;
    enum record_kind kind;
    bool taken;        /* a host call that is running */
    uint64_t next_due; /* the next operation of the stream that has a record; 0: none */
};

/* Never freed, used again with the next generation of its channel: a ticket may outlive its stream. */
struct engine_stream {
    pthread_mutex_t submitting; /* one at a time; taken before any other lock */
    uint32_t channel;
    _Atomic uint32_t generation;
    unsigned gpu;
    _Atomic uint64_t tail;    /* operations submitted; changes under the node's lock */
    _Atomic uint64_t settled; /* operations complete, effects included */

    /* Under the node's lock. */
    uint64_t due_first, due_last; /* operations with a record that is not yet done; 0: none */
    bool destroyed;
    bool listed; /* has something unsettled */
    struct engine_stream *next;

    struct record records[NODE_QUEUE];
};

/* Streams with something unsettled, under the node's lock. */
extern struct engine_stream *unsettled_streams;

/* The live stream a ticket is of, or NULL: another process's, or gone. */
struct engine_stream *queue_find(struct engine_ticket ticket);

static inline struct record *record_at(struct engine_stream *stream, uint64_t sequence) {
    return &stream->records[sequence % NODE_QUEUE];
}

#endif
