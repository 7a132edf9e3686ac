/* Linked with libcuda, as most programs were before cudart looked everything up. */
#include "entry.h"

int main(void) {
    return allocate_until_refused(&(struct functions){
        .init = cuInit,
        .device_get = cuDeviceGet,
        .context_retain = cuDevicePrimaryCtxRetain,
        .context_set = cuCtxSetCurrent,
        .mem_info = cuMemGetInfo,
        .mem_alloc = cuMemAlloc,
        .mem_free = cuMemFree,
    });
}
