#ifndef GPUSLICE_SIM_EVENT_H
#define GPUSLICE_SIM_EVENT_H

#include "sim.h"

/* When a record happened: shared by the event and the operation that will fill it. */
struct event_times {
    _Atomic unsigned references;
    _Atomic uint64_t end_ns;
};

struct event {
    uint32_t magic;
    unsigned flags;
    struct context *context;
    pthread_mutex_t lock;
    bool recorded;
    struct engine_ticket ticket;
    struct event_times *times;
    bool shared; /* interprocess: the last record lies in the node under shared_id */
    uint32_t shared_id;
    bool imported;
    struct capture_point *captured; /* recorded in a stream that captures; see capture.c */
};

/* Drops what the last record left. */
void event_forget(struct event *event);

#endif
