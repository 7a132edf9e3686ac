/* Arrays and mipmapped arrays: elements in rows. They cost more than width times height: rows and the number of rows
 * are padded to whole tiles. */
#include "array.h"

#include <stdlib.h>
#include <string.h>

#define TILE_BYTES 512u
#define TILE_ROWS 8u
#define LEVELS_MAX 16u

struct mipmap {
    uint32_t magic;
    unsigned gpu;
    uint64_t base, bytes;
    unsigned level_count;
    struct array *levels[LEVELS_MAX];
};

struct array *array_check(CUarray handle) {
    return is_live(handle, MAGIC_ARRAY) ? (struct array *)handle : NULL;
}

static uint32_t format_bytes(CUarray_format format) {
    switch (format) {
    case CU_AD_FORMAT_UNSIGNED_INT8:
    case CU_AD_FORMAT_SIGNED_INT8:
    case CU_AD_FORMAT_UNORM_INT8X1:
    case CU_AD_FORMAT_SNORM_INT8X1:
        return 1;
    case CU_AD_FORMAT_UNSIGNED_INT16:
    case CU_AD_FORMAT_SIGNED_INT16:
    case CU_AD_FORMAT_HALF:
    case CU_AD_FORMAT_UNORM_INT8X2:
    case CU_AD_FORMAT_SNORM_INT8X2:
    case CU_AD_FORMAT_UNORM_INT16X1:
    case CU_AD_FORMAT_SNORM_INT16X1:
        return 2;
    case CU_AD_FORMAT_UNSIGNED_INT32:
    case CU_AD_FORMAT_SIGNED_INT32:
    case CU_AD_FORMAT_FLOAT:
    case CU_AD_FORMAT_UNORM_INT8X4:
    case CU_AD_FORMAT_SNORM_INT8X4:
    case CU_AD_FORMAT_UNORM_INT16X2:
    case CU_AD_FORMAT_SNORM_INT16X2:
    case CU_AD_FORMAT_UNORM_INT_101010_2:
        return 4;
    case CU_AD_FORMAT_UNORM_INT16X4:
    case CU_AD_FORMAT_SNORM_INT16X4:
        return 8;
    default:
        return 0;
    }
}

/* These formats say how many channels they have. */
static bool is_packed(CUarray_format format) {
    return format >= CU_AD_FORMAT_UNORM_INT8X1 || format == CU_AD_FORMAT_UNORM_INT_101010_2;
}

static CUresult check(const CUDA_ARRAY3D_DESCRIPTOR *descriptor) {
    const unsigned known = CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_SURFACE_LDST | CUDA_ARRAY3D_CUBEMAP |
                           CUDA_ARRAY3D_TEXTURE_GATHER | CUDA_ARRAY3D_COLOR_ATTACHMENT | CUDA_ARRAY3D_DEPTH_TEXTURE |
                           CUDA_ARRAY3D_DEFERRED_MAPPING;
    if (!descriptor || !descriptor->Width || descriptor->Flags & ~known)
        return CUDA_ERROR_INVALID_VALUE;
    unsigned channels = descriptor->NumChannels;
    if (channels != 1 && channels != 2 && channels != 4)
        return CUDA_ERROR_INVALID_VALUE;
    if (!format_bytes(descriptor->Format))
        return CUDA_ERROR_NOT_SUPPORTED; /* compressed and video formats */
    bool layered = descriptor->Flags & CUDA_ARRAY3D_LAYERED, cube = descriptor->Flags & CUDA_ARRAY3D_CUBEMAP;
    if ((layered || cube) && !descriptor->Depth)
        return CUDA_ERROR_INVALID_VALUE;
    if (!layered && descriptor->Depth && !descriptor->Height)
        return CUDA_ERROR_INVALID_VALUE;
    if (cube && (descriptor->Width != descriptor->Height || descriptor->Depth % 6))
        return CUDA_ERROR_INVALID_VALUE;
    size_t most = layered || cube ? 32768 : descriptor->Depth ? 16384 : 131072;
    if (descriptor->Width > most || descriptor->Height > most || descriptor->Depth > 16384)
        return CUDA_ERROR_INVALID_VALUE;
    return CUDA_SUCCESS;
}

/* Such an array has a layout, and never any memory: what would map some (cuMemMapArrayAsync) is not modelled. */
static bool is_deferred(const CUDA_ARRAY3D_DESCRIPTOR *descriptor) {
    return descriptor->Flags & CUDA_ARRAY3D_DEFERRED_MAPPING;
}

static size_t round_up(size_t number, size_t unit) {
    return (number + unit - 1) / unit * unit;
}

