/* The real libnvidia-ml behind the hooks, as driver.h has libcuda: nvml/hooks.def is the only list. */
#ifndef GPUSLICE_SHIM_NVML_DRIVER_H
#define GPUSLICE_SHIM_NVML_DRIVER_H

#define NVML_NO_UNVERSIONED_FUNC_DEFS 1 /* shows every version under its own name */
#include <nvml.h>
#include <stdbool.h>

#include "backend.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations" /* programs still call what NVIDIA deprecates */

#define HOOK(symbol) extern __typeof__(symbol) symbol __attribute__((visibility("default")));
#define NEED(symbol)
#include "nvml/hooks.def"
#undef HOOK
#undef NEED

struct nvml_driver {
#define HOOK(symbol) __typeof__(&symbol) symbol;
#define NEED(symbol) __typeof__(&symbol) symbol;
#include "nvml/hooks.def"
#undef HOOK
#undef NEED
};

#pragma GCC diagnostic pop

extern struct backend nvml_backend;
extern union nvml_table {
    struct nvml_driver functions;
    void *slots[sizeof(struct nvml_driver) / sizeof(void *)];
} nvml_table;

/* As driver_load(). */
bool nvml_load(void);

static inline const struct nvml_driver *nvml_driver(void) {
    /* Acquire: pairs with the store that follows the filling of the table. */
    if (__builtin_expect(!atomic_load_explicit(&nvml_backend.loaded, memory_order_acquire), 0))
        nvml_load();
    return &nvml_table.functions;
}

/* NVML's own function; one that this driver lacks returns NVML_ERROR_FUNCTION_NOT_FOUND. */
#define real_nvml (*nvml_driver())

#endif
