/* dlsym and dlvsym: a lookup of a hooked name gets the hook where it would have got the driver's function.
 *
 * All other lookups jump on to libc's function with the caller's return address in place, because RTLD_NEXT and
 * RTLD_DEFAULT mean "seen from the library that calls".
 */
#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

#include "driver.h"
#include "elf.h"
#include "hooks.h"
#include "nvml/library.h"

typedef void *(*lookup)(void *handle, const char *name, const char *version);

/* What the trampoline does next: jump to `next` with the arguments it was called with, or return `value`. Two words,
 * so that both come back in registers. */
struct route {
    void *value;
    lookup next;
};

/* libc's dlsym or dlvsym; it takes the arguments of both. */
static lookup real_lookup(const char *version) {
    static lookup real_dlsym, real_dlvsym;
    lookup *found = version ? &real_dlvsym : &real_dlsym;
    lookup function = __atomic_load_n(found, __ATOMIC_RELAXED);
    if (!function) {
        function = (lookup)elf_libc_symbol(version ? "dlvsym" : "dlsym");
        __atomic_store_n(found, function, __ATOMIC_RELAXED);
    }
    return function;
}

static bool holds_dlsym(const struct elf_library *library, void *data) {
    if (!elf_contains(library, (const void *)real_lookup(NULL)))
        return false;
    *(struct elf_library *)data = *library;
    return true;
}

/* The library that the name belongs to, if it is loaded and has the name. */
static bool find_owner(const char *name, struct elf_library *ret_owner) {
    if (name[0] == 'd')
        return elf_each(holds_dlsym, ret_owner);
    if (name[0] == 'c' ? !driver_load() : !nvml_load())
        return false;
    *ret_owner = name[0] == 'c' ? driver_backend.library : nvml_backend.library;
    return elf_symbol(ret_owner, name) != NULL;
}

static bool may_be_hooked(const char *name) {
    return strncmp(name, "cu", 2) == 0 || strncmp(name, "nvml", 4) == 0 || strncmp(name, "dl", 2) == 0;
}

static struct route pass_on(const char *version) {
    return (struct route){NULL, real_lookup(version)};
}

struct first_definition {
    const char *name;
    const void *after; /* an address in the library that calls */
    bool passed;
    const struct elf_library *owner;
    bool is_ours; /* the definition is the owner's or the shim's */
};

static bool defines_after(const struct elf_library *library, void *data) {
    struct first_definition *first = data;
    if (!first->passed) {
        first->passed = elf_contains(library, first->after);
        return false;
    }
    if (!elf_symbol(library, first->name))
        return false;
    first->is_ours = library->base == elf_self()->base || library->base == first->owner->base;
    return true;
}

/* Whether RTLD_NEXT from `caller` reaches the shim or the driver before any other library that has the name. */
static bool is_next(const char *name, const void *caller, const struct elf_library *owner) {
    struct first_definition first = {name, caller, false, owner, false};
    elf_each(defines_after, &first);
    return first.is_ours;
}

/* The driver is not there or lacks the name: what the program would find without the shim. */
static struct route without_hook(void *handle, const char *name, const char *version) {
    lookup next = real_lookup(version);
    void *value = next ? next(handle, name, version) : NULL;
    if (value && elf_contains(elf_self(), value))
        value = next(RTLD_NEXT, name, version); /* seen from the shim: what follows it, or an error for dlerror */
    return (struct route){value, NULL};
}

/* Called by the trampolines. */
struct route gpuslice_route(void *handle, const char *name, const char *version, const void *caller) {
    void *hook = name && may_be_hooked(name) ? hook_named(name) : NULL;
    if (!hook)
        return pass_on(version);
    struct elf_library owner;
    if (!find_owner(name, &owner))
        return without_hook(handle, name, version);
    if (elf_contains(&owner, caller) || (handle == RTLD_DEFAULT && !version))
        return pass_on(version); /* the shim's export comes first in the search, or another that was preloaded */
    if (handle == RTLD_NEXT && !is_next(name, caller, &owner))
        return pass_on(version);
    if (handle == RTLD_NEXT && !version)
        return (struct route){hook, NULL};
    /* With a version libc looks past the shim's exports, which have none. */
    void *value = real_lookup(version)(handle, name, version);
    return (struct route){value && elf_contains(&owner, value) ? hook : value, NULL};
}
