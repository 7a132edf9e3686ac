/* The engine's state in this process. */
#ifndef GPUSLICE_SIM_ATTACH_H
#define GPUSLICE_SIM_ATTACH_H

#include "engine.h"
#include "member.h"

/* Valid after engine_attach() has succeeded. */
extern struct member engine_self;

/* Each module that keeps state in this process begins anew: after a fork its old state is another process's. */
int heap_begin(void);
void physical_begin(void);
void queue_begin(void);
void effects_begin(void);

/* Stops the engine's own thread from looking once more; called before the process leaves the node. */
void effects_end(void);

static inline bool gpu_exists(unsigned gpu) {
    return gpu < engine_self.node->info.gpu_count;
}

#endif
