#ifndef GPUSLICE_SIM_IPC_H
#define GPUSLICE_SIM_IPC_H

#include "sim.h"

/* Frees linear memory that was shared: its blocks stay the card's as long as another process holds them. */
void ipc_free_shared(struct allocation *allocation);
/* Makes addresses of the engine's range its own private memory again, as it was before something else was mapped
 * there. */
void restore_private(uint64_t address, uint64_t bytes);

#endif
