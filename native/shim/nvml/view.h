/* What NVML shows to this process: the GPUs of its shares, counted from 0 in the order of the shares. */
#ifndef GPUSLICE_SHIM_NVML_VIEW_H
#define GPUSLICE_SHIM_NVML_VIEW_H

#include "nvml/library.h"
#include "tenant.h"

struct nvml_gpu {
    struct tenant_gpu *tenant;
    nvmlDevice_t device; /* the share's own: a GPU or a MIG device */
    nvmlDevice_t board;  /* the GPU it is on; the same, except for MIG */
};

/* Finds the devices of the shares; called after each initialisation of NVML, whose handles may differ from the last
 * one's. NVML_ERROR_OPERATING_SYSTEM: a share is missing or corrupt, said on stderr. */
nvmlReturn_t nvml_view_open(void);

/* False: this process has no shares, and NVML shows what there is. */
bool nvml_view_active(void);

/* The share of a device, or NULL: pass-through, or a board that is only there because of its MIG devices. */
struct nvml_gpu *nvml_view_gpu(nvmlDevice_t device);

/* The GPUs that are shown, in their order. */
unsigned nvml_view_count(void);
nvmlDevice_t nvml_view_board(unsigned index);
/* Whether the handle is a GPU that is shown, and its index; or a MIG device of a share, with index 0. */
bool nvml_view_shows(nvmlDevice_t device, unsigned *ret_index);
/* Takes the GPUs that are not shown out of a list; how many are left. */
unsigned nvml_view_filter(nvmlDevice_t *devices, unsigned count);

#endif
