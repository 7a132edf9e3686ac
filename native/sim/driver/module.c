#include "module.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel.h"

#define VARIABLE_ALIGNMENT 256u

static uint64_t blocks(uint64_t bytes) {
    return (bytes + ENGINE_BLOCK_BYTES - 1) / ENGINE_BLOCK_BYTES * ENGINE_BLOCK_BYTES;
}

/* Code is packed: a module takes a new block of the card only when the last one is full. */
static int take_code(struct context *context, uint64_t bytes) {
    uint64_t more = blocks(context->code_bytes + bytes) - blocks(context->code_bytes);
    int error = more ? engine_memory_reserve(context->gpu, more) : 0;
    if (!error)
        context->code_bytes += bytes;
    return error;
}

/* As the driver since CUDA 12.2, unless the program says otherwise. */
static bool loads_lazily(void) {
    const char *mode = getenv("CUDA_MODULE_LOADING");
    return !mode || strcmp(mode, "EAGER") != 0;
}

static CUresult load_code(struct module *module) {
    int error = 0;
    lock_driver();
    if (!module->loaded)
        error = take_code(module->context, module->image.code_bytes);
    if (!error)
        module->loaded = true;
    unlock_driver();
    return from_errno(error);
}

CUresult function_load(const struct function *function) {
    return function->module->loaded ? CUDA_SUCCESS : load_code(function->module);
}

static void give_code_back(struct context *context, uint64_t bytes) {
    uint64_t less = blocks(context->code_bytes) - blocks(context->code_bytes - bytes);
    context->code_bytes -= bytes;
    if (less)
        engine_memory_release(context->gpu, less);
}

static uint64_t variable_bytes(const struct image *image, uint32_t count) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < count; i++)
        bytes += (image->variables[i].bytes + VARIABLE_ALIGNMENT - 1) / VARIABLE_ALIGNMENT * VARIABLE_ALIGNMENT;
    return bytes;
}

static int make_variables(struct module *module) {
    uint64_t bytes = variable_bytes(&module->image, module->image.variable_count);
    if (!bytes)
        return 0;
    int error = engine_memory_alloc(module->context->gpu, bytes, &module->variables);
    for (uint32_t i = 0; !error && i < module->image.variable_count; i++) {
        const struct image_variable *variable = &module->image.variables[i];
        if (variable->initial)
            memcpy((void *)(module->variables + variable_bytes(&module->image, i)), variable->initial, variable->bytes);
    }
    return error;
}

static CUresult make_functions(struct module *module) {
    module->functions = calloc(module->image.function_count + 1, sizeof *module->functions);
    if (!module->functions)
        return CUDA_ERROR_OUT_OF_MEMORY;
    for (uint32_t i = 0; i < module->image.function_count; i++) {
        struct function *function = module->functions[i] = object_new(MAGIC_FUNCTION, sizeof *function);
        if (!function)
            return CUDA_ERROR_OUT_OF_MEMORY;
        function_init(function, module, &module->image.functions[i]);
    }
    return CUDA_SUCCESS;
}

static void end_functions(struct module *module) {
    for (uint32_t i = 0; module->functions && i < module->image.function_count; i++) {
        if (module->functions[i])
            free(module->functions[i]->old.arguments);
        object_delete(MAGIC_FUNCTION, module->functions[i]);
    }
    free(module->functions);
}

static CUresult from_image_status(enum image_status status, const void *data) {
    switch (status) {
    case IMAGE_OK:
        return CUDA_SUCCESS;
    case IMAGE_NO_MEMORY:
        return CUDA_ERROR_OUT_OF_MEMORY;
    case IMAGE_WRONG_TARGET:
        return CUDA_ERROR_NO_BINARY_FOR_GPU;
    default:
        return *(const unsigned char *)data < 0x80 && *(const char *)data != 0x7f ? CUDA_ERROR_INVALID_PTX
                                                                                  : CUDA_ERROR_INVALID_IMAGE;
    }
}

CUresult module_load(struct context *context, const void *data, size_t bytes, struct module **ret_module) {
    const struct sim_gpu *gpu = engine_gpu(context->gpu);
    struct module *module = object_new(MAGIC_MODULE, sizeof *module);
    if (!module)
        return CUDA_ERROR_OUT_OF_MEMORY;
    enum image_status status = image_parse(data, bytes, gpu->compute_major * 10 + gpu->compute_minor, &module->image);
    if (status) {
        object_delete(MAGIC_MODULE, module);
        return from_image_status(status, data);
    }
    module->magic = MAGIC_MODULE;
    module->context = context;
    CUresult result = loads_lazily() ? CUDA_SUCCESS : load_code(module);
    if (result) {
        image_free(&module->image);
        object_delete(MAGIC_MODULE, module);
        return result;
    }
    result = from_errno(make_variables(module));
    if (!result)
        result = make_functions(module);
    lock_driver();
    module->next = context->modules;
    context->modules = module;
    unlock_driver();
    if (result)
        module_unload(module);
    else
        *ret_module = module;
    return result;
}

static void end(struct module *module) {
    struct module **link = &module->context->modules;
    while (*link != module)
        link = &(*link)->next;
    *link = module->next;
    if (module->loaded)
        give_code_back(module->context, module->image.code_bytes);
    if (module->variables)
        engine_memory_free(module->variables);
    end_functions(module);
    module->magic = MAGIC_DEAD;
    image_free(&module->image);
    object_delete(MAGIC_MODULE, module);
}

