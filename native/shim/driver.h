/* The real driver behind the hooks: one typed pointer for each entry point the shim hooks or calls.
 *
 * hooks.def is the only list. HOOK(symbol) declares, defines a slot for and routes one hooked symbol: the shim
 * exports a function of that very name (its prototype is cuda.h's, so the compiler checks it), and real.symbol is
 * what it stands in front of. NEED(symbol) is a driver function that the shim calls and does not hook.
 * A pointer is NULL where this driver has no such symbol; such a hook is never handed out.
 */
#ifndef GPUSLICE_SHIM_DRIVER_H
#define GPUSLICE_SHIM_DRIVER_H

#define __CUDA_API_VERSION_INTERNAL 1 /* shows the old ABIs (cuMemAlloc beside cuMemAlloc_v2) */
#include <cuda.h>
#include <stdbool.h>

#include "ptsz.h" /* prototypes of the _ptsz and _ptds variants, which cuda.h never declares together with the rest */

struct driver {
#define HOOK(symbol) __typeof__(&symbol) symbol;
#define NEED(symbol) __typeof__(&symbol) symbol;
#include "hooks.def"
#undef HOOK
#undef NEED
};

/* Filled by driver_load(). Read-only afterwards. */
extern struct driver real;

/* Finds the real libcuda and fills `real`, once a process; later calls only say whether it is there. Called from
 * the first hook that needs it, so that a process that never touches CUDA pays nothing. */
bool driver_load(void);

#endif
