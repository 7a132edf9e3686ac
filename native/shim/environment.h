/* The program's environment, changed while its other threads may be reading it.
 *
 * setenv moves entries under the feet of a thread that calls getenv, so the array is exchanged whole instead. */
#ifndef GPUSLICE_SHIM_ENVIRONMENT_H
#define GPUSLICE_SHIM_ENVIRONMENT_H

#include <stdbool.h>

struct environment {
    char **before, **after;
    const char *name;
};

/* Sets a variable. False: no memory, and nothing is changed. `name` must outlive a call of environment_restore. */
bool environment_set(struct environment *change, const char *name, const char *value);

/* Gives the variable back the value it had before the change. */
void environment_restore(const struct environment *change);

#endif
