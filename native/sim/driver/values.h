#ifndef GPUSLICE_SIM_VALUES_H
#define GPUSLICE_SIM_VALUES_H

#include "sim.h"

/* CUDA_ERROR_INVALID_VALUE: an operation that is not known, or an address that nothing lies at. */
CUresult values_check(unsigned count, const CUstreamBatchMemOpParams *ops);
CUresult values_run(struct stream *stream, unsigned count, const CUstreamBatchMemOpParams *ops);

#endif
