#include "given.h"

#include <stdio.h>
#include <stdlib.h>

unsigned gpus_given(unsigned count, unsigned ret_gpus[SIM_GPUS_MAX]) {
    unsigned given = 0;
    for (unsigned gpu = 0; gpu < count; gpu++) {
        char name[64];
        snprintf(name, sizeof name, "GPUSLICE_SIM_GPU_%u", gpu);
        if (getenv(name))
            ret_gpus[given++] = gpu;
    }
    for (unsigned gpu = 0; given == 0 && gpu < count; gpu++)
        ret_gpus[gpu] = gpu;
    return given ? given : count;
}
