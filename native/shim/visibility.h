/* Shows the driver only the GPUs that this process has shares of, through CUDA_VISIBLE_DEVICES. */
#ifndef GPUSLICE_SHIM_VISIBILITY_H
#define GPUSLICE_SHIM_VISIBILITY_H

#include <stdbool.h>
#include <stddef.h>

#include "tenant.h"

struct visibility {
    char **environment; /* the program's own, while the driver reads ours */
    char **ours;
};

/* Sets CUDA_VISIBLE_DEVICES to the UUIDs of the shares, in their order. What the program's user set selects among
 * them: indices count inside the shares, UUIDs may be abbreviated, and as in CUDA the first entry that names nothing
 * ends the list. False: no memory, and nothing is changed. */
bool visibility_narrow(struct visibility *visibility, const struct tenant *tenant);

/* Gives the program its environment back. */
void visibility_restore(const struct visibility *visibility);

#endif
