/* The copy calls in terms of CUDA_MEMCPY3D. `sync`: the call comes back as a synchronous one does. */
#ifndef GPUSLICE_SIM_COPY_CALLS_H
#define GPUSLICE_SIM_COPY_CALLS_H

#include "sim.h"

CUresult copy_box(const CUDA_MEMCPY3D *asked, CUstream stream, bool sync);
CUresult copy_flat(uint64_t target, uint64_t source, size_t bytes, CUstream stream, bool sync);
CUresult copy_2d(const CUDA_MEMCPY2D *asked, CUstream stream, bool sync);
CUresult copy_peer(const CUDA_MEMCPY3D_PEER *asked, CUstream stream, bool sync);
/* One row of an array and linear memory. */
CUresult copy_array_to(uint64_t target, CUarray source, size_t offset, size_t bytes, CUstream stream, bool sync);
CUresult copy_to_array(CUarray target, size_t offset, uint64_t source, size_t bytes, CUstream stream, bool sync);
CUresult copy_array_to_array(CUarray target, size_t target_offset, CUarray source, size_t source_offset, size_t bytes,
                             CUstream stream);

#endif
