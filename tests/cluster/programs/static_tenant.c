/* A program that nothing can be preloaded into: it is linked statically, and finds the driver by itself.
 *
 *     static-tenant [MIB]
 *
 * Takes so much memory of the first GPU, by default as much as it gets, in pieces of 2 MiB. Says
 * `took=MIB refused=ERROR` (0: it got all), then `ready`, and waits; after SIGUSR1 it takes and says so again.
 */
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#define PIECE ((size_t)2 << 20)

static void *driver;

static void *entry(const char *name) {
    void *found = dlsym(driver, name);
    if (!found) {
        printf("%s: %s\n", name, dlerror());
        exit(1);
    }
    return found;
}

static void check(int error, const char *what) {
    if (error == 0)
        return;
    printf("%s: error %d\n", what, error);
    exit(1);
}

static void take(int (*allocate)(unsigned long long *, size_t), unsigned long pieces) {
    unsigned long taken = 0;
    int error = 0;
    for (unsigned long long pointer; taken < pieces && !(error = allocate(&pointer, PIECE)); taken++)
        continue;
    printf("took=%lu refused=%d\nready\n", taken * (PIECE >> 20), error);
    fflush(stdout);
}

int main(int argc, char **argv) {
    driver = dlopen("libcuda.so.1", RTLD_NOW);
    if (!driver) {
        printf("%s\n", dlerror());
        return 1;
    }
    int (*init)(unsigned) = entry("cuInit");
    int (*retain)(void **, int) = entry("cuDevicePrimaryCtxRetain");
    int (*set_current)(void *) = entry("cuCtxSetCurrent");
    int (*allocate)(unsigned long long *, size_t) = entry("cuMemAlloc_v2");
    void *context;
    check(init(0), "cuInit");
    check(retain(&context, 0), "cuDevicePrimaryCtxRetain");
    check(set_current(context), "cuCtxSetCurrent");
    sigset_t again;
    sigemptyset(&again);
    sigaddset(&again, SIGUSR1);
    sigprocmask(SIG_BLOCK, &again, NULL);
    for (int number;; sigwait(&again, &number))
        take(allocate, argc > 1 ? strtoul(argv[1], NULL, 10) / (PIECE >> 20) : ~0UL);
}
