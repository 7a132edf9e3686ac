#include "backend.h"

#include <dlfcn.h>
#include <string.h>

/* A program may dlclose the driver and open it again elsewhere; the slots must not outlive it. */
static void pin(const struct elf_library *library) {
    void *(*open)(const char *, int) = (void *(*)(const char *, int))elf_libc_symbol("dlopen");
    if (open)
        open(library->path, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
}

static void fill_missing(const char *names, void **slots, void *lacks) {
    for (; *names; names += strlen(names) + 1, slots++) {
        void *empty = NULL; /* another thread may just have found the library: never overwrite what it stored */
        __atomic_compare_exchange_n(slots, &empty, lacks, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    }
}

bool backend_load(struct backend *backend, const char *names, void **slots, void *lacks) {
    if (atomic_load_explicit(&backend->loaded, memory_order_acquire))
        return true;
    struct elf_library library;
    if (!elf_find(backend->soname, &library)) {
        fill_missing(names, slots, lacks);
        return false;
    }
    pin(&library);
    backend->library = library;
    for (; *names; names += strlen(names) + 1, slots++) {
        void *function = elf_symbol(&library, names);
        __atomic_store_n(slots, function ? function : lacks, __ATOMIC_RELAXED);
    }
    /* Release: who sees the flag sees every slot and the library. */
    atomic_store_explicit(&backend->loaded, true, memory_order_release);
    return true;
}
