#include "driver.h"

struct backend driver_backend = {.soname = "libcuda.so.1"};
union driver_table driver_table;

/* One string: an array of pointers would be relocated in every process. */
const char driver_names[] =
#define HOOK(symbol) #symbol "\0"
#define NEED(symbol) #symbol "\0"
#include "hooks.def"
#undef HOOK
#undef NEED
    ;

CUresult driver_lacks(void) {
    return CUDA_ERROR_NOT_FOUND;
}

bool driver_load(void) {
    return backend_load(&driver_backend, driver_names, driver_table.slots, (void *)driver_lacks);
}

/* The linker resolves these although nothing is loaded of them: a HOOK line whose function nobody wrote fails the
 * link with its name. */
#define HOOK(symbol) ".8byte " #symbol "\n"
#define NEED(symbol)
__asm__(".pushsection .gpuslice.hooks,\"\",%progbits\n"
#include "hooks.def"
        ".popsection\n");
