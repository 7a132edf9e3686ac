/* What the hooks of copies share: within the device a copy is GPU time, from and to the host it is not. */
#ifndef GPUSLICE_SHIM_PACING_COPY_H
#define GPUSLICE_SHIM_PACING_COPY_H

#include "pacing/pacing.h"

/* Whether the address is in host memory. */
bool pacing_copy_is_host(CUdeviceptr address);

/* Begins a copy of either kind, of so many bytes. */
void pacing_copy_begin(struct pacing_work *work, CUstream stream, enum pacing_default meaning, bool host,
                       uint64_t bytes);

#endif
