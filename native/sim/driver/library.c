/* Libraries: an image of no context, whose kernels can be launched in any; each context loads it when it first does. */
#include <stdlib.h>
#include <string.h>

#include "kernel.h"
#include "module.h"

struct kernel {
    uint32_t magic;
    struct library *library;
    char *name;
};

struct library {
    uint32_t magic;
    void *data; /* the image, copied */
    size_t bytes;
    struct image image; /* parsed for the first device: names and parameters */
    struct kernel **kernels;
};

static struct library *check(CUlibrary handle) {
    return is_live(handle, MAGIC_LIBRARY) ? (struct library *)handle : NULL;
}
static struct kernel *check_kernel(const void *handle) {
    return is_live(handle, MAGIC_KERNEL) ? (struct kernel *)handle : NULL;
}

/* What cuLibraryLoadData gets has no length: PTX ends with a NUL, the others say how long they are. */
static size_t image_bytes(const void *data) {
    uint32_t words[6];
    memcpy(words, data, 4);
    if (words[0] == 0x466243b1u)
        return 24;
    if (words[0] == 0xba55ed50u) {
        memcpy(words, data, 16);
        uint64_t rest;
        memcpy(&rest, &words[2], 8);
        return (words[1] >> 16) + rest;
    }
    size_t elf = image_elf_bytes(data);
    return elf ? elf : strlen(data) + 1;
}

static CUresult load(struct library *library, struct context *context, struct module **ret_module) {
    lock_driver();
    struct module *module = context->modules;
    while (module && module->library != library)
        module = module->next;
    unlock_driver();
    CUresult result = CUDA_SUCCESS;
    if (!module) {
        result = module_load(context, library->data, library->bytes, &module);
        if (!result)
            module->library = library;
    }
    if (!result)
        *ret_module = module;
    return result;
}

CUresult library_function(const void *handle, struct function **ret_function) {
    struct kernel *kernel = check_kernel(handle);
    struct context *context;
    struct module *module;
    if (!kernel)
        return CUDA_ERROR_INVALID_HANDLE;
    CUresult result = current_context(&context);
    if (!result)
        result = load(kernel->library, context, &module);
    if (!result)
        *ret_function = module_function(module, kernel->name);
    return result;
}

static void end(struct library *library) {
    lock_driver();
    for (struct context *context = contexts; context; context = context->next)
        for (bool again = true; again;) {
            again = false;
            for (struct module *module = context->modules; module && !again; module = module->next) {
                if (module->library != library)
                    continue;
                unlock_driver();
                engine_gpu_wait(context->gpu, false);
                module_unload(module);
                lock_driver();
                again = true;
                break;
            }
        }
    unlock_driver();
    for (uint32_t i = 0; library->kernels && i < library->image.function_count; i++)
        object_delete(MAGIC_KERNEL, library->kernels[i]);
    library->magic = MAGIC_DEAD;
    image_free(&library->image);
    free(library->kernels);
    free(library->data);
    object_delete(MAGIC_LIBRARY, library);
}