static void lay_out(struct array *array, const CUDA_ARRAY3D_DESCRIPTOR *descriptor) {
    uint32_t channels = is_packed(descriptor->Format) ? 1 : descriptor->NumChannels;
    array->magic = MAGIC_ARRAY;
    array->descriptor = *descriptor;
    array->element_bytes = format_bytes(descriptor->Format) * channels;
    array->pitch = round_up(descriptor->Width * array->element_bytes, TILE_BYTES);
    array->rows = descriptor->Height ? round_up(descriptor->Height, TILE_ROWS) : 1;
    array->slices = descriptor->Depth ? descriptor->Depth : 1;
    array->bytes = array->pitch * array->rows * array->slices;
}

static CUresult create(CUarray *handle, const CUDA_ARRAY3D_DESCRIPTOR *descriptor) {
    struct context *context;
    CUresult result = current_context_outside_capture(&context);
    if (!result)
        result = check(descriptor);
    if (result)
        return result;
    if (!handle)
        return CUDA_ERROR_INVALID_VALUE;
    struct array *array = object_new(MAGIC_ARRAY, sizeof *array);
    if (!array)
        return CUDA_ERROR_OUT_OF_MEMORY;
    array->gpu = context->gpu;
    lay_out(array, descriptor);
    if (!is_deferred(descriptor))
        result = allocation_make(context, array->bytes, ALLOCATION_ARRAY, &array->base);
    if (result)
        object_delete(MAGIC_ARRAY, array);
    else
        *handle = (CUarray)array;
    return result;
}

CUresult cuArray3DCreate_v2(CUarray *handle, const CUDA_ARRAY3D_DESCRIPTOR *descriptor) {
    return create(handle, descriptor);
}

CUresult cuArrayCreate_v2(CUarray *handle, const CUDA_ARRAY_DESCRIPTOR *flat) {
    if (!flat)
        return require_init() ? CUDA_ERROR_NOT_INITIALIZED : CUDA_ERROR_INVALID_VALUE;
    CUDA_ARRAY3D_DESCRIPTOR descriptor = {
        .Width = flat->Width, .Height = flat->Height, .Format = flat->Format, .NumChannels = flat->NumChannels};
    return create(handle, &descriptor);
}

CUresult cuArrayDestroy(CUarray handle) {
    CUresult result = capture_forbids();
    if (result)
        return result;
    struct array *array = array_check(handle);
    if (!array || array->mipmap)
        return CUDA_ERROR_INVALID_HANDLE;
    if (array->base) {
        engine_gpu_wait(array->gpu, false);
        allocation_unmake(array->base, ALLOCATION_ARRAY);
    }
    array->magic = MAGIC_DEAD;
    object_delete(MAGIC_ARRAY, array);
    return CUDA_SUCCESS;
}

