/* Modules and libraries: their code and variables lie on the card, and how much no call says. They are settled by
 * NVML once loaded; one that does not fit is unloaded again and refused. With lazy loading (the default since CUDA
 * 12.2) the driver loads at the first use, so every use that may load marks the account as due for a look.
 */
#include "memory/memory.h"

#define REFUSED CUDA_ERROR_OUT_OF_MEMORY

static bool fits_after_load(struct memory_gpu *gpu) {
    memory_overhead_settle(gpu, GPUSLICE_MEMORY_MODULE);
    if (!memory_is_over(gpu))
        return true;
    memory_give_back(gpu);
    return !memory_is_over(gpu);
}

static CUresult module_loaded(CUresult result, const CUmodule *module) {
    CUcontext context;
    struct memory_gpu *gpu = memory_current(&context);
    if (!gpu || result != CUDA_SUCCESS || fits_after_load(gpu))
        return result;
    real.cuModuleUnload(*module);
    memory_overhead_settle(gpu, GPUSLICE_MEMORY_MODULE);
    return REFUSED;
}

CUresult cuModuleLoad(CUmodule *module, const char *fname) {
    return module_loaded(real.cuModuleLoad(module, fname), module);
}

CUresult cuModuleLoadData(CUmodule *module, const void *image) {
    return module_loaded(real.cuModuleLoadData(module, image), module);
}

CUresult cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned int numOptions, CUjit_option *options,
                            void **optionValues) {
    return module_loaded(real.cuModuleLoadDataEx(module, image, numOptions, options, optionValues), module);
}

CUresult cuModuleLoadFatBinary(CUmodule *module, const void *fatCubin) {
    return module_loaded(real.cuModuleLoadFatBinary(module, fatCubin), module);
}

CUresult cuModuleUnload(CUmodule hmod) {
    CUcontext context;
    CUresult result = real.cuModuleUnload(hmod);
    struct memory_gpu *gpu = memory_current(&context);
    if (gpu)
        memory_overhead_settle(gpu, GPUSLICE_MEMORY_MODULE);
    return result;
}

/* --- libraries: of no context, loaded into each where they are used ------------------------------------------- */

static void settle(struct memory_gpu *gpu, void *over) {
    if (!fits_after_load(gpu))
        *(bool *)over = true;
}

static CUresult library_loaded(CUresult result, const CUlibrary *library) {
    bool over = false;
    if (result != CUDA_SUCCESS || !tenant_active())
        return result;
    memory_each_gpu(settle, &over);
    if (!over)
        return result;
    real.cuLibraryUnload(*library);
    memory_each_gpu(settle, &over);
    return REFUSED;
}

CUresult cuLibraryLoadData(CUlibrary *library, const void *code, CUjit_option *jitOptions, void **jitOptionsValues,
                           unsigned int numJitOptions, CUlibraryOption *libraryOptions, void **libraryOptionValues,
                           unsigned int numLibraryOptions) {
    return library_loaded(real.cuLibraryLoadData(library, code, jitOptions, jitOptionsValues, numJitOptions,
                                                 libraryOptions, libraryOptionValues, numLibraryOptions),
                          library);
}

CUresult cuLibraryLoadFromFile(CUlibrary *library, const char *fileName, CUjit_option *jitOptions,
                               void **jitOptionsValues, unsigned int numJitOptions, CUlibraryOption *libraryOptions,
                               void **libraryOptionValues, unsigned int numLibraryOptions) {
    return library_loaded(real.cuLibraryLoadFromFile(library, fileName, jitOptions, jitOptionsValues, numJitOptions,
                                                     libraryOptions, libraryOptionValues, numLibraryOptions),
                          library);
}

CUresult cuLibraryUnload(CUlibrary library) {
    CUresult result = real.cuLibraryUnload(library);
    bool over = false;
    if (tenant_active())
        memory_each_gpu(settle, &over);
    return result;
}

/* --- first uses ----------------------------------------------------------------------------------------------- */

CUresult cuModuleGetFunction(CUfunction *hfunc, CUmodule hmod, const char *name) {
    CUresult result = real.cuModuleGetFunction(hfunc, hmod, name);
    memory_overhead_touch_current();
    return result;
}

CUresult cuModuleGetGlobal_v2(CUdeviceptr *dptr, size_t *bytes, CUmodule hmod, const char *name) {
    CUresult result = real.cuModuleGetGlobal_v2(dptr, bytes, hmod, name);
    memory_overhead_touch_current();
    return result;
}

CUresult cuLibraryGetGlobal(CUdeviceptr *dptr, size_t *bytes, CUlibrary library, const char *name) {
    CUresult result = real.cuLibraryGetGlobal(dptr, bytes, library, name);
    memory_overhead_touch_current();
    return result;
}

CUresult cuLibraryGetModule(CUmodule *pMod, CUlibrary library) {
    CUresult result = real.cuLibraryGetModule(pMod, library);
    memory_overhead_touch_current();
    return result;
}

CUresult cuKernelGetFunction(CUfunction *pFunc, CUkernel kernel) {
    CUresult result = real.cuKernelGetFunction(pFunc, kernel);
    memory_overhead_touch_current();
    return result;
}

CUresult cuFuncLoad(CUfunction function) {
    CUresult result = real.cuFuncLoad(function);
    memory_overhead_touch_current();
    return result;
}

/* The stack of all threads, the printf buffer and the device heap are taken when a limit is raised, or at the next
 * launch. A heap that could never fit is refused here, where the program can see it. */
CUresult cuCtxSetLimit(CUlimit limit, size_t value) {
    CUcontext context;
    struct memory_gpu *gpu = memory_current(&context);
    bool takes_all = limit == CU_LIMIT_MALLOC_HEAP_SIZE || limit == CU_LIMIT_PRINTF_FIFO_SIZE;
    if (gpu && takes_all) {
        memory_begin(gpu);
        bool fits = memory_reserve(gpu, value, GPUSLICE_MEMORY_MODULE);
        if (fits)
            memory_refund(gpu, value, GPUSLICE_MEMORY_MODULE);
        memory_end(gpu);
        if (!fits)
            return REFUSED;
    }
    CUresult result = real.cuCtxSetLimit(limit, value);
    if (gpu)
        memory_overhead_settle(gpu, GPUSLICE_MEMORY_MODULE);
    return result;
}