static CUresult make(const void *data, size_t bytes, struct library **ret_library) {
    const struct sim_gpu *gpu = engine_gpu((unsigned)device_gpu(0));
    struct library *library = object_new(MAGIC_LIBRARY, sizeof *library);
    if (!library)
        return CUDA_ERROR_OUT_OF_MEMORY;
    library->magic = MAGIC_LIBRARY;
    library->bytes = bytes;
    library->data = malloc(bytes + 1);
    if (!library->data) {
        object_delete(MAGIC_LIBRARY, library);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    memcpy(library->data, data, bytes);
    ((char *)library->data)[bytes] = '\0';
    enum image_status status =
        image_parse(library->data, bytes, gpu->compute_major * 10 + gpu->compute_minor, &library->image);
    library->kernels = calloc(library->image.function_count + 1, sizeof *library->kernels);
    if (status || !library->kernels) {
        end(library);
        return status == IMAGE_WRONG_TARGET ? CUDA_ERROR_NO_BINARY_FOR_GPU
               : status                     ? CUDA_ERROR_INVALID_IMAGE
                                            : CUDA_ERROR_OUT_OF_MEMORY;
    }
    for (uint32_t i = 0; i < library->image.function_count; i++) {
        library->kernels[i] = object_new(MAGIC_KERNEL, sizeof **library->kernels);
        if (!library->kernels[i]) {
            end(library);
            return CUDA_ERROR_OUT_OF_MEMORY;
        }
        *library->kernels[i] = (struct kernel){MAGIC_KERNEL, library, library->image.functions[i].name};
    }
    *ret_library = library;
    return CUDA_SUCCESS;
}

CUresult cuLibraryLoadData(CUlibrary *handle, const void *data, CUjit_option *options, void **values, unsigned count,
                           CUlibraryOption *library_options, void **library_values, unsigned library_count) {
    (void)options, (void)values, (void)count, (void)library_options, (void)library_values, (void)library_count;
    CUresult result = require_init();
    if (result)
        return result;
    if (!handle || !data)
        return CUDA_ERROR_INVALID_VALUE;
    struct library *library;
    result = make(data, image_bytes(data), &library);
    if (!result)
        *handle = (CUlibrary)library;
    return result;
}

CUresult cuLibraryLoadFromFile(CUlibrary *handle, const char *path, CUjit_option *options, void **values,
                               unsigned count, CUlibraryOption *library_options, void **library_values,
                               unsigned library_count) {
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
    result = cuLibraryLoadData(handle, data, options, values, count, library_options, library_values, library_count);
    free(data);
    return result;
}

CUresult cuLibraryUnload(CUlibrary handle) {
    CUresult result = require_init();
    if (result)
        return result;
    struct library *library = check(handle);
    if (!library)
        return CUDA_ERROR_INVALID_HANDLE;
    end(library);
    return CUDA_SUCCESS;
}

CUresult cuLibraryGetKernel(CUkernel *kernel, CUlibrary handle, const char *name) {
    CUresult result = require_init();
    if (result)
        return result;
    struct library *library = check(handle);
    if (!library)
        return CUDA_ERROR_INVALID_HANDLE;
    if (!kernel || !name)
        return CUDA_ERROR_INVALID_VALUE;
    struct image_function *found = image_find_function(&library->image, name, strlen(name));
    if (!found)
        return CUDA_ERROR_NOT_FOUND;
    *kernel = (CUkernel)library->kernels[found - library->image.functions];
    return CUDA_SUCCESS;
}

CUresult cuLibraryGetKernelCount(unsigned *count, CUlibrary handle) {
    CUresult result = require_init();
    if (result)
        return result;
    struct library *library = check(handle);
    if (!library)
        return CUDA_ERROR_INVALID_HANDLE;
    if (!count)
        return CUDA_ERROR_INVALID_VALUE;
    *count = library->image.function_count;
    return CUDA_SUCCESS;
}

CUresult cuLibraryEnumerateKernels(CUkernel *kernels, unsigned count, CUlibrary handle) {
    CUresult result = require_init();
    if (result)
        return result;
    struct library *library = check(handle);
    if (!library)
        return CUDA_ERROR_INVALID_HANDLE;
    if (!kernels && count)
        return CUDA_ERROR_INVALID_VALUE;
    for (unsigned i = 0; i < count && i < library->image.function_count; i++)
        kernels[i] = (CUkernel)library->kernels[i];
    return CUDA_SUCCESS;
}

CUresult cuLibraryGetModule(CUmodule *ret_module, CUlibrary handle) {
    struct context *context;
    CUresult result = current_context(&context);
    if (result)
        return result;
    struct library *library = check(handle);
    if (!library)
        return CUDA_ERROR_INVALID_HANDLE;
    if (!ret_module)
        return CUDA_ERROR_INVALID_VALUE;
    struct module *module;
    result = load(library, context, &module);
    if (!result)
        *ret_module = (CUmodule)module;
    return result;
}

CUresult cuLibraryGetGlobal(CUdeviceptr *address, size_t *bytes, CUlibrary handle, const char *name) {
    CUmodule module;
    if (!name)
        return CUDA_ERROR_INVALID_VALUE;
    CUresult result = cuLibraryGetModule(&module, handle);
    return result ? result : module_variable((struct module *)module, name, address, bytes);
}
CUresult cuLibraryGetManaged(CUdeviceptr *address, size_t *bytes, CUlibrary handle, const char *name) {
    return cuLibraryGetGlobal(address, bytes, handle, name);
}

CUresult cuKernelGetFunction(CUfunction *ret_function, CUkernel handle) {
    CUresult result = require_init();
    if (result)
        return result;
    if (!ret_function)
        return CUDA_ERROR_INVALID_VALUE;
    struct function *function;
    result = library_function(handle, &function);
    if (!result)
        *ret_function = (CUfunction)function;
    return result;
}

CUresult cuKernelGetLibrary(CUlibrary *library, CUkernel handle) {
    CUresult result = require_init();
    if (result)
        return result;
    struct kernel *kernel = check_kernel(handle);
    if (!kernel)
        return CUDA_ERROR_INVALID_HANDLE;
    if (!library)
        return CUDA_ERROR_INVALID_VALUE;
    *library = (CUlibrary)kernel->library;
    return CUDA_SUCCESS;
}

CUresult cuKernelGetName(const char **name, CUkernel handle) {
    CUresult result = require_init();
    if (result)
        return result;
    struct kernel *kernel = check_kernel(handle);
    if (!kernel)
        return CUDA_ERROR_INVALID_HANDLE;
    if (!name)
        return CUDA_ERROR_INVALID_VALUE;
    *name = kernel->name;
    return CUDA_SUCCESS;
}
