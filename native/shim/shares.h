/* Where a process finds its shares, and opening them. */
#ifndef GPUSLICE_SHIM_SHARES_H
#define GPUSLICE_SHIM_SHARES_H

#include "tenant.h"

/* Opens the shares that GPUSLICE_SHARES names (directories, separated by colons) or, where it is not set, all in
 * /run/gpuslice/shares, into tenant->gpus. 0 and no GPU: there are none. A negative errno: one that is named is
 * missing or corrupt; it has been said on stderr and nothing is open. */
int shares_open(struct tenant *tenant);

#endif
