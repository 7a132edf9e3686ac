/* A program of the driver API for systems that have nothing but libc: takes memory until it is refused, then prints
 *
 *   total FREE TAKEN STATUS      bytes, bytes, bytes, and the CUresult that ended it
 */
#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define BLOCK ((size_t)2 << 20)

static void *library;

static void *find(const char *name) {
    void *symbol = dlsym(library, name);
    if (symbol == NULL) {
        fprintf(stderr, "client: %s\n", dlerror());
        exit(1);
    }
    return symbol;
}

static void check(const char *call, int status) {
    if (status != 0) {
        fprintf(stderr, "client: %s answered %d\n", call, status);
        exit(1);
    }
}

int main(void) {
    library = dlopen("libcuda.so.1", RTLD_NOW);
    if (library == NULL) {
        fprintf(stderr, "client: %s\n", dlerror());
        return 1;
    }
    int (*init)(unsigned) = (int (*)(unsigned))find("cuInit");
    int (*retain)(void **, int) = (int (*)(void **, int))find("cuDevicePrimaryCtxRetain");
    int (*set_current)(void *) = (int (*)(void *))find("cuCtxSetCurrent");
    int (*memory_info)(size_t *, size_t *) = (int (*)(size_t *, size_t *))find("cuMemGetInfo_v2");
    int (*allocate)(uint64_t *, size_t) = (int (*)(uint64_t *, size_t))find("cuMemAlloc_v2");

    void *context;
    check("cuInit", init(0));
    check("cuDevicePrimaryCtxRetain", retain(&context, 0));
    check("cuCtxSetCurrent", set_current(context));

    size_t available, total, taken = 0;
    check("cuMemGetInfo", memory_info(&available, &total));
    uint64_t pointer;
    int status;
    while ((status = allocate(&pointer, BLOCK)) == 0)
        taken += BLOCK;
    printf("%zu %zu %zu %d\n", total, available, taken, status);
    return 0;
}
