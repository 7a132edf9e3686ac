/* Looks everything up at run time:
 *
 *   entry_lookup dlsym                  dlopen and dlsym
 *   entry_lookup default                dlopen with RTLD_GLOBAL, then dlsym(RTLD_DEFAULT)
 *   entry_lookup next                   the same with dlsym(RTLD_NEXT)
 *   entry_lookup dlsym-of-dlsym         a dlsym that was itself looked up
 *   entry_lookup procaddress VERSION FLAGS      cuGetProcAddress, found by dlsym
 *   entry_lookup procaddress_v2 VERSION FLAGS   cuGetProcAddress_v2, likewise
 *   entry_lookup procaddress_self VERSION FLAGS cuGetProcAddress_v2, asked for by cuGetProcAddress
 *
 * VERSION is CUDA's (12040 for 12.4), FLAGS are those of cuGetProcAddress. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "entry.h"

static void *library;
static int version;
static cuuint64_t flags;

typedef void *(*finder)(const char *base, const char *exported);

static void *by_dlsym(const char *base, const char *exported) {
    (void)base;
    return dlsym(library, exported);
}

static void *by_default(const char *base, const char *exported) {
    (void)base;
    return dlsym(RTLD_DEFAULT, exported);
}

static void *by_next(const char *base, const char *exported) {
    (void)base;
    return dlsym(RTLD_NEXT, exported);
}

static void *by_looked_up_dlsym(const char *base, const char *exported) {
    (void)base;
    void *(*found)(void *, const char *) = (void *(*)(void *, const char *))dlsym(RTLD_DEFAULT, "dlsym");
    return found(library, exported);
}

static void *by_procaddress(const char *base, const char *exported) {
    CUresult (*get)(const char *, void **, int, cuuint64_t) =
        (CUresult (*)(const char *, void **, int, cuuint64_t))dlsym(library, "cuGetProcAddress");
    void *found = NULL;
    (void)exported;
    return get && get(base, &found, version, flags) == CUDA_SUCCESS ? found : NULL;
}

typedef CUresult (*get_v2)(const char *, void **, int, cuuint64_t, CUdriverProcAddressQueryResult *);

static void *ask_v2(get_v2 get, const char *base) {
    void *found = NULL;
    CUdriverProcAddressQueryResult status = CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
    CUresult result = get ? get(base, &found, version, flags, &status) : CUDA_ERROR_NOT_FOUND;
    return result == CUDA_SUCCESS && status == CU_GET_PROC_ADDRESS_SUCCESS ? found : NULL;
}

static void *by_procaddress_v2(const char *base, const char *exported) {
    (void)exported;
    return ask_v2((get_v2)dlsym(library, "cuGetProcAddress_v2"), base);
}

static void *by_procaddress_self(const char *base, const char *exported) {
    (void)exported;
    return ask_v2((get_v2)by_procaddress("cuGetProcAddress", NULL), base);
}

static const struct {
    const char *name;
    finder finder;
} ways[] = {
    {"dlsym", by_dlsym},
    {"default", by_default},
    {"next", by_next},
    {"dlsym-of-dlsym", by_looked_up_dlsym},
    {"procaddress", by_procaddress},
    {"procaddress_v2", by_procaddress_v2},
    {"procaddress_self", by_procaddress_self},
};

static finder find_way(const char *name) {
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        if (strcmp(ways[i].name, name) == 0)
            return ways[i].finder;
    fprintf(stderr, "there is no way %s\n", name);
    exit(126);
}

static void *find(finder finder, const char *base, const char *exported) {
    void *found = finder(base, exported);
    if (!found) {
        fprintf(stderr, "%s was not found\n", base);
        exit(126);
    }
    return found;
}

int main(int count, char **arguments) {
    finder finder = find_way(count > 1 ? arguments[1] : "");
    version = count > 2 ? atoi(arguments[2]) : 0;
    flags = count > 3 ? (cuuint64_t)atoi(arguments[3]) : 0;
    library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        return 126;
    }
    struct functions functions;
    *(void **)&functions.init = find(finder, "cuInit", "cuInit");
    *(void **)&functions.device_get = find(finder, "cuDeviceGet", "cuDeviceGet");
    *(void **)&functions.context_retain = find(finder, "cuDevicePrimaryCtxRetain", "cuDevicePrimaryCtxRetain");
    *(void **)&functions.context_set = find(finder, "cuCtxSetCurrent", "cuCtxSetCurrent");
    *(void **)&functions.mem_info = find(finder, "cuMemGetInfo", "cuMemGetInfo_v2");
    *(void **)&functions.mem_alloc = find(finder, "cuMemAlloc", "cuMemAlloc_v2");
    *(void **)&functions.mem_free = find(finder, "cuMemFree", "cuMemFree_v2");
    return allocate_until_refused(&functions);
}
