/* Which names the shim stands in front of.
 *
 * The shim's own symbol table is the hook table: it exports exactly the hooked names, sorted and hashed by the
 * linker. So the table costs no relocation, and there is no second list that could differ.
 */
#ifndef GPUSLICE_SHIM_HOOKS_H
#define GPUSLICE_SHIM_HOOKS_H

#include "elf.h"

/* The shim's function of this name, or NULL. */
static inline void *hook_named(const char *name) {
    return elf_symbol(elf_self(), name);
}

#endif
