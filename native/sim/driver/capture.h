/* Stream capture: what is asked of a stream becomes nodes of a graph instead. */
#ifndef GPUSLICE_SIM_CAPTURE_H
#define GPUSLICE_SIM_CAPTURE_H

#include "graph.h"

struct capture {
    unsigned long long id;
    CUstreamCaptureMode mode;
    pthread_t thread; /* that began it */
    bool invalid;
    bool into_given_graph; /* cuStreamBeginCaptureToGraph: the graph is the program's */
    struct stream *origin;
    struct graph *graph;
    unsigned members; /* streams that capture into it */
    struct capture *next;
};

/* What an event recorded in a capturing stream stands for. */
struct capture_point {
    unsigned long long capture_id;
    struct node **nodes;
    size_t count;
};

struct capture *capture_of(struct stream *stream);
/* Turns work into a node behind what the stream has captured. Takes what `work` owns, also on failure. */
CUresult capture_add(struct stream *stream, struct work *work, struct node **ret_node);
CUresult capture_record_event(struct stream *stream, struct event *event);
CUresult capture_wait_event(struct stream *stream, struct event *event);
void capture_point_release(struct capture_point *point);

/* Makes the capture invalid and answers `error`. */
CUresult capture_invalidate(struct stream *stream, CUresult error);
CUresult capture_invalidate_event(struct event *event);
/* An operation on the legacy stream while a blocking stream of its context captures. */
CUresult capture_forbids_legacy(struct stream *stream);
/* A question about the legacy stream at such a time: the same error, but the captures stay valid. */
CUresult capture_hides_legacy(struct stream *stream);
void capture_abandon(struct stream *stream);

#endif
