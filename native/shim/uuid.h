/* GPU UUIDs as text: "GPU-8-4-4-4-12" and "MIG-8-4-4-4-12", as NVML and CUDA_VISIBLE_DEVICES spell them. */
#ifndef GPUSLICE_SHIM_UUID_H
#define GPUSLICE_SHIM_UUID_H

#include <cuda.h>
#include <stdbool.h>

#define UUID_TEXT_BYTES 41

/* CUDA's sixteen bytes do not say whether they name a GPU or a MIG device; the text always says "GPU-". */
void uuid_format(const CUuuid *uuid, char text[UUID_TEXT_BYTES]);

/* Whether two texts name the same device, whatever their prefixes. */
bool uuid_equal(const char *a, const char *b);

#endif
