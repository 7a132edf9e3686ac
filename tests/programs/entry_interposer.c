/* A library that is preloaded beside the shim and stands in front of the driver itself, as profilers do. It counts
 * what it passes on and says so on stderr at the end. With -DHOOKS_DLSYM it answers dlsym for its names too. */
#define _GNU_SOURCE
#include <cuda.h>
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

static int seen;

__attribute__((destructor)) static void tell(void) {
    fprintf(stderr, "interposer passed on %d calls\n", seen);
}

CUresult cuInit(unsigned int flags) {
    CUresult (*next)(unsigned int) = (CUresult (*)(unsigned int))dlsym(RTLD_NEXT, "cuInit");
    seen++;
    return next(flags);
}

CUresult cuMemAlloc_v2(CUdeviceptr *pointer, size_t bytes) {
    CUresult (*next)(CUdeviceptr *, size_t) = (CUresult (*)(CUdeviceptr *, size_t))dlsym(RTLD_NEXT, "cuMemAlloc_v2");
    seen++;
    return next(pointer, bytes);
}

#ifdef HOOKS_DLSYM
void *dlsym(void *handle, const char *name) {
    static void *(*next)(void *, const char *);
    if (!next) /* the version that every glibc of this machine has */
        next = (void *(*)(void *, const char *))dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.2.5");
    if (handle != RTLD_NEXT && strcmp(name, "cuInit") == 0)
        return (void *)cuInit;
    if (handle != RTLD_NEXT && strcmp(name, "cuMemAlloc_v2") == 0)
        return (void *)cuMemAlloc_v2;
    return next(handle, name);
}
#endif
