/* cuGetProcAddress: the driver chooses the ABI for the caller's CUDA version and default stream, and the hook of
 * exactly that function is handed out in its place. */
#include <string.h>

#include "driver.h"
#include "hooks.h"
#include "variants.h"

struct request {
    const char *symbol;
    int version;
    cuuint64_t flags;
};

static bool variant_meant(const struct request *request, char ret_name[VARIANT_NAME_BYTES]) {
    return variant_find(request->symbol, request->version,
                        request->flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM, ret_name);
}

/* The name in hooks.def whose slot holds the answer. Where the driver serves two variants by one function, the one
 * that the request means. */
static const char *name_of(const struct request *request, const void *answer) {
    const char *found = NULL;
    void *const *slot = driver_table.slots;
    for (const char *name = driver_names; *name; name += strlen(name) + 1, slot++) {
        if (*slot != answer || !variant_same_base(request->symbol, name))
            continue;
        char meant[VARIANT_NAME_BYTES];
        if (!found || (variant_meant(request, meant) && strcmp(meant, name) == 0))
            found = name;
    }
    return found;
}

static bool may_be_hooked(const char *symbol) {
    for (const char *name = driver_names; *name; name += strlen(name) + 1)
        if (variant_same_base(symbol, name))
            return true;
    return false;
}

/* Whether our table knows what the request means: it is no newer than our headers, or the driver answers the same
 * at the version of our headers. */
static bool table_covers(const struct request *request, const void *answer) {
    void *at_ours = NULL;
    CUdriverProcAddressQueryResult status;
    if (request->version <= CUDA_VERSION)
        return true;
    return (DRIVER_HAS(cuGetProcAddress_v2)
                ? real.cuGetProcAddress_v2(request->symbol, &at_ours, CUDA_VERSION, request->flags, &status)
                : real.cuGetProcAddress(request->symbol, &at_ours, CUDA_VERSION, request->flags)) == CUDA_SUCCESS &&
           at_ours == answer;
}

/* The hook of what the driver answered, or the answer itself where the shim has none. */
static void *hook_of(const struct request *request, void *answer) {
    const char *name = name_of(request, answer);
    char meant[VARIANT_NAME_BYTES];
    /* A driver may answer with an address behind the symbol it exports. An answer that it exports under a name
     * without a hook is an ABI we do not know, or do not stand in front of: never replace that by another. */
    if (!name && may_be_hooked(request->symbol) && !elf_exports(&driver_backend.library, answer) &&
        table_covers(request, answer) && variant_meant(request, meant))
        name = meant;
    void *hook = name && elf_symbol(&driver_backend.library, name) ? hook_named(name) : NULL;
    return hook ? hook : answer;
}

CUresult cuGetProcAddress(const char *symbol, void **pfn, int version, cuuint64_t flags) {
    CUresult result = real.cuGetProcAddress(symbol, pfn, version, flags);
    if (result == CUDA_SUCCESS && pfn && *pfn)
        *pfn = hook_of(&(struct request){symbol, version, flags}, *pfn);
    return result;
}

CUresult cuGetProcAddress_v2(const char *symbol, void **pfn, int version, cuuint64_t flags,
                             CUdriverProcAddressQueryResult *status) {
    CUresult result = real.cuGetProcAddress_v2(symbol, pfn, version, flags, status);
    if (result == CUDA_SUCCESS && pfn && *pfn)
        *pfn = hook_of(&(struct request){symbol, version, flags}, *pfn);
    return result;
}
