/* Physical handles: in the node file an object that counts, and a file of the node that holds the bytes. */
#ifndef GPUSLICE_SIM_PHYSICAL_H
#define GPUSLICE_SIM_PHYSICAL_H

#include "engine.h"
#include "member.h"

/* Under the lock: the process at `index` no longer holds object `o` (if it did); whoever holds it next pays. */
void object_drop_holder(struct member *member, uint64_t o, unsigned index);

/* A descriptor of its bytes; the caller closes it. Negative errno. */
int physical_open(const struct engine_physical *physical);

#endif
