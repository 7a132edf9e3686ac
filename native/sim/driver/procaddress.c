/* cuGetProcAddress: the symbol behind a name, for a version of CUDA and a default stream. */
#include "procaddress.h"

#include <string.h>

#include "sim.h"

static const struct driver_symbol *first_of(const char *base) {
    unsigned low = 0, high = driver_symbol_count;
    while (low < high) {
        unsigned middle = low + (high - low) / 2;
        if (strcmp(driver_symbols[middle].base, base) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == driver_symbol_count || strcmp(driver_symbols[low].base, base) != 0)
        return NULL;
    return &driver_symbols[low];
}

/* The newest ABI that `version` knows; one for the per-thread default stream goes first if it is asked for. */
static const struct driver_symbol *choose(const char *base, int version, bool per_thread, bool *ret_known) {
    const struct driver_symbol *end = driver_symbols + driver_symbol_count, *plain = NULL, *own = NULL;
    const struct driver_symbol *symbol = first_of(base);
    *ret_known = symbol != NULL;
    for (; symbol && symbol < end && !strcmp(symbol->base, base); symbol++) {
        if (symbol->version > version)
            continue;
        if (symbol->variant == VARIANT_NONE)
            plain = symbol;
        else
            own = symbol;
    }
    return per_thread && own ? own : plain;
}

static CUresult find(const char *name, void **address, int version, cuuint64_t flags,
                     CUdriverProcAddressQueryResult *status) {
    if (!name || !address || version > CUDA_VERSION)
        return CUDA_ERROR_INVALID_VALUE;
    if (flags > CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM)
        return CUDA_ERROR_INVALID_VALUE;
    bool known;
    const struct driver_symbol *symbol =
        choose(name, version, flags == CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM, &known);
    *address = symbol ? (void *)symbol->address : NULL;
    *status = symbol  ? CU_GET_PROC_ADDRESS_SUCCESS
              : known ? CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT
                      : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
    return CUDA_SUCCESS;
}

/* The first ABI says by its result what the second says by the status. */
CUresult cuGetProcAddress(const char *name, void **address, int version, cuuint64_t flags) {
    CUdriverProcAddressQueryResult status;
    CUresult result = find(name, address, version, flags, &status);
    return !result && status ? CUDA_ERROR_NOT_FOUND : result;
}

CUresult cuGetProcAddress_v2(const char *name, void **address, int version, cuuint64_t flags,
                             CUdriverProcAddressQueryResult *ret_status) {
    CUdriverProcAddressQueryResult status;
    CUresult result = find(name, address, version, flags, &status);
    if (!result && ret_status)
        *ret_status = status;
    return result;
}
