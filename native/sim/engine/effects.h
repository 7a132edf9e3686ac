/* What operations do to this process's memory, done in the order in which they complete. */
#ifndef GPUSLICE_SIM_EFFECTS_H
#define GPUSLICE_SIM_EFFECTS_H

#include "queue.h"

/* Moves the timeline up to now and lets every effect that is due happen. */
void effects_look(void);
/* An effect that is due at once. */
void effects_run(const struct engine_op *op);
/* There is a record to look after, and no caller about to wait for it: starts or wakes the engine's thread. */
void effects_expected(void);

/* Whether another process's operation is complete and its effect has happened. Under the node's lock. */
bool foreign_ready(struct node_file *node, struct engine_ticket ticket);

/* Sleeps until `until_ns` or until `*word` is no longer `seen`. */
void sleep_on(_Atomic uint32_t *word, uint32_t seen, uint64_t until_ns);

#endif
