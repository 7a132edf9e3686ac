/* A driver that does nothing, for what the simulated one does not do: it lacks functions, answers cuGetProcAddress
 * with addresses behind its exports, and knows ABIs that are newer than our headers. */
#include <stddef.h>
#include <string.h>

#define FUTURE 99000     /* a CUDA version with a third ABI of cuMemAlloc */
#define FAR_FUTURE 99010 /* and one with a fourth, which is not exported */

int cuInit(unsigned int flags) {
    return (int)flags * 0;
}

int cuMemAlloc_v2(void) {
    return 0;
}

int cuMemAlloc_v9(void) {
    return 9;
}

int cuCtxGetId(void) {
    return 0;
}

static int behind_mem_alloc_v2(void) {
    return 2;
}

static int fourth_mem_alloc(void) {
    return 4;
}

int cuGetProcAddress_v2(const char *symbol, void **found, int version, unsigned long long flags, int *status) {
    (void)flags;
    *status = 0;
    *found = NULL;
    if (strcmp(symbol, "cuMemAlloc") == 0)
        *found = version >= FAR_FUTURE ? (void *)fourth_mem_alloc
                 : version >= FUTURE   ? (void *)cuMemAlloc_v9
                                       : (void *)behind_mem_alloc_v2;
    if (strcmp(symbol, "cuCtxGetId") == 0)
        *found = (void *)cuCtxGetId;
    if (!*found)
        *status = 1; /* CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND */
    return *found ? 0 : 500;
}
