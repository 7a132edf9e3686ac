/* Arrays and mipmapped arrays. The driver lays them out as it likes, so the size asked says little.
 *
 * Before the call the driver is asked by a twin with deferred mapping, which has a layout and no memory. (Before CUDA
 * 11.6 there are no twins, and the size is worked out.) Small arrays share blocks like small linear
 * allocations, but no address shows which, so an array is charged its own bytes and the rest of its block is settled
 * by what NVML says.
 */
#include "memory/memory.h"

#define REFUSED CUDA_ERROR_OUT_OF_MEMORY
#define SMALL (UINT64_C(1) << 20) /* from here on an array is taken to have blocks of its own */
#define ALONE 1u                  /* flag of a record: in blocks of its own */
#define TAKES_NOTHING (CUDA_ARRAY3D_DEFERRED_MAPPING | CUDA_ARRAY3D_SPARSE)

/* --- how large ---------------------------------------------------------------------------------------------- */

static uint64_t element_bytes(CUarray_format format) {
    switch (format) {
    case CU_AD_FORMAT_UNSIGNED_INT8:
    case CU_AD_FORMAT_SIGNED_INT8:
        return 1;
    case CU_AD_FORMAT_UNSIGNED_INT16:
    case CU_AD_FORMAT_SIGNED_INT16:
    case CU_AD_FORMAT_HALF:
        return 2;
    default: /* 4, and no less for the packed and compressed formats */
        return 4;
    }
}

static uint64_t saturating_product(uint64_t a, uint64_t b) {
    uint64_t product;
    return __builtin_mul_overflow(a, b ? b : 1, &product) ? UINT64_MAX : product;
}

static uint64_t level_of(uint64_t extent, unsigned level) {
    return extent >> level ? extent >> level : 1;
}

static uint64_t padded(uint64_t extent, uint64_t unit) {
    return extent > UINT64_MAX - unit ? UINT64_MAX : (extent + unit - 1) / unit * unit;
}

/* Tiles of 512 bytes by 8 rows, which is how GPUs of all generations so far lay out pixels. */
static uint64_t guess(const CUDA_ARRAY3D_DESCRIPTOR *shape, unsigned levels) {
    uint64_t bytes = 0, pixel = element_bytes(shape->Format) * shape->NumChannels;
    for (unsigned level = 0; level < (levels ? levels : 1) && level < 32; level++) {
        uint64_t row = padded(saturating_product(level_of(shape->Width, level), pixel), 512);
        uint64_t rows = shape->Height ? padded(level_of(shape->Height, level), 8) : 1;
        bool layers = shape->Flags & (CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_CUBEMAP);
        uint64_t slices = layers ? shape->Depth : level_of(shape->Depth, level);
        uint64_t slice = saturating_product(row, rows);
        if (__builtin_add_overflow(bytes, saturating_product(slice, slices), &bytes))
            return UINT64_MAX;
    }
    return bytes;
}

static bool ask_array(const CUDA_ARRAY3D_DESCRIPTOR *shape, CUdevice device, CUDA_ARRAY_MEMORY_REQUIREMENTS *needs) {
    CUarray twin;
    if (!DRIVER_HAS(cuArrayGetMemoryRequirements) || real.cuArray3DCreate_v2(&twin, shape) != CUDA_SUCCESS)
        return false;
    CUresult result = real.cuArrayGetMemoryRequirements(needs, twin, device);
    real.cuArrayDestroy(twin);
    return result == CUDA_SUCCESS;
}

static bool ask_mipmap(const CUDA_ARRAY3D_DESCRIPTOR *shape, unsigned levels, CUdevice device,
                       CUDA_ARRAY_MEMORY_REQUIREMENTS *needs) {
    CUmipmappedArray twin;
    if (!DRIVER_HAS(cuMipmappedArrayGetMemoryRequirements) ||
        real.cuMipmappedArrayCreate(&twin, shape, levels) != CUDA_SUCCESS)
        return false;
    CUresult result = real.cuMipmappedArrayGetMemoryRequirements(needs, twin, device);
    real.cuMipmappedArrayDestroy(twin);
    return result == CUDA_SUCCESS;
}

