/* Every symbol the driver exports, sorted by the name cuGetProcAddress knows it by, then by version. */
#ifndef GPUSLICE_SIM_PROCADDRESS_H
#define GPUSLICE_SIM_PROCADDRESS_H

enum driver_variant { VARIANT_NONE, VARIANT_PTDS, VARIANT_PTSZ };

struct driver_symbol {
    const char *base;
    int version; /* 1000 * major + 10 * minor of the CUDA that brought this ABI */
    enum driver_variant variant;
    int (*address)(void); /* cast to what it really is by whoever asks */
};

extern const struct driver_symbol driver_symbols[];
extern const unsigned driver_symbol_count;

#endif
