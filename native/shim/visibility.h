/* Shows the driver only the GPUs that this process has shares of, through CUDA_VISIBLE_DEVICES. */
#ifndef GPUSLICE_SHIM_VISIBILITY_H
#define GPUSLICE_SHIM_VISIBILITY_H

#include "environment.h"
#include "tenant.h"

/* Sets CUDA_VISIBLE_DEVICES to the UUIDs of the shares, in their order. What the program's user set selects among
 * them: indices count inside the shares, UUIDs may be abbreviated, and as in CUDA the first entry that names nothing
 * ends the list. False: no memory, and nothing is changed. Undone by environment_restore. */
bool visibility_narrow(struct environment *change, const struct tenant *tenant);

#endif
