#include "nvml/library.h"

struct backend nvml_backend = {.soname = "libnvidia-ml.so.1"};
union nvml_table nvml_table;

static const char nvml_names[] =
#define HOOK(symbol) #symbol "\0"
#define NEED(symbol) #symbol "\0"
#include "nvml/hooks.def"
#undef HOOK
#undef NEED
    ;

static nvmlReturn_t nvml_lacks(void) {
    return NVML_ERROR_FUNCTION_NOT_FOUND;
}

bool nvml_load(void) {
    return backend_load(&nvml_backend, nvml_names, nvml_table.slots, (void *)nvml_lacks);
}

/* As in driver.c: a HOOK line whose function nobody wrote fails the link. */
#define HOOK(symbol) ".8byte " #symbol "\n"
#define NEED(symbol)
__asm__(".pushsection .gpuslice.hooks,\"\",%progbits\n"
#include "nvml/hooks.def"
        ".popsection\n");
