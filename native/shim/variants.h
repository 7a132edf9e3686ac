/* Which function of the driver cuGetProcAddress means: one name has up to four ABIs, by CUDA version and by default
 * stream. From native/symbols/cuda.tsv, which is made from NVIDIA's cudaTypedefs.h. */
#ifndef GPUSLICE_SHIM_VARIANTS_H
#define GPUSLICE_SHIM_VARIANTS_H

#include <stdbool.h>

#define VARIANT_NAME_BYTES 64

/* The names differ at most in the suffixes of variants: _v2, _v3 …, _ptsz, _ptds. */
bool variant_same_base(const char *a, const char *b);

/* The exported symbol that a program of this CUDA version (12040 for 12.4) means by `symbol`: the newest that is not
 * newer, for its default stream. False: the table has none. */
bool variant_find(const char *symbol, int cuda_version, bool per_thread_stream, char ret_name[VARIANT_NAME_BYTES]);

#endif
