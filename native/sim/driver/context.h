/* Making and ending contexts: shared by contexts of the program and primary ones. */
#ifndef GPUSLICE_SIM_CONTEXT_H
#define GPUSLICE_SIM_CONTEXT_H

#include "sim.h"

/* Takes the device memory a context costs; CUDA_ERROR_OUT_OF_MEMORY when the card is full. */
CUresult context_new(CUdevice device, unsigned flags, bool primary, struct context **ret_context);
/* Waits for its work, then frees everything made in it. */
void context_end(struct context *context);

#endif
