/* The libraries loaded in this process, read from their ELF headers.
 *
 * The shim exports dlsym itself and stands in front of the driver's names, so it finds what lies behind it by
 * reading symbol tables: no lookup can come back to the shim. Nothing here allocates or takes a lock of its own.
 */
#ifndef GPUSLICE_SHIM_ELF_H
#define GPUSLICE_SHIM_ELF_H

#include <link.h>
#include <stdbool.h>
#include <stdint.h>

struct elf_library {
    uintptr_t base;       /* what the library's addresses are relative to */
    uintptr_t start, end; /* the memory it is mapped at */
    const char *path;     /* as the loader opened it; "" for the program itself */
    const char *soname;   /* NULL: it has none */
    const ElfW(Sym) * symbols;
    const char *strings;
    const uint32_t *gnu_hash; /* NULL: it has only the old table */
    const uint32_t *hash;
    const uint16_t *versions; /* NULL: its symbols carry no versions */
};

/* The shim itself. */
const struct elf_library *elf_self(void);

/* Calls visit for each loaded library in the order of loading (the program first), until it returns true. */
bool elf_each(bool (*visit)(const struct elf_library *library, void *data), void *data);

/* The first library other than the shim that has this DT_SONAME. */
bool elf_find(const char *soname, struct elf_library *ret_library);

/* Address of the function that the library itself defines under the name (of the default version if it has
 * several), or NULL. */
void *elf_symbol(const struct elf_library *library, const char *name);

/* Whether some symbol that the library defines has this address. Reads the whole symbol table. */
bool elf_exports(const struct elf_library *library, const void *address);

static inline bool elf_contains(const struct elf_library *library, const void *address) {
    return (uintptr_t)address - library->start < library->end - library->start;
}

/* A function of libc, libdl or libpthread. Linking dlopen or pthread_create would make the shim depend on libraries
 * that glibc before 2.34 keeps apart, in every process it is loaded into. NULL: none of them is loaded. */
void *elf_libc_symbol(const char *name);

#endif
