/* The life of a capture, between capture.c (the rules) and capture_calls.c (the calls). All under driver_lock. */
#ifndef GPUSLICE_SIM_CAPTURE_LIFE_H
#define GPUSLICE_SIM_CAPTURE_LIFE_H

#include "capture.h"

/* `given` NULL: into a graph of its own. NULL: no host memory. */
struct capture *capture_begin(struct stream *stream, CUstreamCaptureMode mode, struct graph *given);
void capture_end(struct capture *capture);
bool capture_set_tips(struct stream *stream, struct node *const *nodes, size_t count);
bool capture_add_tips(struct stream *stream, struct node *const *nodes, size_t count);

#endif