/* `levels` 0: a plain array. Whether it is known to have blocks of its own shows in `ret_alone`. */
static uint64_t bytes_of(const CUDA_ARRAY3D_DESCRIPTOR *shape, unsigned levels, CUdevice device, bool *ret_alone) {
    CUDA_ARRAY3D_DESCRIPTOR twin = *shape;
    CUDA_ARRAY_MEMORY_REQUIREMENTS needs = {0};
    twin.Flags |= CUDA_ARRAY3D_DEFERRED_MAPPING;
    bool known = levels ? ask_mipmap(&twin, levels, device, &needs) : ask_array(&twin, device, &needs);
    *ret_alone = known && needs.size >= SMALL;
    return known ? needs.size : guess(shape, levels);
}

/* --- making ------------------------------------------------------------------------------------------------- */

struct request {
    struct memory_gpu *gpu; /* NULL: only call the driver */
    CUcontext context;
    uint64_t bytes;
    bool alone;
    uint64_t reserved;
};

/* False: refused. A shape that is not there is the driver's to complain about. */
static bool request_begin(struct request *request, const CUDA_ARRAY3D_DESCRIPTOR *shape, unsigned levels) {
    request->gpu = shape && !(shape->Flags & TAKES_NOTHING) ? memory_current(&request->context) : NULL;
    if (!request->gpu)
        return true;
    request->bytes = bytes_of(shape, levels, request->gpu->device, &request->alone);
    request->reserved = memory_blocks(request->bytes);
    memory_begin(request->gpu);
    if (memory_reserve(request->gpu, request->reserved, GPUSLICE_MEMORY_ARRAY))
        return true;
    memory_end(request->gpu);
    return false;
}

/* False: no host memory to remember it; the caller destroys it and takes the reservation back. */
static bool request_done(const struct request *request, const void *handle) {
    struct memory_gpu *gpu = request->gpu;
    uint64_t taken = request->alone ? request->reserved : request->bytes;
    struct memory_record record = {.key = (uint64_t)(uintptr_t)handle,
                                   .bytes = taken,
                                   .owner = request->context,
                                   .gpu = (uint16_t)gpu->device,
                                   .kind = GPUSLICE_MEMORY_ARRAY,
                                   .flags = request->alone ? ALONE : 0};
    bool kept = memory_allocation_remember(&record);
    if (kept && !request->alone) {
        atomic_fetch_add_explicit(&gpu->scattered_arrays, 1, memory_order_relaxed);
        memory_overhead_take_over(gpu, request->reserved - taken, GPUSLICE_MEMORY_ARRAY);
    }
    memory_end(gpu);
    if (kept)
        memory_overhead_settle(gpu, GPUSLICE_MEMORY_MODULE);
    return kept;
}

static void request_failed(const struct request *request) {
    if (!request->gpu)
        return;
    memory_refund(request->gpu, request->reserved, GPUSLICE_MEMORY_ARRAY);
    memory_end(request->gpu);
}

static CUresult array_made(const struct request *request, CUresult result, const CUarray *array) {
    if (result != CUDA_SUCCESS) {
        request_failed(request);
    } else if (request->gpu && !request_done(request, *array)) {
        real.cuArrayDestroy(*array);
        memory_refund(request->gpu, request->reserved, GPUSLICE_MEMORY_ARRAY);
        return REFUSED;
    }
    return result;
}

static CUDA_ARRAY3D_DESCRIPTOR flat(const CUDA_ARRAY_DESCRIPTOR *shape) {
    return (CUDA_ARRAY3D_DESCRIPTOR){
        .Width = shape->Width, .Height = shape->Height, .Format = shape->Format, .NumChannels = shape->NumChannels};
}

CUresult cuArrayCreate_v2(CUarray *pHandle, const CUDA_ARRAY_DESCRIPTOR *pAllocateArray) {
    struct request request;
    CUDA_ARRAY3D_DESCRIPTOR shape = {0};
    if (pAllocateArray)
        shape = flat(pAllocateArray);
    if (!request_begin(&request, pAllocateArray ? &shape : NULL, 0))
        return REFUSED;
    return array_made(&request, real.cuArrayCreate_v2(pHandle, pAllocateArray), pHandle);
}

