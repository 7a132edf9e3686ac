/* Modules: an image loaded into a context. A library is an image that is loaded where it is first used. */
#ifndef GPUSLICE_SIM_MODULE_H
#define GPUSLICE_SIM_MODULE_H

#include "image.h"
#include "sim.h"

struct module {
    uint32_t magic;
    struct context *context;
    struct image image;
    struct function **functions; /* one for each of the image's */
    uint64_t variables;          /* device memory with all variables, 256 bytes aligned; 0: none */
    struct library *library;     /* NULL: loaded by cuModuleLoad... */
    _Atomic bool loaded;         /* its code is on the card */
    struct module *next;
};

/* `bytes` 0: unknown. */
CUresult module_load(struct context *context, const void *data, size_t bytes, struct module **ret_module);
void module_unload(struct module *module);
void modules_unload(struct context *context);
struct function *module_function(struct module *module, const char *name);
/* CUDA_ERROR_NOT_FOUND: the module has no such variable. */
CUresult module_variable(struct module *module, const char *name, CUdeviceptr *address, size_t *bytes);
CUresult read_file(const char *path, void **ret_data, size_t *ret_bytes);

#endif
