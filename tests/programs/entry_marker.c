/* Preloaded twice under two names: the first one's RTLD_NEXT is the second. */
#define _GNU_SOURCE
#include <dlfcn.h>

void entry_marker(void) {}

void *entry_next_marker(void) {
    return dlsym(RTLD_NEXT, "entry_marker");
}
