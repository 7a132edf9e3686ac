/* Says in which library the answer to a lookup lies, or "nothing":
 *
 *   entry_where handle|default|next NAME
 *   entry_where versioned NAME VERSION               dlvsym
 *   entry_where procaddress NAME CUDA_VERSION
 *   entry_where preloaded                            what RTLD_NEXT is to a preloaded library (entry_marker.c) */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *library;

static void *procaddress(const char *name, int version) {
    int (*get)(const char *, void **, int, unsigned long long, int *) =
        (int (*)(const char *, void **, int, unsigned long long, int *))dlsym(library, "cuGetProcAddress_v2");
    void *found = NULL;
    int status;
    get(name, &found, version, 0, &status);
    return found;
}

static void *look_up(char **arguments) {
    void *(*ask)(void);
    if (strcmp(arguments[0], "handle") == 0)
        return dlsym(library, arguments[1]);
    if (strcmp(arguments[0], "default") == 0)
        return dlsym(RTLD_DEFAULT, arguments[1]);
    if (strcmp(arguments[0], "next") == 0)
        return dlsym(RTLD_NEXT, arguments[1]);
    if (strcmp(arguments[0], "versioned") == 0)
        return dlvsym(strncmp(arguments[1], "cu", 2) ? RTLD_DEFAULT : library, arguments[1], arguments[2]);
    if (strcmp(arguments[0], "procaddress") == 0)
        return procaddress(arguments[1], atoi(arguments[2]));
    ask = (void *(*)(void))dlsym(RTLD_DEFAULT, "entry_next_marker");
    return ask ? ask() : NULL;
}

int main(int count, char **arguments) {
    Dl_info found;
    library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);
    void *address = count > 1 ? look_up(arguments + 1) : NULL;
    const char *error = dlerror();
    if (!address || !dladdr(address, &found)) {
        printf("nothing%s\n", error ? "" : " without a dlerror");
        return 0;
    }
    const char *slash = strrchr(found.dli_fname, '/');
    puts(slash ? slash + 1 : found.dli_fname);
    return 0;
}
