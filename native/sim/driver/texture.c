/* Texture and surface objects. No kernel here samples one, so an object is what it was made with. */
#include <string.h>

#include "array.h"

struct texture {
    uint32_t magic;
    bool surface;
    CUDA_RESOURCE_DESC resource;
    CUDA_TEXTURE_DESC texture;
    CUDA_RESOURCE_VIEW_DESC view;
    bool has_view;
};

static struct texture *check(unsigned long long handle, bool surface) {
    struct texture *texture = (struct texture *)handle;
    return is_live(texture, MAGIC_TEXTURE) && texture->surface == surface ? texture : NULL;
}

static CUresult check_resource(const CUDA_RESOURCE_DESC *resource) {
    if (!resource || resource->flags)
        return CUDA_ERROR_INVALID_VALUE;
    switch (resource->resType) {
    case CU_RESOURCE_TYPE_ARRAY:
        return array_check(resource->res.array.hArray) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    case CU_RESOURCE_TYPE_MIPMAPPED_ARRAY:
        return is_live(resource->res.mipmap.hMipmappedArray, MAGIC_MIPMAP) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    case CU_RESOURCE_TYPE_LINEAR:
        return device_range(resource->res.linear.devPtr, resource->res.linear.sizeInBytes, NULL)
                   ? CUDA_SUCCESS
                   : CUDA_ERROR_INVALID_VALUE;
    case CU_RESOURCE_TYPE_PITCH2D:
        return device_range(resource->res.pitch2D.devPtr, 1, NULL) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    default:
        return CUDA_ERROR_INVALID_VALUE;
    }
}

static CUresult make(const CUDA_RESOURCE_DESC *resource, struct texture **ret_texture) {
    struct context *context;
    CUresult result = current_context(&context);
    if (!result)
        result = check_resource(resource);
    if (result)
        return result;
    struct texture *texture = object_new(MAGIC_TEXTURE, sizeof *texture);
    if (!texture)
        return CUDA_ERROR_OUT_OF_MEMORY;
    texture->resource = *resource;
    texture->magic = MAGIC_TEXTURE;
    *ret_texture = texture;
    return CUDA_SUCCESS;
}

CUresult cuTexObjectCreate(CUtexObject *handle, const CUDA_RESOURCE_DESC *resource,
                           const CUDA_TEXTURE_DESC *description, const CUDA_RESOURCE_VIEW_DESC *view) {
    if (!handle || !description)
        return require_init() ? CUDA_ERROR_NOT_INITIALIZED : CUDA_ERROR_INVALID_VALUE;
    struct texture *texture;
    CUresult result = make(resource, &texture);
    if (result)
        return result;
    texture->texture = *description;
    texture->has_view = view != NULL;
    if (view)
        texture->view = *view;
    *handle = (CUtexObject)texture;
    return CUDA_SUCCESS;
}

CUresult cuSurfObjectCreate(CUsurfObject *handle, const CUDA_RESOURCE_DESC *resource) {
    if (!handle || (resource && resource->resType != CU_RESOURCE_TYPE_ARRAY))
        return require_init() ? CUDA_ERROR_NOT_INITIALIZED : CUDA_ERROR_INVALID_VALUE;
    struct texture *texture;
    CUresult result = make(resource, &texture);
    if (result)
        return result;
    texture->surface = true;
    *handle = (CUsurfObject)texture;
    return CUDA_SUCCESS;
}

static CUresult end(unsigned long long handle, bool surface) {
    CUresult result = require_init();
    if (result)
        return result;
    struct texture *texture = check(handle, surface);
    if (!texture)
        return CUDA_ERROR_INVALID_VALUE;
    object_delete(MAGIC_TEXTURE, texture);
    return CUDA_SUCCESS;
}
CUresult cuTexObjectDestroy(CUtexObject handle) {
    return end(handle, false);
}
CUresult cuSurfObjectDestroy(CUsurfObject handle) {
    return end(handle, true);
}

static CUresult show_resource(CUDA_RESOURCE_DESC *resource, unsigned long long handle, bool surface) {
    CUresult result = require_init();
    if (result)
        return result;
    const struct texture *texture = check(handle, surface);
    if (!texture || !resource)
        return CUDA_ERROR_INVALID_VALUE;
    *resource = texture->resource;
    return CUDA_SUCCESS;
}
CUresult cuTexObjectGetResourceDesc(CUDA_RESOURCE_DESC *resource, CUtexObject handle) {
    return show_resource(resource, handle, false);
}
CUresult cuSurfObjectGetResourceDesc(CUDA_RESOURCE_DESC *resource, CUsurfObject handle) {
    return show_resource(resource, handle, true);
}

CUresult cuTexObjectGetTextureDesc(CUDA_TEXTURE_DESC *description, CUtexObject handle) {
    CUresult result = require_init();
    if (result)
        return result;
    const struct texture *texture = check(handle, false);
    if (!texture || !description)
        return CUDA_ERROR_INVALID_VALUE;
    *description = texture->texture;
    return CUDA_SUCCESS;
}

CUresult cuTexObjectGetResourceViewDesc(CUDA_RESOURCE_VIEW_DESC *view, CUtexObject handle) {
    CUresult result = require_init();
    if (result)
        return result;
    const struct texture *texture = check(handle, false);
    if (!texture || !view || !texture->has_view)
        return CUDA_ERROR_INVALID_VALUE;
    *view = texture->view;
    return CUDA_SUCCESS;
}
