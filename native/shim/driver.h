/* The real driver behind the hooks: one typed pointer for each entry point the shim hooks or calls.
 *
 * hooks.def is the only list. HOOK(symbol) declares, defines a slot for, exports and routes one hooked symbol: some
 * file of the shim defines a function of that very name (its prototype is cuda.h's, so the compiler checks it), and
 * real.symbol is what it stands in front of. A HOOK line without its function fails the link; a function without its
 * HOOK line stays hidden. NEED(symbol) is a driver function that the shim calls and does not hook.
 */
#ifndef GPUSLICE_SHIM_DRIVER_H
#define GPUSLICE_SHIM_DRIVER_H

#define __CUDA_API_VERSION_INTERNAL 1 /* shows the old ABIs (cuMemAlloc beside cuMemAlloc_v2) and both streams */
#include <cuda.h>
#include <stdbool.h>

#include "backend.h"

#define HOOK(symbol) extern __typeof__(symbol) symbol __attribute__((visibility("default")));
#define NEED(symbol)
#include "hooks.def"
#undef HOOK
#undef NEED

struct driver {
#define HOOK(symbol) __typeof__(&symbol) symbol;
#define NEED(symbol) __typeof__(&symbol) symbol;
#include "hooks.def"
#undef HOOK
#undef NEED
};

extern struct backend driver_backend;
extern union driver_table {
    struct driver functions;
    void *slots[sizeof(struct driver) / sizeof(void *)];
} driver_table;

/* Finds the real libcuda among the loaded libraries and fills the table, once a process; later calls only say
 * whether it is there. Nothing is looked up before a program needs it, so a process that never touches CUDA pays
 * nothing. */
bool driver_load(void);

/* What stands in the slot of a symbol that this driver lacks: returns CUDA_ERROR_NOT_FOUND. No slot is ever NULL. */
CUresult driver_lacks(void);

static inline const struct driver *driver(void) {
    /* Acquire: pairs with the store that follows the filling of the table. */
    if (__builtin_expect(!atomic_load_explicit(&driver_backend.loaded, memory_order_acquire), 0))
        driver_load();
    return &driver_table.functions;
}

/* The driver's own function: real.cuMemAlloc_v2(...). A program that links libcuda can call any hook first, so every
 * use makes sure that the table is filled. */
#define real (*driver())

/* True when this driver has the symbol. A hook is never handed out for one that it lacks. */
#define DRIVER_HAS(symbol) ((void *)real.symbol != (void *)driver_lacks)

/* The names of hooks.def in the order of driver_table.slots, each with its NUL; an empty one ends them. */
extern const char driver_names[];

#endif