static CUresult find(CUarray handle, struct array **ret_array) {
    CUresult result = require_init();
    if (result)
        return result;
    *ret_array = array_check(handle);
    return *ret_array ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuArray3DGetDescriptor_v2(CUDA_ARRAY3D_DESCRIPTOR *descriptor, CUarray handle) {
    struct array *array;
    CUresult result = find(handle, &array);
    if (result)
        return result;
    if (!descriptor)
        return CUDA_ERROR_INVALID_VALUE;
    *descriptor = array->descriptor;
    return CUDA_SUCCESS;
}

CUresult cuArrayGetDescriptor_v2(CUDA_ARRAY_DESCRIPTOR *flat, CUarray handle) {
    struct array *array;
    CUresult result = find(handle, &array);
    if (result)
        return result;
    if (!flat)
        return CUDA_ERROR_INVALID_VALUE;
    *flat = (CUDA_ARRAY_DESCRIPTOR){.Width = array->descriptor.Width,
                                    .Height = array->descriptor.Height,
                                    .Format = array->descriptor.Format,
                                    .NumChannels = array->descriptor.NumChannels};
    return CUDA_SUCCESS;
}

CUresult cuArrayGetMemoryRequirements(CUDA_ARRAY_MEMORY_REQUIREMENTS *requirements, CUarray handle, CUdevice device) {
    struct array *array;
    CUresult result = find(handle, &array);
    if (result)
        return result;
    if (!requirements || !is_deferred(&array->descriptor))
        return CUDA_ERROR_INVALID_VALUE;
    if (device_gpu(device) < 0)
        return CUDA_ERROR_INVALID_DEVICE;
    *requirements = (CUDA_ARRAY_MEMORY_REQUIREMENTS){.size = array->bytes, .alignment = TILE_BYTES};
    return CUDA_SUCCESS;
}

/* --- mipmapped: every level in one allocation -------------------------------------------------------------------- */

static size_t halve(size_t extent, unsigned level) {
    return !extent ? 0 : extent >> level ? extent >> level : 1;
}

static void free_mipmap(struct mipmap *mipmap) {
    for (unsigned i = 0; i < mipmap->level_count; i++) {
        object_delete(MAGIC_ARRAY, mipmap->levels[i]);
    }
    mipmap->magic = MAGIC_DEAD;
    object_delete(MAGIC_MIPMAP, mipmap);
}

static CUresult make_levels(struct context *context, struct mipmap *mipmap, const CUDA_ARRAY3D_DESCRIPTOR *descriptor) {
    for (unsigned i = 0; i < mipmap->level_count; i++) {
        struct array *level = mipmap->levels[i] = object_new(MAGIC_ARRAY, sizeof *level);
        if (!level)
            return CUDA_ERROR_OUT_OF_MEMORY;
        CUDA_ARRAY3D_DESCRIPTOR smaller = *descriptor;
        smaller.Width = halve(descriptor->Width, i);
        smaller.Height = halve(descriptor->Height, i);
        if (!(descriptor->Flags & (CUDA_ARRAY3D_LAYERED | CUDA_ARRAY3D_CUBEMAP)))
            smaller.Depth = halve(descriptor->Depth, i);
        lay_out(level, &smaller);
        level->mipmap = mipmap;
        level->gpu = mipmap->gpu;
        level->base = mipmap->bytes;
        mipmap->bytes += level->bytes;
    }
    if (is_deferred(descriptor))
        return CUDA_SUCCESS;
    CUresult result = allocation_make(context, mipmap->bytes, ALLOCATION_ARRAY, &mipmap->base);
    for (unsigned i = 0; !result && i < mipmap->level_count; i++)
        mipmap->levels[i]->base += mipmap->base;
    return result;
}

CUresult cuMipmappedArrayCreate(CUmipmappedArray *handle, const CUDA_ARRAY3D_DESCRIPTOR *descriptor, unsigned levels) {
    struct context *context;
    CUresult result = current_context_outside_capture(&context);
    if (!result)
        result = check(descriptor);
    if (result)
        return result;
    if (!handle || !levels)
        return CUDA_ERROR_INVALID_VALUE;
    unsigned most = 1;
    while (most < LEVELS_MAX && (descriptor->Width >> most || descriptor->Height >> most))
        most++;
    struct mipmap *mipmap = object_new(MAGIC_MIPMAP, sizeof *mipmap);
    if (!mipmap)
        return CUDA_ERROR_OUT_OF_MEMORY;
    mipmap->magic = MAGIC_MIPMAP;
    mipmap->gpu = context->gpu;
    mipmap->level_count = levels < most ? levels : most;
    result = make_levels(context, mipmap, descriptor);
    if (result)
        free_mipmap(mipmap);
    else
        *handle = (CUmipmappedArray)mipmap;
    return result;
}

static CUresult find_mipmap(CUmipmappedArray handle, struct mipmap **ret_mipmap) {
    CUresult result = require_init();
    if (result)
        return result;
    *ret_mipmap = (struct mipmap *)handle;
    return is_live(handle, MAGIC_MIPMAP) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuMipmappedArrayGetLevel(CUarray *level, CUmipmappedArray handle, unsigned index) {
    struct mipmap *mipmap;
    CUresult result = find_mipmap(handle, &mipmap);
    if (result)
        return result;
    if (!level || index >= mipmap->level_count)
        return CUDA_ERROR_INVALID_VALUE;
    *level = (CUarray)mipmap->levels[index];
    return CUDA_SUCCESS;
}

CUresult cuMipmappedArrayGetMemoryRequirements(CUDA_ARRAY_MEMORY_REQUIREMENTS *requirements, CUmipmappedArray handle,
                                               CUdevice device) {
    struct mipmap *mipmap;
    CUresult result = find_mipmap(handle, &mipmap);
    if (result)
        return result;
    if (!requirements || mipmap->base)
        return CUDA_ERROR_INVALID_VALUE;
    if (device_gpu(device) < 0)
        return CUDA_ERROR_INVALID_DEVICE;
    *requirements = (CUDA_ARRAY_MEMORY_REQUIREMENTS){.size = mipmap->bytes, .alignment = TILE_BYTES};
    return CUDA_SUCCESS;
}

CUresult cuMipmappedArrayDestroy(CUmipmappedArray handle) {
    CUresult result = capture_forbids();
    if (result)
        return result;
    struct mipmap *mipmap;
    result = find_mipmap(handle, &mipmap);
    if (result)
        return result;
    if (mipmap->base) {
        engine_gpu_wait(mipmap->gpu, false);
        allocation_unmake(mipmap->base, ALLOCATION_ARRAY);
    }
    free_mipmap(mipmap);
    return CUDA_SUCCESS;
}