void module_unload(struct module *module) {
    lock_driver();
    end(module);
    unlock_driver();
}

void modules_unload(struct context *context) {
    while (context->modules)
        end(context->modules);
}

struct function *module_function(struct module *module, const char *name) {
    struct image_function *found = image_find_function(&module->image, name, strlen(name));
    return found ? module->functions[found - module->image.functions] : NULL;
}

CUresult module_variable(struct module *module, const char *name, CUdeviceptr *address, size_t *bytes) {
    for (uint32_t i = 0; i < module->image.variable_count; i++) {
        const struct image_variable *variable = &module->image.variables[i];
        if (strcmp(variable->name, name) != 0)
            continue;
        if (address)
            *address = module->variables + variable_bytes(&module->image, i);
        if (bytes)
            *bytes = variable->bytes;
        return CUDA_SUCCESS;
    }
    return CUDA_ERROR_NOT_FOUND;
}

CUresult read_file(const char *path, void **ret_data, size_t *ret_bytes) {
    FILE *file = fopen(path, "rbe");
    if (!file)
        return CUDA_ERROR_FILE_NOT_FOUND;
    char *data = NULL;
    size_t bytes = 0, capacity = 0;
    for (size_t got = 1; got; bytes += got) {
        if (capacity - bytes < 65536) {
            char *more = realloc(data, capacity = capacity * 2 + 131072);
            if (!more)
                break;
            data = more;
        }
        got = fread(data + bytes, 1, capacity - bytes - 1, file);
    }
    fclose(file);
    if (!data)
        return CUDA_ERROR_OUT_OF_MEMORY;
    data[bytes] = '\0';
    *ret_data = data;
    *ret_bytes = bytes;
    return CUDA_SUCCESS;
}

CUresult cuModuleLoadDataEx(CUmodule *handle, const void *data, unsigned count, CUjit_option *options, void **values) {
    struct context *context;
    CUresult result = current_context_outside_capture(&context);
    if (result)
        return result;
    if (!handle || !data || (count && (!options || !values)))
        return CUDA_ERROR_INVALID_VALUE;
    struct module *module;
    result = module_load(context, data, 0, &module);
    if (!result)
        *handle = (CUmodule)module;
    return result;
}
CUresult cuModuleLoadData(CUmodule *handle, const void *data) {
    return cuModuleLoadDataEx(handle, data, 0, NULL, NULL);
}
CUresult cuModuleLoadFatBinary(CUmodule *handle, const void *data) {
    return cuModuleLoadDataEx(handle, data, 0, NULL, NULL);
}

CUresult cuModuleLoad(CUmodule *handle, const char *path) {
    CUresult result = require_init();
    if (result)
        return result;
    if (!handle || !path)
        return CUDA_ERROR_INVALID_VALUE;
    void *data;
    size_t bytes;
    result = read_file(path, &data, &bytes);
    if (result)
        return result;
    result = cuModuleLoadData(handle, data);
    free(data);
    return result;
}

static CUresult check(CUmodule handle, struct module **ret_module) {
    CUresult result = require_init();
    if (result)
        return result;
    *ret_module = (struct module *)handle;
    return is_live(handle, MAGIC_MODULE) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuModuleUnload(CUmodule handle) {
    struct module *module;
    CUresult result = check(handle, &module);
    if (!result)
        result = capture_forbids();
    if (result)
        return result;
    if (module->library)
        return CUDA_ERROR_NOT_PERMITTED;
    engine_gpu_wait(module->context->gpu, false);
    module_unload(module);
    return CUDA_SUCCESS;
}

CUresult cuModuleGetFunction(CUfunction *function, CUmodule handle, const char *name) {
    struct module *module;
    CUresult result = check(handle, &module);
    if (result)
        return result;
    if (!function || !name)
        return CUDA_ERROR_INVALID_VALUE;
    struct function *found = module_function(module, name);
    if (!found)
        return CUDA_ERROR_NOT_FOUND;
    *function = (CUfunction)found;
    return CUDA_SUCCESS;
}

CUresult cuModuleGetFunctionCount(unsigned *count, CUmodule handle) {
    struct module *module;
    CUresult result = check(handle, &module);
    if (result)
        return result;
    if (!count)
        return CUDA_ERROR_INVALID_VALUE;
    *count = module->image.function_count;
    return CUDA_SUCCESS;
}

CUresult cuModuleEnumerateFunctions(CUfunction *functions, unsigned count, CUmodule handle) {
    struct module *module;
    CUresult result = check(handle, &module);
    if (result)
        return result;
    if (!functions && count)
        return CUDA_ERROR_INVALID_VALUE;
    for (unsigned i = 0; i < count && i < module->image.function_count; i++)
        functions[i] = (CUfunction)module->functions[i];
    return CUDA_SUCCESS;
}

CUresult cuModuleGetGlobal_v2(CUdeviceptr *address, size_t *bytes, CUmodule handle, const char *name) {
    struct module *module;
    CUresult result = check(handle, &module);
    if (result)
        return result;
    if (!name || (!address && !bytes))
        return CUDA_ERROR_INVALID_VALUE;
    return module_variable(module, name, address, bytes);
}

CUresult cuModuleGetLoadingMode(CUmoduleLoadingMode *mode) {
    CUresult result = require_init();
    if (result)
        return result;
    if (!mode)
        return CUDA_ERROR_INVALID_VALUE;
    *mode = loads_lazily() ? CU_MODULE_LAZY_LOADING : CU_MODULE_EAGER_LOADING;
    return CUDA_SUCCESS;
}