CUresult cuArrayCreate(CUarray *pHandle, const CUDA_ARRAY_DESCRIPTOR_v1 *pAllocateArray) {
    struct request request;
    CUDA_ARRAY3D_DESCRIPTOR shape = {0};
    if (pAllocateArray)
        shape = flat(&(CUDA_ARRAY_DESCRIPTOR){pAllocateArray->Width, pAllocateArray->Height, pAllocateArray->Format,
                                              pAllocateArray->NumChannels});
    if (!request_begin(&request, pAllocateArray ? &shape : NULL, 0))
        return REFUSED;
    return array_made(&request, real.cuArrayCreate(pHandle, pAllocateArray), pHandle);
}

CUresult cuArray3DCreate_v2(CUarray *pHandle, const CUDA_ARRAY3D_DESCRIPTOR *pAllocateArray) {
    struct request request;
    if (!request_begin(&request, pAllocateArray, 0))
        return REFUSED;
    return array_made(&request, real.cuArray3DCreate_v2(pHandle, pAllocateArray), pHandle);
}

CUresult cuArray3DCreate(CUarray *pHandle, const CUDA_ARRAY3D_DESCRIPTOR_v1 *pAllocateArray) {
    struct request request;
    CUDA_ARRAY3D_DESCRIPTOR shape = {0};
    if (pAllocateArray)
        shape = (CUDA_ARRAY3D_DESCRIPTOR){pAllocateArray->Width,  pAllocateArray->Height,      pAllocateArray->Depth,
                                          pAllocateArray->Format, pAllocateArray->NumChannels, pAllocateArray->Flags};
    if (!request_begin(&request, pAllocateArray ? &shape : NULL, 0))
        return REFUSED;
    return array_made(&request, real.cuArray3DCreate(pHandle, pAllocateArray), pHandle);
}

CUresult cuMipmappedArrayCreate(CUmipmappedArray *pHandle, const CUDA_ARRAY3D_DESCRIPTOR *pMipmappedArrayDesc,
                                unsigned int numMipmapLevels) {
    struct request request;
    if (!request_begin(&request, pMipmappedArrayDesc, numMipmapLevels ? numMipmapLevels : 1))
        return REFUSED;
    CUresult result = real.cuMipmappedArrayCreate(pHandle, pMipmappedArrayDesc, numMipmapLevels);
    if (result != CUDA_SUCCESS) {
        request_failed(&request);
    } else if (request.gpu && !request_done(&request, *pHandle)) {
        real.cuMipmappedArrayDestroy(*pHandle);
        memory_refund(request.gpu, request.reserved, GPUSLICE_MEMORY_ARRAY);
        return REFUSED;
    }
    return result;
}

/* --- destroying --------------------------------------------------------------------------------------------- */

void memory_array_release(struct memory_gpu *gpu, const struct memory_record *record) {
    if (record->flags & ALONE) {
        memory_refund(gpu, record->bytes, GPUSLICE_MEMORY_ARRAY);
        return;
    }
    /* Its block may have others in it: what is given back shows at the next look. */
    memory_overhead_take_over(gpu, record->bytes, GPUSLICE_MEMORY_ARRAY);
    atomic_fetch_sub_explicit(&gpu->scattered_arrays, 1, memory_order_relaxed);
}

static void array_gone(const struct memory_record *record) {
    struct memory_gpu *gpu = memory_gpu(record->gpu);
    memory_array_release(gpu, record);
    memory_end(gpu);
    memory_overhead_settle(gpu, GPUSLICE_MEMORY_MODULE);
}

static bool array_taken(const void *handle, struct memory_record *ret_record) {
    if (!tenant_active() || !memory_table_take(&memory_allocations, (uint64_t)(uintptr_t)handle, ret_record))
        return false;
    memory_begin(memory_gpu(ret_record->gpu));
    return true;
}

static void array_kept(const struct memory_record *record) {
    memory_allocation_remember(record);
    memory_end(memory_gpu(record->gpu));
}

CUresult cuArrayDestroy(CUarray hArray) {
    struct memory_record record;
    bool known = array_taken(hArray, &record);
    CUresult result = real.cuArrayDestroy(hArray);
    if (known)
        (result == CUDA_SUCCESS ? array_gone : array_kept)(&record);
    return result;
}

CUresult cuMipmappedArrayDestroy(CUmipmappedArray hMipmappedArray) {
    struct memory_record record;
    bool known = array_taken(hMipmappedArray, &record);
    CUresult result = real.cuMipmappedArrayDestroy(hMipmappedArray);
    if (known)
        (result == CUDA_SUCCESS ? array_gone : array_kept)(&record);
    return result;
}
