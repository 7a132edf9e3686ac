/* cuGetProcAddress: the driver chooses the ABI for the caller's CUDA version and default stream, and the hook of
 * exactly that function is handed out in its place. */
#include <string.h>

#include "driver.h"
#include "hooks.h"

/* The length of the name without the suffixes of its variants: _v2, _v3 …, _ptsz, _ptds. */
static size_t base_length(const char *name) {
    size_t length = strlen(name);
    if (length > 5 && (strcmp(name + length - 5, "_ptsz") == 0 || strcmp(name + length - 5, "_ptds") == 0))
        length -= 5;
    if (length > 3 && strncmp(name + length - 3, "_v", 2) == 0)
        length -= 3;
    return length;
}

static bool same_base(const char *a, const char *b) {
    size_t length = base_length(a);
    return length == base_length(b) && memcmp(a, b, length) == 0;
}

/* The hook of what the driver answered, or the answer itself where the shim has none. */
static void *hook_of(const char *symbol, void *answer) {
    void *const *slot = driver_table.slots;
    for (const char *name = driver_names; *name; name += strlen(name) + 1, slot++) {
        if (*slot != answer || !same_base(name, symbol))
            continue;
        void *hook = hook_named(name);
        return hook ? hook : answer;
    }
    return answer;
}

CUresult cuGetProcAddress(const char *symbol, void **pfn, int version, cuuint64_t flags) {
    CUresult result = real.cuGetProcAddress(symbol, pfn, version, flags);
    if (result == CUDA_SUCCESS && pfn && *pfn)
        *pfn = hook_of(symbol, *pfn);
    return result;
}

CUresult cuGetProcAddress_v2(const char *symbol, void **pfn, int version, cuuint64_t flags,
                             CUdriverProcAddressQueryResult *status) {
    CUresult result = real.cuGetProcAddress_v2(symbol, pfn, version, flags, status);
    if (result == CUDA_SUCCESS && pfn && *pfn)
        *pfn = hook_of(symbol, *pfn);
    return result;
}
