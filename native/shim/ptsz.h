/* Prototypes that no header of NVIDIA's declares although the driver exports the symbols.
 *
 * With __CUDA_API_VERSION_INTERNAL cuda.h declares the old ABIs and both default streams side by side. Missing are
 * only the entry points that bring types of OpenGL, EGL or VDPAU, whose headers a GPU node does not have: handles
 * there are plain integers and pointers, so they are declared here by their ABI.
 */
#ifndef GPUSLICE_SHIM_PTSZ_H
#define GPUSLICE_SHIM_PTSZ_H

#include <cuda.h>

#endif
