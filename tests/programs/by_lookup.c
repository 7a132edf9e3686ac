/* Stands in for libcuda in a program that is linked without it: every function that the program calls is asked for by
 * cuGetProcAddress, as a runtime does it.
 *
 * Of entries.h, which is made for the program, each line says what the header's macros call a function, its name, and
 * the version of CUDA that it came with: ENTRY(cuMemAlloc_v2, cuMemAlloc, 3020). */
#define __CUDA_API_VERSION_INTERNAL 1
#include <cuda.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

typedef CUresult (*get_proc_address)(const char *, void **, int, cuuint64_t, CUdriverProcAddressQueryResult *);

#define ENTRY(symbol, name, version) static void *address_of_##symbol __attribute__((used));
#include "entries.h"
#undef ENTRY

static void *find(get_proc_address get, const char *name, int version) {
    CUdriverProcAddressQueryResult status = CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
    void *found = NULL;
    if (get && get(name, &found, version, 0, &status) == CUDA_SUCCESS && found)
        return found;
    fprintf(stderr, "by_lookup: %s was not found\n", name);
    exit(126);
}

__attribute__((constructor)) static void find_all(void) {
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    get_proc_address get = library ? (get_proc_address)dlsym(library, "cuGetProcAddress_v2") : NULL;
#define ENTRY(symbol, name, version) address_of_##symbol = find(get, #name, version);
#include "entries.h"
#undef ENTRY
}

#if defined(__x86_64__)
#define ENTRY(symbol, name, version)                                                                                   \
    __asm__(".text\n.type " #symbol ", @function\n" #symbol ": jmp *address_of_" #symbol "(%rip)\n.globl " #symbol     \
            "\n.hidden " #symbol);
#else
#error "by_lookup: how this machine jumps through a pointer is not written yet"
#endif
#include "entries.h"
