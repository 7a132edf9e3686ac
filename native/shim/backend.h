/* A library that the shim stands in front of (libcuda, libnvidia-ml): found once it is loaded, never loaded by us. */
#ifndef GPUSLICE_SHIM_BACKEND_H
#define GPUSLICE_SHIM_BACKEND_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "elf.h"

struct backend {
    char soname[24]; /* an array, not a pointer: no relocation */
    atomic_bool loaded;
    struct elf_library library; /* valid once loaded */
};

/* Finds the library among those the process has loaded, keeps it from being unloaded, and fills `slots` with its
 * functions called `names` (each ends with a NUL, the list with an empty one); those that it lacks become `lacks`,
 * as all do while the library is not there. Later calls only say whether it is there. Any thread, no lock. */
bool backend_load(struct backend *backend, const char *names, void **slots, void *lacks);

#endif
